//! What can go wrong with the books, and what to do about it.

use thiserror::Error;

/// A ledger call failed. In both cases nothing was changed.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The database is away or busy: retry, and acknowledge nothing meanwhile.
    #[error("the ledger is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A stored value does not read back: an operator must look, a retry will not help.
    #[error("the ledger holds an unreadable {what}")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}
