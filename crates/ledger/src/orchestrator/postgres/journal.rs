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
    let (mut gone, mut sums) = (0_u64, Sums::default());
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
        for row in &rows {
            let amount = parsed::<Rational>(row, "amount")?;
            sums.add(journal, row.text("sender")?, row.text("session")?, &amount);
        }
        gone = gone.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
    }
    for (key, sum) in sums.into_accounts()? {
        let found = accounts::find_to_change(tx, &key).await?;
        let mut account = found.ok_or(LedgerError::Corrupt { what: "journal" })?;
        sum.add_to(&mut account);
        sqlx::query(
            "UPDATE accounts SET folded_credits = $3, folded_debits = $4 \
             WHERE sender = $1 AND session = $2",
        )
        .bind(address_text(key.sender()))
        .bind(key.session())
        .bind(account.folded_credits.to_string())
        .bind(account.folded_debits.to_string())
        .execute(&mut **tx)
        .await?;
    }
    Ok(gone)
}
