//! Balances and pinned prices.

use super::{
    Answer, Step,
    holds::{self, Us},
};
use crate::{
    orchestrator::{
        Account, AccountKey, Booked, Debit, Totals,
        plan::{self, Aside},
        rows::{self, Fields as _, account_columns, address_text, signed},
    },
    postgres::transaction::Tx,
};
use penstock_domain::Rational;
use sqlx::{PgConnection, Row as _};

/// One balance, if it exists.
pub async fn find(db: &mut PgConnection, key: &AccountKey) -> Answer<Option<Account>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = $1 AND session = $2"
    ))
    .bind(address_text(key.sender()))
    .bind(key.session())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(rows::account).transpose()
}

/// The same, and nobody else changes it until the transaction ends.
pub async fn find_to_change(tx: &mut Tx, key: &AccountKey) -> Answer<Option<Account>> {
    let row = sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE sender = $1 AND session = $2 FOR UPDATE"
    ))
    .bind(address_text(key.sender()))
    .bind(key.session())
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(rows::account).transpose()
}

/// Writes the account as it is now. `false`: it did not exist when it was read, and does now.
pub async fn store(tx: &mut Tx, account: &Account, existed: bool, now_ms: i64) -> Answer<bool> {
    let sql = if existed {
        "UPDATE accounts SET credited = $3, debited = $4, tickets = $5, fixed_price = $6, \
           pin_floor = $7, pin_work = $8, updated_ms = $9 WHERE sender = $1 AND session = $2"
    } else {
        "INSERT INTO accounts (sender, session, credited, debited, tickets, fixed_price, \
           pin_floor, pin_work, created_ms, updated_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) \
         ON CONFLICT (sender, session) DO NOTHING"
    };
    let changed = sqlx::query(sql)
        .bind(address_text(account.key.sender()))
        .bind(account.key.session())
        .bind(account.credited.to_string())
        .bind(account.debited.to_string())
        .bind(signed(account.tickets))
        .bind(account.fixed_price.as_ref().map(Rational::to_string))
        .bind(account.pin_floor.as_ref().map(Rational::to_string))
        .bind(account.pin_work.as_deref())
        .bind(now_ms)
        .execute(&mut **tx)
        .await?;
    Ok(changed.rows_affected() == 1)
}

/// Books a fee once per job id; the caller commits.
pub async fn debit(tx: &mut Tx, us: Us<'_>, debit: &Debit) -> Step<Booked> {
    let before = find_to_change(tx, &debit.account).await?;
    let existed = before.is_some();
    let row = sqlx::query(
        "SELECT (SELECT 1 FROM debits WHERE job_id = $1) AS booked, \
           (SELECT amount FROM holds WHERE id = $2) AS amount",
    )
    .bind(&debit.job_id)
    .bind(debit.hold.as_ref().map(|hold| hold.id.0.as_bytes().to_vec()))
    .fetch_one(&mut **tx)
    .await?;
    if row.try_get::<Option<i32>, _>("booked")?.is_some() {
        return Ok(Some(Booked::Before));
    }
    let held = rows::optional(&row, "amount")?;
    let is_gone = debit.hold.as_ref().is_some_and(|hold| us.has_let_go(hold.id));
    let mut aside = Aside { own: held.filter(|_| !is_gone), others: Rational::ZERO };
    let asked = debit.hold.as_ref().filter(|_| Aside::matters(debit, aside.own.as_ref()));
    if let Some(hold) = asked {
        aside.others = holds::others(tx, us, hold.id, &debit.account).await?;
    }
    let mut planned = plan::debit(debit, before.clone(), &aside);
    if let (Err(_), Some(hold)) = (&planned, asked)
        && holds::bury(tx, us, &debit.account).await?
    {
        aside.others = holds::others(tx, us, hold.id, &debit.account).await?;
        planned = plan::debit(debit, before, &aside);
    }
    let account = match planned {
        Ok(account) => account,
        Err(balance) => return Ok(Some(Booked::Short { balance })),
    };
    if !store(tx, &account, existed, debit.now_ms).await? {
        return Ok(None);
    }
    // If another process books the same job just now, the key says so, and the next try finds it.
    sqlx::query(
        "INSERT INTO debits (job_id, sender, session, amount, units, price, began_ms, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
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
    .execute(&mut **tx)
    .await?;
    if let (Some(hold), Some(held)) = (&debit.hold, &aside.own) {
        holds::spend(tx, hold, held, &debit.fee()).await?;
    }
    Ok(Some(Booked::Now(Box::new(account))))
}

/// Balances, last touched first.
pub async fn list(db: &mut PgConnection, limit: u32) -> Answer<Vec<Account>> {
    sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts ORDER BY updated_ms DESC, sender, session LIMIT $1"
    ))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?
    .iter()
    .map(rows::account)
    .collect()
}

/// Adds all accounts up. SQL cannot: the amounts are exact rationals.
pub async fn add_totals(db: &mut PgConnection, totals: &mut Totals) -> Answer<()> {
    let all = sqlx::query("SELECT credited, debited, tickets FROM accounts").fetch_all(db).await?;
    for row in &all {
        totals.credited += &rows::parsed::<Rational>(row, "credited")?;
        totals.debited += &rows::parsed::<Rational>(row, "debited")?;
        totals.tickets = totals.tickets.saturating_add(row.int("tickets")?.unsigned_abs());
    }
    Ok(())
}
