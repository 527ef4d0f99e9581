//! One payment inside one transaction: what `plan::payment` says is what is stored.

use super::{Answer, Step, accounts, starts, winners};
use crate::{
    orchestrator::{
        AccountKey, CreditLine, PaymentReceipt, PaymentTaken,
        plan::{self, NewNonces},
        rows::{address_text, block, corrupt, hash_text, signed},
    },
    postgres::transaction::Tx,
};
use penstock_payments::NonceSet;
use sqlx::Row as _;
use uuid::Uuid;

/// Payments go on side by side, but not while nonces are being forgotten: one that has read the
/// horizon must find all nonces above it until its end. 7070 is nothing but the lock's name.
pub const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock_shared(7070)";
/// The other side of that lock.
pub const BEGIN_FORGET: &str = "BEGIN; SELECT pg_advisory_xact_lock(7070)";

/// Takes the payment; the caller commits.
pub async fn receive(tx: &mut Tx, receipt: &PaymentReceipt, process: Uuid) -> Step<PaymentTaken> {
    let offer = receipt.verified.nonce_key().map(hash_text);
    let row = sqlx::query(
        "SELECT forgotten_through, (SELECT nonces FROM nonce_sets \
           WHERE recipient_rand_hash = $1 FOR UPDATE) AS nonces FROM horizon WHERE id = 1",
    )
    .bind(&offer)
    .fetch_one(&mut **tx)
    .await?;
    let forgotten: i64 = row.try_get("forgotten_through")?;
    let stored: Option<Vec<i64>> = row.try_get("nonces")?;
    let seen =
        stored.iter().flatten().map(|nonce| u32::try_from(*nonce)).collect::<Result<NonceSet, _>>();
    let seen = seen.map_err(|_| corrupt("nonce"))?;
    let before = accounts::find_to_change(tx, &receipt.account).await?;
    let existed = before.is_some();
    let forgotten = u64::try_from(forgotten).unwrap_or(0);
    let mut plan = plan::payment(receipt, before, seen, forgotten);
    if plan.is_bounded() {
        plan.keep_within(winners::waiting(tx, receipt.account.sender()).await?);
    }
    if let Some(new) = &plan.nonces
        && !record(tx, new, stored.as_deref()).await?
    {
        return Ok(None);
    }
    for winner in &plan.winners {
        penstock_failpoint::hit("orchestrator.before_winner_store");
        let session = receipt.account.session();
        plan.taken.new_winners += winners::keep(tx, winner, session, receipt.now_ms).await?;
        penstock_failpoint::hit("orchestrator.after_winner_store");
    }
    if let (true, Some(account)) = (plan.credits, &plan.taken.account) {
        penstock_failpoint::hit("orchestrator.before_credit");
        if !accounts::store(tx, account, existed, receipt.now_ms).await? {
            return Ok(None);
        }
        let line = CreditLine {
            recipient_rand_hash: offer.unwrap_or_default(),
            tickets: plan.taken.credited_tickets,
            amount: plan.taken.credited.clone(),
            at_ms: receipt.now_ms,
        };
        note(tx, &receipt.account, &line).await?;
    }
    // Tickets that were credited before do as well: the account is what was paid.
    if let (Some(attempt), Some(_)) = (receipt.for_start, &plan.taken.account) {
        let (key, now_ms) = (&receipt.account, receipt.now_ms);
        plan.taken.is_in_hand = starts::open(tx, key, process, attempt, now_ms).await?;
    }
    Ok(Some(plan.taken))
}

/// Adds a line to the journal.
pub async fn note(tx: &mut Tx, key: &AccountKey, line: &CreditLine) -> Answer<()> {
    sqlx::query(
        "INSERT INTO credits \
           (sender, session, recipient_rand_hash, tickets, amount, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(&line.recipient_rand_hash)
    .bind(signed(line.tickets))
    .bind(line.amount.to_string())
    .bind(line.at_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether the set was still as it was read.
async fn record(tx: &mut Tx, new: &NewNonces, stored: Option<&[i64]>) -> Answer<bool> {
    let nonces: Vec<i64> = new.nonces.iter().map(|nonce| i64::from(*nonce)).collect();
    let changed = match stored {
        Some(stored) => {
            sqlx::query(
                "UPDATE nonce_sets SET nonces = nonces || $2 \
                 WHERE recipient_rand_hash = $1 AND cardinality(nonces) = $3",
            )
            .bind(hash_text(new.offer))
            .bind(nonces)
            .bind(i32::try_from(stored.len()).unwrap_or(i32::MAX))
            .execute(&mut **tx)
            .await?
        }
        None => {
            sqlx::query(
                "INSERT INTO nonce_sets (recipient_rand_hash, expiration_block, nonces) \
                 VALUES ($1, $2, $3) ON CONFLICT (recipient_rand_hash) DO NOTHING",
            )
            .bind(hash_text(new.offer))
            .bind(block(new.expiration_block))
            .bind(nonces)
            .execute(&mut **tx)
            .await?
        }
    };
    Ok(changed.rows_affected() == 1)
}

/// Drops the nonce sets of expired offers and remembers how far.
pub async fn forget(tx: &mut Tx, block: u64) -> Answer<u64> {
    let block = signed(block);
    // No payment is at work on what goes, nor begins before it is gone.
    sqlx::query("SELECT 1 FROM horizon WHERE id = 1 FOR UPDATE").execute(&mut **tx).await?;
    let gone: i64 = sqlx::query(
        "WITH gone AS ( \
           DELETE FROM nonce_sets WHERE expiration_block <= $1 RETURNING expiration_block \
         ), moved AS ( \
           UPDATE horizon \
           SET forgotten_through = GREATEST(forgotten_through, (SELECT MAX(expiration_block) FROM gone)) \
           WHERE id = 1 AND EXISTS (SELECT 1 FROM gone) \
         ) SELECT COUNT(*) AS gone FROM gone",
    )
    .bind(block)
    .fetch_one(&mut **tx)
    .await?
    .try_get("gone")?;
    Ok(u64::try_from(gone).unwrap_or(0))
}
