//! Accounts that were paid for sessions of live video, and in whose hands they are: of a session that begins or
//! runs, or of nobody, with what is left for the sender's next one. The file has one process at a
//! time, so that every other one is dead.

use super::accounts;
use crate::{
    orchestrator::{
        AccountKey, LedgerError, Start,
        rows::{Fields as _, address_text, corrupt},
    },
    sqlite::writer::{Tx, all},
};
use penstock_domain::Address;
use rusqlite::params;
use uuid::Uuid;

/// Looked at in one go. Those that were spent a while ago go, so that later ones have their turn.
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

/// The oldest of a sender's that is in nobody's hands and has something left; the caller commits.
pub fn adopt(
    tx: &Tx,
    sender: Address,
    process: &str,
    attempt: Uuid,
    spent_before_ms: i64,
) -> Result<Option<AccountKey>, LedgerError> {
    let mut left = tx.prepare_cached(
        "SELECT s.session AS session FROM starts s \
         JOIN accounts a ON a.sender = s.sender AND a.session = s.session \
         WHERE s.sender = ?1 AND (s.process IS NULL OR s.process <> ?2) \
           AND (a.credited <> a.debited OR a.updated_ms < ?4) \
         ORDER BY s.created_ms, s.session LIMIT ?3",
    )?;
    let asked = params![address_text(sender), process, MOST, spent_before_ms];
    let sessions = all(&mut left, asked, |row| row.text("session"))?;
    for session in sessions {
        let key = AccountKey::new(sender, session).map_err(|_| corrupt("balance key"))?;
        let account = accounts::find(tx, &key)?.ok_or(corrupt("account of a start"))?;
        if account.balance().is_positive() {
            let mut take = tx.prepare_cached(
                "UPDATE starts SET process = ?, attempt = ? WHERE sender = ? AND session = ?",
            )?;
            let attempt = attempt.to_string();
            take.execute(params![process, attempt, address_text(sender), key.session()])?;
            return Ok(Some(key));
        }
        if account.updated_ms < spent_before_ms {
            let mut drop =
                tx.prepare_cached("DELETE FROM starts WHERE sender = ? AND session = ?")?;
            drop.execute(params![address_text(sender), key.session()])?;
        }
    }
    Ok(None)
}

/// It is in nobody's hands, if it was in this attempt's.
pub fn end(tx: &Tx, start: &Start, process: &str) -> Result<(), LedgerError> {
    let mut statement = tx.prepare_cached(
        "UPDATE starts SET process = NULL, attempt = NULL \
         WHERE sender = ? AND session = ? AND process = ? AND attempt = ?",
    )?;
    statement.execute(params![
        address_text(start.account.sender()),
        start.account.session(),
        process,
        start.attempt.to_string(),
    ])?;
    Ok(())
}
