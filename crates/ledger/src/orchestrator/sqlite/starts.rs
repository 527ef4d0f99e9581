//! Accounts that were paid for sessions of live video, and in whose hands they are: of a session that begins or
//! runs, or of nobody, with what is left for the sender's next one. The file has one process at a
//! time, so that every other one is dead.

use crate::{
    orchestrator::{
        AccountKey, LedgerError, Start,
        plan::{Left, MOST_STARTS},
        rows::{self, account_columns, address_text},
    },
    sqlite::writer::{Tx, all},
};
use penstock_domain::Address;
use rusqlite::params;
use uuid::Uuid;

/// An account is paid for a start of this process; one that is in other hands by now stays there.
pub fn open(
    tx: &Tx,
    key: &AccountKey,
    process: &str,
    attempt: Uuid,
    now_ms: i64,
) -> Result<(), LedgerError> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt \
         WHERE process IS NULL OR attempt = excluded.attempt",
    )?;
    let sender = address_text(key.sender());
    upsert.execute(params![sender, key.session(), process, attempt.to_string(), now_ms])?;
    Ok(())
}

/// Of a sender's that are in nobody's hands, the one with the most left; the caller commits.
pub fn adopt(
    tx: &Tx,
    sender: Address,
    process: &str,
    attempt: Uuid,
    spent_before_ms: i64,
) -> Result<Option<AccountKey>, LedgerError> {
    let mut left = tx.prepare_cached(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = ?1 AND (credited <> debited OR updated_ms < ?2) AND session IN \
           (SELECT session FROM starts WHERE sender = ?1 AND (process IS NULL OR process <> ?3)) \
         ORDER BY updated_ms, session LIMIT ?4"
    ))?;
    let sender = address_text(sender);
    let asked = params![sender, spent_before_ms, process, MOST_STARTS];
    let left = Left::of(all(&mut left, asked, |row| rows::account(row))?, spent_before_ms);
    for key in left.spent {
        let mut drop = tx.prepare_cached("DELETE FROM starts WHERE sender = ? AND session = ?")?;
        drop.execute(params![sender, key.session()])?;
    }
    let Some(key) = left.free.into_iter().next() else { return Ok(None) };
    let mut take = tx.prepare_cached(
        "UPDATE starts SET process = ?, attempt = ? WHERE sender = ? AND session = ?",
    )?;
    take.execute(params![process, attempt.to_string(), sender, key.session()])?;
    Ok(Some(key))
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
