//! Balances with the journal behind them.

use super::rows::{self, address_text};
use crate::orchestrator::{Account, CreditLine, DebitLine, Invoice, InvoiceQuery, LedgerError};
use penstock_domain::Rational;
use sqlx::{Row, SqliteConnection};

/// The invoices of a key.
pub async fn of(
    db: &mut SqliteConnection,
    query: &InvoiceQuery,
) -> Result<Vec<Invoice>, LedgerError> {
    let accounts = sqlx::query(
        "SELECT sender, session, credited, debited, tickets, fixed_price, pin_floor, pin_work, \
           updated_ms FROM accounts WHERE session = ?1 AND (?2 IS NULL OR sender = ?2) \
         ORDER BY sender LIMIT ?3",
    )
    .bind(&query.session)
    .bind(query.sender.map(address_text))
    .bind(query.limit)
    .fetch_all(&mut *db)
    .await?;
    let mut invoices = Vec::with_capacity(accounts.len());
    for row in &accounts {
        invoices.push(invoice(db, rows::account(row)?, query.limit).await?);
    }
    Ok(invoices)
}

async fn invoice(
    db: &mut SqliteConnection,
    account: Account,
    limit: u32,
) -> Result<Invoice, LedgerError> {
    // One more than is shown, to know whether there are more.
    let read = i64::from(limit) + 1;
    let credits = sqlx::query(
        "SELECT recipient_rand_hash, tickets, amount, created_ms FROM credits \
         WHERE sender = ? AND session = ? ORDER BY created_ms DESC, id DESC LIMIT ?",
    )
    .bind(address_text(account.key.sender()))
    .bind(account.key.session())
    .bind(read)
    .fetch_all(&mut *db)
    .await?;
    let debits = sqlx::query(
        "SELECT job_id, units, price, amount, began_ms, created_ms FROM debits \
         WHERE sender = ? AND session = ? ORDER BY created_ms DESC, job_id DESC LIMIT ?",
    )
    .bind(address_text(account.key.sender()))
    .bind(account.key.session())
    .bind(read)
    .fetch_all(&mut *db)
    .await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_whole = credits.len() <= shown && debits.len() <= shown;
    let credits = credits.iter().take(shown).map(|row| {
        Ok(CreditLine {
            recipient_rand_hash: row.try_get("recipient_rand_hash")?,
            tickets: rows::unsigned(row, "tickets")?,
            amount: rows::parsed(row, "amount")?,
            at_ms: row.try_get("created_ms")?,
        })
    });
    let debits = debits.iter().take(shown).map(|row| {
        let units: Option<i64> = row.try_get("units")?;
        let price: Option<Rational> = rows::optional(row, "price")?;
        Ok(DebitLine {
            job_id: row.try_get("job_id")?,
            work: units.map(i64::unsigned_abs).zip(price),
            amount: rows::parsed(row, "amount")?,
            from_ms: row.try_get("began_ms")?,
            to_ms: row.try_get("created_ms")?,
        })
    });
    let credits = credits.collect::<Result<_, LedgerError>>()?;
    let debits = debits.collect::<Result<_, LedgerError>>()?;
    Ok(Invoice { account, credits, debits, is_whole })
}
