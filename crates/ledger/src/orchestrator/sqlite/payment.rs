//! One payment inside one transaction: what `plan::payment` says is what is stored.

use super::{accounts, starts, winners};
use crate::orchestrator::{
    Account, LedgerError, PaymentReceipt, PaymentTaken,
    plan::{self, NewNonces},
    rows::{address_text, block, corrupt, hash_text, signed},
};
use penstock_domain::B256;
use penstock_payments::NonceSet;
use sqlx::{Row as _, SqliteConnection};

/// Takes the payment; the caller commits.
pub async fn receive(
    db: &mut SqliteConnection,
    receipt: &PaymentReceipt,
    process: &str,
) -> Result<PaymentTaken, LedgerError> {
    let before = accounts::find(&mut *db, &receipt.account).await?;
    let (seen, forgotten_through) = seen(db, receipt.verified.nonce_key()).await?;
    let is_known = !seen.is_empty();
    let mut plan = plan::payment(receipt, before, seen, forgotten_through);
    if let Some(new) = &plan.nonces {
        record(db, new, is_known).await?;
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
        if let Some(attempt) = receipt.for_start {
            starts::open(db, &receipt.account, process, attempt, receipt.now_ms).await?;
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

/// The nonces seen of an offer, and the block through which all sets have gone. One row: each row read,
/// and each statement, is handed to the connection's thread and back, which costs more than it does.
async fn seen(
    db: &mut SqliteConnection,
    offer: Option<B256>,
) -> Result<(NonceSet, u64), LedgerError> {
    let row = sqlx::query(
        "SELECT forgotten_through, (SELECT json_group_array(nonce) FROM nonces \
           WHERE recipient_rand_hash = ?) AS nonces FROM horizon WHERE id = 1",
    )
    .bind(offer.map(hash_text))
    .fetch_one(db)
    .await?;
    let nonces: Vec<u32> =
        serde_json::from_str(row.try_get("nonces")?).map_err(|_| corrupt("nonce"))?;
    let forgotten: i64 = row.try_get("forgotten_through")?;
    Ok((nonces.into_iter().collect(), u64::try_from(forgotten).unwrap_or(0)))
}

/// `is_known`: the offer has a set.
async fn record(
    db: &mut SqliteConnection,
    new: &NewNonces,
    is_known: bool,
) -> Result<(), LedgerError> {
    let offer = hash_text(new.offer);
    if !is_known {
        sqlx::query(
            "INSERT INTO nonce_sets (recipient_rand_hash, expiration_block) VALUES (?, ?) \
             ON CONFLICT (recipient_rand_hash) DO NOTHING",
        )
        .bind(&offer)
        .bind(block(new.expiration_block))
        .execute(&mut *db)
        .await?;
    }
    sqlx::query(
        "INSERT INTO nonces (recipient_rand_hash, nonce) SELECT ?, value FROM json_each(?)",
    )
    .bind(&offer)
    .bind(serde_json::json!(new.nonces).to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// Drops the nonce sets of expired offers and remembers how far.
pub async fn forget(db: &mut SqliteConnection, block: u64) -> Result<u64, LedgerError> {
    let block = signed(block);
    sqlx::query(
        "UPDATE horizon SET forgotten_through = MAX(forgotten_through, COALESCE( \
         (SELECT MAX(expiration_block) FROM nonce_sets WHERE expiration_block <= ?), -1)) \
         WHERE id = 1",
    )
    .bind(block)
    .execute(&mut *db)
    .await?;
    Ok(sqlx::query("DELETE FROM nonce_sets WHERE expiration_block <= ?")
        .bind(block)
        .execute(db)
        .await?
        .rows_affected())
}
