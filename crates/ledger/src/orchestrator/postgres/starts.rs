//! What was paid for sessions that have not begun. What a process that is dead to the others was starting
//! is anybody's. A row of this table is the last that a transaction locks.

use super::{Answer, accounts};
use crate::{
    orchestrator::{
        AccountKey, Start, StartEnd,
        rows::{Fields as _, address_text, corrupt},
    },
    postgres::transaction::Tx,
};
use penstock_domain::Address;
use uuid::Uuid;

/// Looked at in one go. Those without a balance go, so that later ones have their turn.
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

/// The oldest of a sender's that nobody is starting and that has something left; the caller commits. One
/// that another process takes just now is that process's.
pub async fn adopt(
    tx: &mut Tx,
    sender: Address,
    process: Uuid,
    attempt: Uuid,
) -> Answer<Option<AccountKey>> {
    let found = sqlx::query(
        "SELECT session FROM starts s WHERE sender = $1 AND (process IS NULL OR (process <> $3 AND NOT EXISTS \
           (SELECT 1 FROM processes p WHERE p.id = s.process AND p.lease_until > clock_timestamp()))) \
         ORDER BY created_ms, session LIMIT $2 FOR UPDATE OF s SKIP LOCKED",
    )
    .bind(address_text(sender))
    .bind(MOST)
    .bind(process.as_bytes().as_slice())
    .fetch_all(&mut **tx)
    .await?;
    for row in &found {
        let session = row.text("session")?;
        let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
        let account = accounts::find(tx, &key).await?;
        if account.is_some_and(|account| account.balance().is_positive()) {
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
        sqlx::query("DELETE FROM starts WHERE sender = $1 AND session = $2")
            .bind(address_text(sender))
            .bind(key.session())
            .execute(&mut **tx)
            .await?;
    }
    Ok(None)
}

/// What became of a start, as long as it is in the hands of this attempt.
pub async fn end(tx: &mut Tx, start: &Start, process: Uuid, end: StartEnd) -> Answer<()> {
    let statement = match end {
        StartEnd::Begun => {
            "DELETE FROM starts \
             WHERE sender = $1 AND session = $2 AND process = $3 AND attempt = $4"
        }
        StartEnd::Void => {
            "UPDATE starts SET process = NULL, attempt = NULL \
             WHERE sender = $1 AND session = $2 AND process = $3 AND attempt = $4"
        }
    };
    sqlx::query(statement)
        .bind(address_text(start.account.sender()))
        .bind(start.account.session())
        .bind(process.as_bytes().as_slice())
        .bind(start.attempt.as_bytes().as_slice())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
