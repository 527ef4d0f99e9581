//! Writing changes: one upsert for each.

use super::{StoreError, row::int};
use crate::state::{Account, Change, Claim, Flows, Head, Orchestrator, Sender, State};
use penstock_chain::Redemption;
use penstock_domain::{Address, address_lower};
use sqlx::{Sqlite, Transaction, query};

type Tx<'a> = Transaction<'a, Sqlite>;

/// The rows of a new chain.
pub(super) async fn genesis(tx: &mut Tx<'_>, state: &State) -> Result<(), StoreError> {
    query("INSERT INTO chain VALUES (1, ?, ?, 0, 0, 0, '0', '0', '0')")
        .bind(state.genesis.chain_id.to_string())
        .bind(int(state.genesis.round_length)?)
        .execute(&mut **tx)
        .await?;
    change(tx, &Change::Head(state.head)).await?;
    for (round, hash) in &state.round_hashes {
        change(tx, &Change::Round(*round, *hash)).await?;
    }
    Ok(())
}

/// One change.
pub(super) async fn change(tx: &mut Tx<'_>, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Head(head) => save_head(tx, head).await,
        Change::Flows(flows) => save_flows(tx, flows).await,
        Change::Round(round, hash) => {
            query("INSERT INTO rounds VALUES (?, ?)")
                .bind(int(*round)?)
                .bind(hash.to_string())
                .execute(&mut **tx)
                .await?;
            Ok(())
        }
        Change::Sender(address, sender) => save_sender(tx, address, sender).await,
        Change::Claim(holder, claimant, claim) => save_claim(tx, holder, claimant, claim).await,
        Change::Orchestrator(address, row) => save_orchestrator(tx, address, row).await,
        Change::Account(address, account) => save_account(tx, address, account).await,
        Change::Redemption(redemption) => save_redemption(tx, redemption).await,
    }
}

async fn save_head(tx: &mut Tx<'_>, head: &Head) -> Result<(), StoreError> {
    query("UPDATE chain SET l1_block = ?, last_initialized_round = ?, transactions = ?")
        .bind(int(head.l1_block)?)
        .bind(int(head.last_initialized_round)?)
        .bind(int(head.transactions)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn save_flows(tx: &mut Tx<'_>, flows: &Flows) -> Result<(), StoreError> {
    query("UPDATE chain SET funded_wei = ?, paid_wei = ?, withdrawn_wei = ?")
        .bind(flows.funded.to_string())
        .bind(flows.paid.to_string())
        .bind(flows.withdrawn.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn save_sender(tx: &mut Tx<'_>, a: &Address, sender: &Sender) -> Result<(), StoreError> {
    query("INSERT OR REPLACE INTO senders VALUES (?, ?, ?, ?, ?, ?)")
        .bind(address_lower(a))
        .bind(sender.deposit.to_string())
        .bind(int(sender.withdraw_round)?)
        .bind(sender.reserve.to_string())
        .bind(int(sender.claimed.round)?)
        .bind(sender.claimed.amount.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn save_claim(
    tx: &mut Tx<'_>,
    holder: &Address,
    claimant: &Address,
    claim: &Claim,
) -> Result<(), StoreError> {
    query("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)")
        .bind(address_lower(holder))
        .bind(address_lower(claimant))
        .bind(int(claim.round)?)
        .bind(claim.amount.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn save_orchestrator(
    tx: &mut Tx<'_>,
    address: &Address,
    row: &Orchestrator,
) -> Result<(), StoreError> {
    query("INSERT OR REPLACE INTO orchestrators VALUES (?, ?, ?, ?, ?)")
        .bind(address_lower(address))
        .bind(&row.service_uri)
        .bind(int(row.activation_round)?)
        .bind(int(row.deactivation_round)?)
        .bind(i64::from(row.registered))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn save_account(tx: &mut Tx<'_>, a: &Address, account: &Account) -> Result<(), StoreError> {
    query("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)")
        .bind(address_lower(a))
        .bind(int(account.nonce)?)
        .bind(account.earned.to_string())
        .bind(account.withdrawn.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn save_redemption(tx: &mut Tx<'_>, r: &Redemption) -> Result<(), StoreError> {
    query(
        "INSERT INTO redemptions (ticket_hash, tx_hash, l1_block, round, sender, recipient, \
         face_value_wei, paid_from_deposit_wei, paid_from_reserve_wei) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(r.ticket_hash.to_string())
    .bind(r.tx_hash.to_string())
    .bind(int(r.l1_block)?)
    .bind(int(r.round)?)
    .bind(address_lower(&r.sender))
    .bind(address_lower(&r.recipient))
    .bind(r.face_value.to_string())
    .bind(r.paid_from_deposit.to_string())
    .bind(r.paid_from_reserve.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
