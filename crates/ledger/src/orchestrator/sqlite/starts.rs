//! Accounts that were paid for sessions, and in whose hands they are: of a session that begins or
//! runs, or of nobody, with what is left for the sender's next one. The file has one process at a
//! time, so that every other one is dead.

use super::{accounts, holds::Holds, payment};
use crate::{
    orchestrator::{
        Account, AccountKey, CreditLine, LedgerError, Start,
        plan::{self, Left, MOST_CARRIED, MOST_STARTS},
        rows::{self, account_columns, address_text},
    },
    sqlite::writer::{Tx, all},
};
use penstock_domain::{Address, Rational};
use rusqlite::params;
use uuid::Uuid;

/// An account is paid for a start of this process; one that is in other hands by now stays there. Whether it is this
/// attempt's.
pub fn open(
    tx: &Tx,
    key: &AccountKey,
    process: &str,
    attempt: Uuid,
    now_ms: i64,
) -> Result<bool, LedgerError> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt \
         WHERE process IS NULL OR attempt = excluded.attempt OR process <> excluded.process",
    )?;
    let sender = address_text(key.sender());
    let opened =
        upsert.execute(params![sender, key.session(), process, attempt.to_string(), now_ms])?;
    Ok(opened == 1)
}

/// Of a sender's that are in nobody's hands, those with something left, the most first. Those that are spent since a
/// while are forgotten.
fn left(
    tx: &Tx,
    sender: Address,
    process: &str,
    spent_before_ms: i64,
) -> Result<Vec<AccountKey>, LedgerError> {
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
        forget(tx, &key)?;
    }
    Ok(left.free)
}

fn forget(tx: &Tx, key: &AccountKey) -> Result<(), LedgerError> {
    let mut drop = tx.prepare_cached("DELETE FROM starts WHERE sender = ? AND session = ?")?;
    drop.execute(params![address_text(key.sender()), key.session()])?;
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
    let left = left(tx, sender, process, spent_before_ms)?;
    let Some(key) = left.into_iter().next() else { return Ok(None) };
    let mut take = tx.prepare_cached(
        "UPDATE starts SET process = ?, attempt = ? WHERE sender = ? AND session = ?",
    )?;
    take.execute(params![process, attempt.to_string(), address_text(sender), key.session()])?;
    Ok(Some(key))
}

/// What is left of a sender's that are in nobody's hands goes to another account of his; the caller commits. What fees
/// of the same transaction have spent of a hold counts as held still: it is there for the next one.
pub fn carry(
    tx: &Tx,
    to: &AccountKey,
    process: &str,
    holds: &Holds,
    spent_before_ms: i64,
    now_ms: i64,
) -> Result<Rational, LedgerError> {
    let Some(into) = accounts::find(tx, to)? else { return Ok(Rational::ZERO) };
    let left = left(tx, to.sender(), process, spent_before_ms)?;
    let mut found = Vec::new();
    for key in left.iter().filter(|key| *key != to).take(MOST_CARRIED) {
        if let Some(account) = accounts::find(tx, key)? {
            found.push((account, holds.all(key)));
        }
    }
    let carried = plan::carry(into, found, now_ms);
    let store = |account: &Account, amount: Rational| {
        accounts::store(tx, account, account.updated_ms)?;
        payment::note(tx, &account.key, &CreditLine::carried(amount, now_ms))
    };
    for (account, amount) in carried.from {
        store(&account, -amount)?;
    }
    if carried.amount.is_positive() {
        store(&carried.to, carried.amount.clone())?;
    }
    Ok(carried.amount)
}

/// It is in nobody's hands if it was in this attempt's.
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
