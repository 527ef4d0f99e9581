//! Balances and pinned prices.

use super::holds::Holds;
use crate::{
    orchestrator::{
        Account, AccountKey, Booked, Debit, LedgerError, Totals,
        plan::{self, Aside},
        rows::{self, account_columns, address_text},
    },
    sqlite::writer::{self, Tx},
};
use penstock_domain::Rational;
use rusqlite::{Connection, OptionalExtension as _, params};
use sqlx::{Executor, Row, Sqlite};

/// One balance, if it exists.
pub fn find(db: &Connection, key: &AccountKey) -> Result<Option<Account>, LedgerError> {
    let mut by_key = db.prepare_cached(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = ? AND session = ?"
    ))?;
    writer::find(&mut by_key, params![address_text(key.sender()), key.session()], |row| {
        rows::account(row)
    })
}

/// Writes the account as it is now.
pub fn store(tx: &Tx, account: &Account, now_ms: i64) -> Result<(), LedgerError> {
    let mut upsert = tx.prepare_cached(
        "INSERT INTO accounts \
           (sender, session, credited, debited, tickets, fixed_price, pin_floor, pin_work, \
            created_ms, updated_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET credited = excluded.credited, \
           debited = excluded.debited, tickets = excluded.tickets, \
           fixed_price = excluded.fixed_price, pin_floor = excluded.pin_floor, \
           pin_work = excluded.pin_work, updated_ms = excluded.updated_ms",
    )?;
    upsert.execute(params![
        address_text(account.key.sender()),
        account.key.session(),
        account.credited.to_string(),
        account.debited.to_string(),
        rows::signed(account.tickets),
        account.fixed_price.as_ref().map(Rational::to_string),
        account.pin_floor.as_ref().map(Rational::to_string),
        account.pin_work,
        now_ms,
        now_ms,
    ])?;
    Ok(())
}

/// Books a fee once per job id.
pub fn debit(tx: &Tx, debit: &Debit, holds: &Holds) -> Result<Booked, LedgerError> {
    let mut by_job = tx.prepare_cached("SELECT 1 FROM debits WHERE job_id = ?")?;
    if by_job.query_row([&debit.job_id], |_| Ok(())).optional()?.is_some() {
        return Ok(Booked::Before);
    }
    let aside = debit.hold.as_ref().map(|hold| Aside {
        own: holds.own(hold.id),
        others: holds.others(hold.id, &debit.account),
    });
    let before = find(tx, &debit.account)?;
    let account = match plan::debit(debit, before, &aside.unwrap_or_default()) {
        Ok(account) => account,
        Err(balance) => return Ok(Booked::Short { balance }),
    };
    store(tx, &account, debit.now_ms)?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO debits \
           (job_id, sender, session, amount, units, price, began_ms, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        debit.job_id,
        address_text(debit.account.sender()),
        debit.account.session(),
        debit.fee().to_string(),
        // Past 2^63 units the amount alone is kept.
        i64::try_from(debit.units).ok(),
        debit.price.to_string(),
        debit.began_ms,
        debit.now_ms,
    ])?;
    Ok(Booked::Now(Box::new(account)))
}

/// Balances, last touched first.
pub async fn list<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    limit: u32,
) -> Result<Vec<Account>, LedgerError> {
    sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts ORDER BY updated_ms DESC, sender, session LIMIT ?"
    ))
    .bind(limit)
    .fetch_all(db)
    .await?
    .iter()
    .map(rows::account)
    .collect()
}

/// Adds all accounts up. SQL cannot: the amounts are exact rationals.
pub async fn add_totals<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    totals: &mut Totals,
) -> Result<(), LedgerError> {
    let all = sqlx::query("SELECT credited, debited, tickets FROM accounts").fetch_all(db).await?;
    for row in &all {
        totals.credited += &rows::parsed::<Rational>(row, "credited")?;
        totals.debited += &rows::parsed::<Rational>(row, "debited")?;
        totals.tickets += row.try_get::<i64, _>("tickets")?.unsigned_abs();
    }
    Ok(())
}
