//! What was paid for sessions that have not begun. The file has one process at a time, so that every
//! other one is dead.

use super::accounts;
use crate::{
    orchestrator::{
        AccountKey, LedgerError, Start, StartEnd,
        rows::{Fields as _, address_text, corrupt},
    },
    sqlite::writer::{Tx, all},
};
use penstock_domain::Address;
use rusqlite::params;
use uuid::Uuid;

/// Looked at in one go. Those without a balance go, so that later ones have their turn.
const MOST: u32 = 16;

/// An account is paid for a start of this process.
pub fn open(
    tx: &Tx,
    key: &AccountKey,
    process: &str,
    attempt: Uuid,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt",
    )?;
    let sender = address_text(key.sender());
    upsert.execute(params![sender, key.session(), process, attempt.to_string(), now_ms])?;
    Ok(())
}

/// The oldest of a sender's that nobody is starting and that has something left; the caller commits.
pub fn adopt(
    tx: &Tx,
    sender: Address,
    process: &str,
    attempt: Uuid,
) -> Result<Option<AccountKey>, LedgerError> {
    let mut left = tx.prepare_cached(
        "SELECT session FROM starts WHERE sender = ?1 AND (process IS NULL OR process <> ?2) \
         ORDER BY created_ms, session LIMIT ?3",
    )?;
    let sessions =
        all(&mut left, params![address_text(sender), process, MOST], |row| row.text("session"))?;
    for session in sessions {
        let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
        let account = accounts::find(tx, &key)?;
        if account.is_some_and(|account| account.balance().is_positive()) {
            let mut take = tx.prepare_cached(
                "UPDATE starts SET process = ?, attempt = ? WHERE sender = ? AND session = ?",
            )?;
            let attempt = attempt.to_string();
            take.execute(params![process, attempt, address_text(sender), key.session()])?;
            return Ok(Some(key));
        }
        let mut drop = tx.prepare_cached("DELETE FROM starts WHERE sender = ? AND session = ?")?;
        drop.execute(params![address_text(sender), key.session()])?;
    }
    Ok(None)
}

/// What became of a start, as long as it is in the hands of this attempt.
pub fn end(tx: &Tx, start: &Start, process: &str, end: StartEnd) -> Result<(), LedgerError> {
    let mut statement = tx.prepare_cached(match end {
        StartEnd::Begun => {
            "DELETE FROM starts WHERE sender = ? AND session = ? AND process = ? AND attempt = ?"
        }
        StartEnd::Void => {
            "UPDATE starts SET process = NULL, attempt = NULL \
             WHERE sender = ? AND session = ? AND process = ? AND attempt = ?"
        }
    })?;
    statement.execute(params![
        address_text(start.account.sender()),
        start.account.session(),
        process,
        start.attempt.to_string(),
    ])?;
    Ok(())
}
