//! Old rows of the journals go; their sums stay with the accounts. Processes that do it at the same
//! time take different rows.

use super::{Answer, accounts};
use crate::{
    orchestrator::{
        LedgerError,
        fold::{Journal, Sums},
        rows::{Fields as _, address_text, parsed},
    },
    postgres::transaction::Tx,
};
use penstock_domain::Rational;
use sqlx::AssertSqlSafe;

/// Folds the oldest rows of both journals; the caller commits.
pub async fn fold(tx: &mut Tx, before_ms: i64, limit: u32) -> Answer<u64> {
    let mut gone = 0_u64;
    for journal in [Journal::Credits, Journal::Debits] {
        let (table, key) = (journal.table(), journal.key());
        let rows = sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE created_ms < $1 \
               ORDER BY created_ms, {key} LIMIT $2 FOR UPDATE SKIP LOCKED) \
             RETURNING sender, session, amount"
        )))
        .bind(before_ms)
        .bind(i64::from(limit))
        .fetch_all(&mut **tx)
        .await?;
        let mut sums = Sums::default();
        for row in &rows {
            let amount = parsed::<Rational>(row, "amount")?;
            sums.add(row.text("sender")?, row.text("session")?, &amount);
        }
        for (key, amount) in sums.into_accounts()? {
            let found = accounts::find_to_change(tx, &key).await?;
            let mut account = found.ok_or(LedgerError::Corrupt { what: "journal" })?;
            let sum = journal.folded(&mut account);
            *sum += &amount;
            let text = sum.to_string();
            sqlx::query(AssertSqlSafe(format!(
                "UPDATE accounts SET {} = $3 WHERE sender = $1 AND session = $2",
                journal.column()
            )))
            .bind(address_text(key.sender()))
            .bind(key.session())
            .bind(text)
            .execute(&mut **tx)
            .await?;
        }
        gone = gone.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
    }
    Ok(gone)
}
