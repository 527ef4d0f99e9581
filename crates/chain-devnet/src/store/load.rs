//! Reading the state back: every row, once, at the start.

use super::{StoreError, row::Columns};
use crate::state::{Account, Claim, Flows, Genesis, Head, Orchestrator, Sender, State};
use penstock_chain::Redemption;
use sqlx::{Row, SqliteConnection, query, sqlite::SqliteRow};

/// The state, or `None` when no chain was begun.
pub(super) async fn state(db: &mut SqliteConnection) -> Result<Option<State>, StoreError> {
    let Some(row) = query("SELECT * FROM chain").fetch_optional(&mut *db).await? else {
        return Ok(None);
    };
    let mut state = State::new(Genesis {
        chain_id: row.hash("chain_id")?,
        round_length: row.number("round_length")?,
    });
    state.head = Head {
        l1_block: row.number("l1_block")?,
        last_initialized_round: row.number("last_initialized_round")?,
        transactions: row.number("transactions")?,
    };
    state.flows = Flows {
        funded: row.wei("funded_wei")?,
        paid: row.wei("paid_wei")?,
        withdrawn: row.wei("withdrawn_wei")?,
    };
    state.round_hashes.clear();
    for row in query("SELECT * FROM rounds").fetch_all(&mut *db).await? {
        state.round_hashes.insert(row.number("round")?, row.hash("l1_block_hash")?);
    }
    load_parties(db, &mut state).await?;
    for row in query("SELECT * FROM redemptions").fetch_all(&mut *db).await? {
        let redemption = redemption(&row)?;
        state.redemptions.insert(redemption.ticket_hash, redemption);
    }
    Ok(Some(state))
}

async fn load_parties(db: &mut SqliteConnection, state: &mut State) -> Result<(), StoreError> {
    for row in query("SELECT * FROM senders").fetch_all(&mut *db).await? {
        let sender = Sender {
            deposit: row.wei("deposit_wei")?,
            withdraw_round: row.number("withdraw_round")?,
            reserve: row.wei("reserve_wei")?,
            claimed: Claim { round: row.number("claimed_round")?, amount: row.wei("claimed_wei")? },
        };
        state.senders.insert(row.address("address")?, sender);
    }
    for row in query("SELECT * FROM claims").fetch_all(&mut *db).await? {
        let claim = Claim { round: row.number("round")?, amount: row.wei("amount_wei")? };
        state.claims.insert((row.address("holder")?, row.address("claimant")?), claim);
    }
    for row in query("SELECT * FROM orchestrators").fetch_all(&mut *db).await? {
        let orchestrator = Orchestrator {
            service_uri: row.try_get("service_uri")?,
            activation_round: row.number("activation_round")?,
            deactivation_round: row.number("deactivation_round")?,
            registered: row.number("registered")? != 0,
        };
        state.orchestrators.insert(row.address("address")?, orchestrator);
    }
    for row in query("SELECT * FROM accounts").fetch_all(&mut *db).await? {
        let account = Account {
            nonce: row.number("nonce")?,
            earned: row.wei("earned_wei")?,
            withdrawn: row.wei("withdrawn_wei")?,
        };
        state.accounts.insert(row.address("address")?, account);
    }
    Ok(())
}

/// The newest redemptions first.
pub(super) async fn newest_redemptions(
    db: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<Redemption>, StoreError> {
    let rows = query("SELECT * FROM redemptions ORDER BY seq DESC LIMIT ?")
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    rows.iter().map(redemption).collect()
}

fn redemption(row: &SqliteRow) -> Result<Redemption, StoreError> {
    Ok(Redemption {
        ticket_hash: row.hash("ticket_hash")?,
        tx_hash: row.hash("tx_hash")?,
        l1_block: row.number("l1_block")?,
        round: row.number("round")?,
        block: None,
        sender: row.address("sender")?,
        recipient: row.address("recipient")?,
        face_value: row.wei("face_value_wei")?,
        paid_from_deposit: row.wei("paid_from_deposit_wei")?,
        paid_from_reserve: row.wei("paid_from_reserve_wei")?,
    })
}
