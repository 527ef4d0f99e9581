//! Accounts that were paid for sessions, and in whose hands they are: of a session that begins or
//! runs, or of nobody, with what is left for the sender's next one. What a process that is dead
//! to the others had is anybody's. A row of this table is the last that a transaction locks, but for the leases.

use super::{
    Answer, accounts,
    holds::{self, Us},
    payment,
};
use crate::{
    orchestrator::{
        AccountKey, CreditLine, Start,
        plan::{self, Left, MOST_CARRIED, MOST_STARTS},
        rows::{self, account_columns, address_text},
    },
    postgres::transaction::Tx,
};
use penstock_domain::{Address, Rational};
use sqlx::Row as _;
use std::collections::HashSet;
use uuid::Uuid;

/// An account is paid for a start of this process; one that is in other hands by now stays there. Whether it is this
/// attempt's.
pub async fn open(
    tx: &mut Tx,
    key: &AccountKey,
    process: Uuid,
    attempt: Uuid,
    now_ms: i64,
) -> Answer<bool> {
    let opened = sqlx::query(
        "INSERT INTO starts (sender, session, process, attempt, created_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (sender, session) DO UPDATE SET process = excluded.process, attempt = excluded.attempt \
         WHERE starts.process IS NULL OR starts.attempt = excluded.attempt \
           OR (starts.process <> excluded.process AND NOT EXISTS \
             (SELECT 1 FROM processes p WHERE p.id = starts.process AND p.lease_until > clock_timestamp()))",
    )
    .bind(address_text(key.sender()))
    .bind(key.session())
    .bind(process.as_bytes().as_slice())
    .bind(attempt.as_bytes().as_slice())
    .bind(now_ms)
    .execute(&mut **tx)
    .await?;
    Ok(opened.rows_affected() == 1)
}

/// In nobody's hands, or in those of a process that is dead to the others; $1 is the sender, $2 this process.
macro_rules! free {
    () => {
        "sender = $1 AND (process IS NULL OR (process <> $2 AND NOT EXISTS \
           (SELECT 1 FROM processes p WHERE p.id = process AND p.lease_until > clock_timestamp())))"
    };
}

/// Of a sender's that are in nobody's hands just now, what is on them.
async fn left(tx: &mut Tx, sender: Address, process: Uuid, spent_before_ms: i64) -> Answer<Left> {
    let found = sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = $1 AND (credited <> debited OR updated_ms < $3) AND session IN \
           (SELECT session FROM starts WHERE ",
        free!(),
        ") ORDER BY updated_ms, session LIMIT $4"
    ))
    .bind(address_text(sender))
    .bind(process.as_bytes().as_slice())
    .bind(spent_before_ms)
    .bind(i64::from(MOST_STARTS))
    .fetch_all(&mut **tx)
    .await?;
    let found = found.iter().map(rows::account).collect::<Answer<Vec<_>>>()?;
    Ok(Left::of(found, spent_before_ms))
}

/// Those that have nothing left are forgotten, if nobody takes them just now.
async fn forget(tx: &mut Tx, sender: Address, process: Uuid, spent: &[AccountKey]) -> Answer<()> {
    if spent.is_empty() {
        return Ok(());
    }
    let spent: Vec<_> = spent.iter().map(|key| key.session().to_owned()).collect();
    sqlx::query(concat!(
        "DELETE FROM starts WHERE sender = $1 AND session IN (SELECT session FROM starts WHERE session = ANY($3) AND ",
        free!(),
        " FOR UPDATE SKIP LOCKED)"
    ))
    .bind(address_text(sender))
    .bind(process.as_bytes().as_slice())
    .bind(&spent)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Of a sender's that are in nobody's hands, the one with the most left; the caller commits. One
/// that another process takes just now is that process's.
pub async fn adopt(
    tx: &mut Tx,
    sender: Address,
    process: Uuid,
    attempt: Uuid,
    spent_before_ms: i64,
) -> Answer<Option<AccountKey>> {
    let left = left(tx, sender, process, spent_before_ms).await?;
    for key in left.free {
        let taken = sqlx::query(concat!(
            "UPDATE starts SET process = $2, attempt = $4 WHERE session = $3 AND ",
            free!()
        ))
        .bind(address_text(sender))
        .bind(process.as_bytes().as_slice())
        .bind(key.session())
        .bind(attempt.as_bytes().as_slice())
        .execute(&mut **tx)
        .await?;
        if taken.rows_affected() == 1 {
            return Ok(Some(key));
        }
    }
    forget(tx, sender, process, &left.spent).await?;
    Ok(None)
}

/// What is left of a sender's that are in nobody's hands goes to another account of his; the caller commits. All these
/// accounts are locked in the order of their names, and read anew then, so that of two that do this at once each wei
/// moves with one.
pub async fn carry(
    tx: &mut Tx,
    us: Us<'_>,
    to: &AccountKey,
    spent_before_ms: i64,
    now_ms: i64,
) -> Answer<Rational> {
    let sender = to.sender();
    let left = left(tx, sender, us.process, spent_before_ms).await?;
    let from = left.free.iter().filter(|key| *key != to).take(MOST_CARRIED);
    let mut names: Vec<_> = from.map(|key| key.session().to_owned()).collect();
    names.push(to.session().to_owned());
    let locked = sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = $1 AND session = ANY($2) ORDER BY session FOR UPDATE"
    ))
    .bind(address_text(sender))
    .bind(&names)
    .fetch_all(&mut **tx)
    .await?;
    let mut accounts = locked.iter().map(rows::account).collect::<Answer<Vec<_>>>()?;
    let Some(at) = accounts.iter().position(|account| account.key == *to) else {
        return Ok(Rational::ZERO);
    };
    let into = accounts.swap_remove(at);
    let free = sqlx::query(concat!(
        "SELECT session FROM starts WHERE session = ANY($3) AND ",
        free!(),
        " FOR UPDATE SKIP LOCKED"
    ))
    .bind(address_text(sender))
    .bind(us.process.as_bytes().as_slice())
    .bind(&names)
    .fetch_all(&mut **tx)
    .await?;
    let free = free.iter().map(|row| row.try_get("session"));
    let free = free.collect::<Result<HashSet<String>, _>>()?;
    let mut found = Vec::new();
    for account in accounts {
        if free.contains(account.key.session()) {
            let held = holds::all(tx, us, &account.key).await?;
            found.push((account, held));
        }
    }
    let carried = plan::carry(into, found, now_ms);
    let came = (carried.to, carried.amount.clone());
    let gone = carried.from.into_iter().map(|(account, amount)| (account, -amount));
    for (account, amount) in gone.chain([came]).filter(|(_, amount)| !amount.is_zero()) {
        accounts::store(tx, &account, true, account.updated_ms).await?;
        payment::note(tx, &account.key, &CreditLine::carried(amount, now_ms)).await?;
    }
    forget(tx, sender, us.process, &left.spent).await?;
    Ok(carried.amount)
}

/// It is in nobody's hands if it was in this attempt's.
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
