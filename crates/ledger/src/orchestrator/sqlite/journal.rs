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
    let (mut gone, mut sums) = (0_u64, Sums::default());
    for journal in [Journal::Credits, Journal::Debits] {
        let (table, key) = (journal.table(), journal.key());
        let rows = sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE {key} IN \
             (SELECT {key} FROM {table} WHERE created_ms < ?1 ORDER BY created_ms, {key} LIMIT ?2) \
             RETURNING sender, session, amount"
        )))
        .bind(before_ms)
        .bind(limit)
        .fetch_all(&mut *db)
        .await?;
        for row in &rows {
            let amount = parsed::<Rational>(row, "amount")?;
            sums.add(journal, row.text("sender")?, row.text("session")?, &amount);
        }
        gone = gone.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
    }
    for (key, sum) in sums.into_accounts()? {
        let found = accounts::find(&mut *db, &key).await?;
        let mut account = found.ok_or(LedgerError::Corrupt { what: "journal" })?;
        sum.add_to(&mut account);
        sqlx::query(
            "UPDATE accounts SET folded_credits = ?, folded_debits = ? \
             WHERE sender = ? AND session = ?",
        )
        .bind(account.folded_credits.to_string())
        .bind(account.folded_debits.to_string())
        .bind(address_text(key.sender()))
        .bind(key.session())
        .execute(&mut *db)
        .await?;
    }
    Ok(gone)
}
