//! Old rows of the journals go; their sums stay with the accounts.

use super::accounts;
use crate::orchestrator::{
    LedgerError,
    fold::{Journal, Sums},
    rows::{Fields as _, address_text, parsed},
};
use penstock_domain::Rational;
use sqlx::{AssertSqlSafe, SqliteConnection};

/// Folds the oldest rows of both journals.
pub async fn fold(
    db: &mut SqliteConnection,
    before_ms: i64,
    limit: u32,
) -> Result<u64, LedgerError> {
    let mut gone = 0_u64;
    for journal in [Journal::Credits, Journal::Debits] {
        let (table, key) = (journal.table(), journal.key());
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT sender, session, amount FROM {table} WHERE {key} IN \
             (SELECT {key} FROM {table} WHERE created_ms < ?1 ORDER BY created_ms, {key} LIMIT ?2)"
        )))
        .bind(before_ms)
        .bind(limit)
        .fetch_all(&mut *db)
        .await?;
        let mut sums = Sums::default();
        for row in &rows {
            sums.add(
                row.text("sender")?,
                row.text("session")?,
                &parsed::<Rational>(row, "amount")?,
            );
        }
        for (key, amount) in sums.into_accounts()? {
            let found = accounts::find(&mut *db, &key).await?;
            let mut account = found.ok_or(LedgerError::Corrupt { what: "journal" })?;
            let sum = journal.folded(&mut account);
            *sum += &amount;
            let text = sum.to_string();
            sqlx::query(AssertSqlSafe(format!(
                "UPDATE accounts SET {} = ? WHERE sender = ? AND session = ?",
                journal.column()
            )))
            .bind(text)
            .bind(address_text(key.sender()))
            .bind(key.session())
            .execute(&mut *db)
            .await?;
        }
        let deleted = sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE {key} IN \
             (SELECT {key} FROM {table} WHERE created_ms < ?1 ORDER BY created_ms, {key} LIMIT ?2)"
        )))
        .bind(before_ms)
        .bind(limit)
        .execute(&mut *db)
        .await?;
        gone = gone.saturating_add(deleted.rows_affected());
    }
    Ok(gone)
}
