//! Balances and pinned prices.

use super::holds::Holds;
use crate::orchestrator::{
    Account, AccountKey, Booked, Debit, LedgerError, Totals,
    plan::{self, Aside},
    rows::{self, account_columns, address_text},
};
use penstock_domain::Rational;
use sqlx::{Executor, Row, Sqlite, SqliteConnection};

/// One balance, if it exists.
pub async fn find<'e>(
    db: impl Executor<'e, Database = Sqlite>,
    key: &AccountKey,
) -> Result<Option<Account>, LedgerError> {
    sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = ? AND session = ?"
    ))
    .bind(address_text(key.sender()))
    .bind(key.session())
    .fetch_optional(db)
    .await?
    .as_ref()
    .map(rows::account)
    .transpose()
}

/// Writes the account as it is now.
pub async fn store(
    db: &mut SqliteConnection,
    account: &Account,
    now_ms: i64,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO accounts \
           (sender, session, credited, debited, tickets, fixed_price, pin_floor, pin_work, \
            created_ms, updated_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (sender, session) DO UPDATE SET credited = excluded.credited, \
           debited = excluded.debited, tickets = excluded.tickets, \
           fixed_price = excluded.fixed_price, pin_floor = excluded.pin_floor, \
           pin_work = excluded.pin_work, updated_ms = excluded.updated_ms",
    )
    .bind(address_text(account.key.sender()))
    .bind(account.key.session())
    .bind(account.credited.to_string())
    .bind(account.debited.to_string())
    .bind(rows::signed(account.tickets))
    .bind(account.fixed_price.as_ref().map(Rational::to_string))
    .bind(account.pin_floor.as_ref().map(Rational::to_string))
    .bind(account.pin_work.as_deref())
    .bind(now_ms)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Books a fee once per job id.
pub async fn debit(
    db: &mut SqliteConnection,
    debit: &Debit,
    holds: &Holds,
) -> Result<Booked, LedgerError> {
    let booked = sqlx::query_scalar::<_, i64>("SELECT 1 FROM debits WHERE job_id = ?")
        .bind(&debit.job_id)
        .fetch_optional(&mut *db)
        .await?;
    if booked.is_some() {
        return Ok(Booked::Before);
    }
    let aside = debit.hold.as_ref().map(|hold| Aside {
        own: holds.own(hold.id),
        others: holds.others(hold.id, &debit.account),
    });
    let before = find(&mut *db, &debit.account).await?;
    let account = match plan::debit(debit, before, &aside.unwrap_or_default()) {
        Ok(account) => account,
        Err(balance) => return Ok(Booked::Short { balance }),
    };
    store(db, &account, debit.now_ms).await?;
    sqlx::query(
        "INSERT INTO debits \
           (job_id, sender, session, amount, units, price, began_ms, created_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&debit.job_id)
    .bind(address_text(debit.account.sender()))
    .bind(debit.account.session())
    .bind(debit.fee().to_string())
    // Past 2^63 units the amount alone is kept.
    .bind(i64::try_from(debit.units).ok())
    .bind(debit.price.to_string())
    .bind(debit.began_ms)
    .bind(debit.now_ms)
    .execute(db)
    .await?;
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
