//! What was paid for sessions that have not begun. The file has one process at a time, so that every
//! other one is dead.

use super::accounts;
use crate::orchestrator::{
    AccountKey, LedgerError, Start, StartEnd,
    rows::{Fields as _, address_text, corrupt},
};
use penstock_domain::Address;
use sqlx::SqliteConnection;
use uuid::Uuid;

/// Looked at in one go. Those without a balance go, so that later ones have their turn.
const MOST: u32 = 16;

/// An account is paid for a start of this process.
pub async fn open(
    db: &mut SqliteConnection,
    key: &AccountKey,
    process: &str,
    attempt: Uuid,
    now_ms: i64,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(process)
    .bind(attempt.to_string())
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// The oldest of a sender's that nobody is starting and that has something left; the caller commits.
pub async fn adopt(
    db: &mut SqliteConnection,
    sender: Address,
    process: &str,
    attempt: Uuid,
) -> Result<Option<AccountKey>, LedgerError> {
    let found = sqlx::query(
        "SELECT session FROM starts WHERE sender = ?1 AND (process IS NULL OR process <> ?2) \
         ORDER BY created_ms, session LIMIT ?3",
    )
    .bind(address_text(sender))
    .bind(process)
    .bind(MOST)
    .fetch_all(&mut *db)
    .await?;
    for row in &found {
        let session = row.text("session")?;
        let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
        let account = accounts::find(&mut *db, &key).await?;
        if account.is_some_and(|account| account.balance().is_positive()) {
            sqlx::query(
                "UPDATE starts SET process = ?, attempt = ? WHERE sender = ? AND session = ?",
            )
            .bind(process)
            .bind(attempt.to_string())
            .bind(address_text(sender))
            .bind(key.session())
            .execute(&mut *db)
            .await?;
            return Ok(Some(key));
        }
        sqlx::query("DELETE FROM starts WHERE sender = ? AND session = ?")
            .bind(address_text(sender))
            .bind(key.session())
            .execute(&mut *db)
            .await?;
    }
    Ok(None)
}

/// What became of a start, as long as it is in the hands of this attempt.
pub async fn end(
    db: &mut SqliteConnection,
    start: &Start,
    process: &str,
    end: StartEnd,
) -> Result<(), LedgerError> {
    let statement = match end {
        StartEnd::Begun => {
            "DELETE FROM starts WHERE sender = ? AND session = ? AND process = ? AND attempt = ?"
        }
        StartEnd::Void => {
            "UPDATE starts SET process = NULL, attempt = NULL \
             WHERE sender = ? AND session = ? AND process = ? AND attempt = ?"
        }
    };
    sqlx::query(statement)
        .bind(address_text(start.account.sender()))
        .bind(start.account.session())
        .bind(process)
        .bind(start.attempt.to_string())
        .execute(db)
        .await?;
    Ok(())
}
