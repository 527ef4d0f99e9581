//! One payment inside one transaction: what `VerifiedPayment::settle` says is what is stored.

use super::{
    accounts,
    rows::{address_text, block, hash_text, signed},
    winners,
};
use crate::orchestrator::{Account, LedgerError, PaymentReceipt, PaymentTaken};
use penstock_domain::{B256, Rational, U256};
use penstock_payments::{Effect, NonceSet, PaymentOutcome, SessionPrice};
use sqlx::SqliteConnection;

/// Takes the payment; the caller commits.
pub async fn receive(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
) -> Result<PaymentTaken, LedgerError> {
    let before = accounts::find(&mut *db, &receipt.account).await?;
    let offer = receipt.verified.nonce_key();
    let seen = match offer {
        Some(offer) => nonces(db, offer).await?,
        None => NonceSet::default(),
    };
    let last_seen_block = receipt.last_seen_block.max(forgotten_through(db).await?);
    let price = SessionPrice {
        fixed: before
            .as_ref()
            .filter(|account| account.updated_ms >= receipt.price_stale_before_ms)
            .and_then(|account| account.fixed_price.as_ref()),
        own: &receipt.own_price,
    };
    let outcome = receipt.verified.settle(seen, last_seen_block, &price);
    let mut credited_tickets = 0;
    let mut new_winners = 0;
    let mut pinned = None;
    for effect in &outcome.effects {
        match effect {
            Effect::RecordNonce { recipient_rand_hash, sender_nonce, expiration_block } => {
                record(db, *recipient_rand_hash, *sender_nonce, *expiration_block).await?;
            }
            Effect::QueueWinner(winner) => {
                penstock_failpoint::hit("orchestrator.before_winner_store");
                let session = receipt.account.session();
                new_winners += winners::keep(db, winner, session, receipt.now_ms).await?;
                penstock_failpoint::hit("orchestrator.after_winner_store");
            }
            Effect::Credit { .. } => credited_tickets += 1,
            Effect::FixPrice(price) => pinned = Some(price.clone()),
        }
    }
    let account = if credited_tickets == 0 {
        // A payment without a good ticket opens no account. (A session whose price is 0 needs
        // none: nothing is ever debited there.)
        before
    } else {
        penstock_failpoint::hit("orchestrator.before_credit");
        Some(credit(db, receipt, &outcome, credited_tickets, before, pinned).await?)
    };
    Ok(PaymentTaken {
        credited: outcome.credited,
        credited_tickets,
        new_winners,
        error: outcome.error,
        account,
    })
}

async fn credit(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
    outcome: &PaymentOutcome,
    tickets: u64,
    before: Option<Account>,
    pinned: Option<Rational>,
) -> Result<Account, LedgerError> {
    let mut account = before.unwrap_or_else(|| accounts::new(&receipt.account, receipt.now_ms));
    account.credited += &outcome.credited;
    account.tickets += tickets;
    account.updated_ms = receipt.now_ms;
    if pinned.is_some() {
        account.fixed_price = pinned;
        account.pin_floor = Some(receipt.pin_floor.clone());
        account.pin_work.clone_from(&receipt.work);
    }
    accounts::store(db, &account, receipt.now_ms).await?;
    sqlx::query(
        "INSERT INTO credits (sender, session, recipient_rand_hash, tickets, amount, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(address_text(receipt.account.sender()))
    .bind(receipt.account.session())
    .bind(receipt.verified.nonce_key().map(hash_text).unwrap_or_default())
    .bind(signed(tickets))
    .bind(outcome.credited.to_string())
    .bind(receipt.now_ms)
    .execute(db)
    .await?;
    Ok(account)
}

async fn nonces(db: &mut SqliteConnection, offer: B256) -> Result<NonceSet, LedgerError> {
    let stored: Vec<u32> =
        sqlx::query_scalar("SELECT nonce FROM nonces WHERE recipient_rand_hash = ?")
            .bind(hash_text(offer))
            .fetch_all(db)
            .await?;
    Ok(stored.into_iter().collect())
}

async fn record(
    db: &mut SqliteConnection,
    offer: B256,
    nonce: u32,
    expiration_block: U256,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO nonce_sets (recipient_rand_hash, expiration_block) VALUES (?, ?) \
         ON CONFLICT (recipient_rand_hash) DO NOTHING",
    )
    .bind(hash_text(offer))
    .bind(block(expiration_block))
    .execute(&mut *db)
    .await?;
    sqlx::query("INSERT INTO nonces (recipient_rand_hash, nonce) VALUES (?, ?)")
        .bind(hash_text(offer))
        .bind(nonce)
        .execute(db)
        .await?;
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
