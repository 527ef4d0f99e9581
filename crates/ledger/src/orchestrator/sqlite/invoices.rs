//! Balances with the journal behind them.

use crate::orchestrator::{
    Account, Invoice, InvoiceQuery, LedgerError,
    rows::{self, account_columns, address_text},
};
use sqlx::SqliteConnection;

/// The invoices of a key.
pub async fn of(
    db: &mut SqliteConnection,
    query: &InvoiceQuery,
) -> Result<Vec<Invoice>, LedgerError> {
    let accounts = sqlx::query(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts WHERE session = ?1 AND (?2 IS NULL OR sender = ?2) \
              ORDER BY sender LIMIT ?3"
    ))
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
    rows::invoice(account, &credits, &debits, limit)
}
