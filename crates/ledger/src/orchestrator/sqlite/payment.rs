//! One payment inside one transaction: what `plan::payment` says is what is stored.

use super::{accounts, starts, winners};
use crate::orchestrator::{
    Account, LedgerError, PaymentReceipt, PaymentTaken,
    plan::{self, NewNonces},
    rows::{address_text, block, hash_text, signed},
};
use penstock_domain::B256;
use penstock_payments::NonceSet;
use sqlx::SqliteConnection;

/// Takes the payment; the caller commits.
pub async fn receive(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
    process: &str,
) -> Result<PaymentTaken, LedgerError> {
    let before = accounts::find(&mut *db, &receipt.account).await?;
    let seen = match receipt.verified.nonce_key() {
        Some(offer) => nonces(db, offer).await?,
        None => NonceSet::default(),
    };
    let mut plan = plan::payment(receipt, before, seen, forgotten_through(db).await?);
    if let Some(new) = &plan.nonces {
        record(db, new).await?;
    }
    for winner in &plan.winners {
        penstock_failpoint::hit("orchestrator.before_winner_store");
        let session = receipt.account.session();
        plan.taken.new_winners += winners::keep(db, winner, session, receipt.now_ms).await?;
        penstock_failpoint::hit("orchestrator.after_winner_store");
    }
    if let (true, Some(account)) = (plan.credits, &plan.taken.account) {
        penstock_failpoint::hit("orchestrator.before_credit");
        credit(db, receipt, &plan.taken, account).await?;
        if receipt.for_start {
            starts::open(db, &receipt.account, process, receipt.now_ms).await?;
        }
    }
    Ok(plan.taken)
}

async fn credit(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
    taken: &PaymentTaken,
    account: &Account,
) -> Result<(), LedgerError> {
    accounts::store(db, account, receipt.now_ms).await?;
    sqlx::query(
        "INSERT INTO credits (sender, session, recipient_rand_hash, tickets, amount, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(address_text(receipt.account.sender()))
    .bind(receipt.account.session())
    .bind(receipt.verified.nonce_key().map(hash_text).unwrap_or_default())
    .bind(signed(taken.credited_tickets))
    .bind(taken.credited.to_string())
    .bind(receipt.now_ms)
    .execute(db)
    .await?;
    Ok(())
}

async fn nonces(db: &mut SqliteConnection, offer: B256) -> Result<NonceSet, LedgerError> {
    let stored: Vec<u32> =
        sqlx::query_scalar("SELECT nonce FROM nonces WHERE recipient_rand_hash = ?")
            .bind(hash_text(offer))
            .fetch_all(db)
            .await?;
    Ok(stored.into_iter().collect())
}

async fn record(db: &mut SqliteConnection, new: &NewNonces) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO nonce_sets (recipient_rand_hash, expiration_block) VALUES (?, ?) \
         ON CONFLICT (recipient_rand_hash) DO NOTHING",
    )
    .bind(hash_text(new.offer))
    .bind(block(new.expiration_block))
    .execute(&mut *db)
    .await?;
    for nonce in &new.nonces {
        sqlx::query("INSERT INTO nonces (recipient_rand_hash, nonce) VALUES (?, ?)")
            .bind(hash_text(new.offer))
            .bind(*nonce)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

async fn forgotten_through(db: &mut SqliteConnection) -> Result<u64, LedgerError> {
    let block: i64 = sqlx::query_scalar("SELECT forgotten_through FROM horizon WHERE id = 1")
        .fetch_one(db)
        .await?;
    Ok(u64::try_from(block).unwrap_or(0))
}

/// Drops the nonce sets of expired offers and remembers how far.
pub async fn forget(db: &mut SqliteConnection, block: u64) -> Result<u64, LedgerError> {
    let block = signed(block);
    sqlx::query("UPDATE horizon SET forgotten_through = MAX(forgotten_through, ?) WHERE id = 1")
        .bind(block)
        .execute(&mut *db)
        .await?;
    Ok(sqlx::query("DELETE FROM nonce_sets WHERE expiration_block <= ?")
        .bind(block)
        .execute(db)
        .await?
        .rows_affected())
}
