//! Accounts that were paid for sessions of live video, and in whose hands they are: of a session that begins or
//! runs, or of nobody, with what is left for the sender's next one. What a process that is dead
//! to the others had is anybody's. A row of this table is the last that a transaction locks.

use super::{Answer, accounts};
use crate::{
    orchestrator::{
        AccountKey, Start,
        rows::{Fields as _, address_text, corrupt},
    },
    postgres::transaction::Tx,
};
use penstock_domain::Address;
use uuid::Uuid;

/// Looked at in one go. Those that were spent a while ago go, so that later ones have their turn.
const MOST: i64 = 16;

/// An account is paid for a start of this process.
pub async fn open(
    tx: &mut Tx,
    key: &AccountKey,
    process: Uuid,
    attempt: Uuid,
    now_ms: i64,
) -> Answer<()> {
    sqlx::query(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(process.as_bytes().as_slice())
    .bind(attempt.as_bytes().as_slice())
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The oldest of a sender's that is in nobody's hands and has something left; the caller commits. One
/// that another process takes just now is that process's.
pub async fn adopt(
    tx: &mut Tx,
    sender: Address,
    process: Uuid,
    attempt: Uuid,
    spent_before_ms: i64,
) -> Answer<Option<AccountKey>> {
    let found = sqlx::query(
        "SELECT s.session AS session FROM starts s \
         JOIN accounts a ON a.sender = s.sender AND a.session = s.session \
         WHERE s.sender = $1 AND (s.process IS NULL OR (s.process <> $3 AND NOT EXISTS \
           (SELECT 1 FROM processes p WHERE p.id = s.process AND p.lease_until > clock_timestamp()))) \
           AND (a.credited <> a.debited OR a.updated_ms < $4) \
         ORDER BY s.created_ms, s.session LIMIT $2 FOR UPDATE OF s SKIP LOCKED",
    )
    .bind(address_text(sender))
    .bind(MOST)
    .bind(process.as_bytes().as_slice())
    .bind(spent_before_ms)
    .fetch_all(&mut **tx)
    .await?;
    for row in &found {
        let session = row.text("session")?;
        let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
        let account = accounts::find(tx, &key).await?.ok_or(corrupt("account of a start"))?;
        if account.balance().is_positive() {
            sqlx::query(
                "UPDATE starts SET process = $3, attempt = $4 WHERE sender = $1 AND session = $2",
            )
            .bind(address_text(sender))
            .bind(key.session())
            .bind(process.as_bytes().as_slice())
            .bind(attempt.as_bytes().as_slice())
            .execute(&mut **tx)
            .await?;
            return Ok(Some(key));
        }
        if account.updated_ms < spent_before_ms {
            sqlx::query("DELETE FROM starts WHERE sender = $1 AND session = $2")
                .bind(address_text(sender))
                .bind(key.session())
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(None)
}

/// It is in nobody's hands, if it was in this attempt's.
pub async fn end(tx: &mut Tx, start: &Start, process: Uuid) -> Answer<()> {
    sqlx::query(
        "UPDATE starts SET process = NULL, attempt = NULL \
         WHERE sender = $1 AND session = $2 AND process = $3 AND attempt = $4",
    )
    .bind(address_text(start.account.sender()))
    .bind(start.account.session())
    .bind(process.as_bytes().as_slice())
    .bind(start.attempt.as_bytes().as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
