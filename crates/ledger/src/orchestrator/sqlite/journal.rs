//! Old rows of the journals go; their sums stay with the accounts.

use super::accounts;
use crate::{
    orchestrator::{
        LedgerError,
        fold::{Journal, Sums},
        rows::{Fields as _, address_text, parsed},
    },
    sqlite::writer::{Tx, all},
};
use penstock_domain::Rational;
use rusqlite::params;

/// Folds the oldest rows of both journals.
pub fn fold(tx: &Tx, before_ms: i64, limit: u32) -> Result<u64, LedgerError> {
    let (mut gone, mut sums) = (0_u64, Sums::default());
    for journal in [Journal::Credits, Journal::Debits] {
        let (table, key) = (journal.table(), journal.key());
        let mut oldest = tx.prepare_cached(&format!(
            "DELETE FROM {table} WHERE {key} IN \
             (SELECT {key} FROM {table} WHERE created_ms < ?1 ORDER BY created_ms, {key} LIMIT ?2) \
             RETURNING sender, session, amount"
        ))?;
        let rows = all(&mut oldest, params![before_ms, limit], |row| {
            Ok::<_, LedgerError>((
                row.text("sender")?,
                row.text("session")?,
                parsed::<Rational>(row, "amount")?,
            ))
        })?;
        gone = gone.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        for (sender, session, amount) in rows {
            sums.add(journal, sender, session, &amount);
        }
    }
    for (key, sum) in sums.into_accounts()? {
        let found = accounts::find(tx, &key)?;
        let mut account = found.ok_or(LedgerError::Corrupt { what: "journal" })?;
        sum.add_to(&mut account);
        let mut set = tx.prepare_cached(
            "UPDATE accounts SET folded_credits = ?, folded_debits = ? \
             WHERE sender = ? AND session = ?",
        )?;
        set.execute(params![
            account.folded_credits.to_string(),
            account.folded_debits.to_string(),
            address_text(key.sender()),
            key.session(),
        ])?;
    }
    Ok(gone)
}
