//! What was paid for sessions that have not begun. The file has one process at a time, so that every
//! other one is dead.

use super::accounts;
use crate::orchestrator::{
    AccountKey, LedgerError,
    rows::{Fields as _, address_text, corrupt},
};
use penstock_domain::Address;
use sqlx::SqliteConnection;

/// Looked at in one go. Those without a balance go, so that later ones have their turn.
const MOST: u32 = 16;

/// An account is paid for a start of this process.
pub async fn open(
    db: &mut SqliteConnection,
    key: &AccountKey,
    process: &str,
    now_ms: i64,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO starts (sender, session, process, created_ms) VALUES (?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(process)
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
            sqlx::query("UPDATE starts SET process = ? WHERE sender = ? AND session = ?")
                .bind(process)
                .bind(address_text(sender))
                .bind(key.session())
                .execute(&mut *db)
                .await?;
            return Ok(Some(key));
        }
        begun(db, &key).await?;
    }
    Ok(None)
}

/// The session has begun.
pub async fn begun(db: &mut SqliteConnection, key: &AccountKey) -> Result<(), LedgerError> {
    sqlx::query("DELETE FROM starts WHERE sender = ? AND session = ?")
        .bind(address_text(key.sender()))
        .bind(key.session())
        .execute(db)
        .await?;
    Ok(())
}

/// Nobody has begun it: what the account has is for another start.
pub async fn void(
    db: &mut SqliteConnection,
    key: &AccountKey,
    now_ms: i64,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO starts (sender, session, process, created_ms) \
         SELECT sender, session, NULL, ?3 FROM accounts WHERE sender = ?1 AND session = ?2 \
         ON CONFLICT (sender, session) DO UPDATE SET process = NULL",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}
