//! What can go wrong with the books, and what to do about it.

use crate::{DatabaseError, postgres::Fault};
use thiserror::Error;

/// A ledger call failed. Never the caller's fault.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The database is away or busy: retry, and acknowledge nothing meanwhile. A write has happened as
    /// a whole or not at all; asking again with the same job id or tickets finds out, and is safe.
    #[error("the ledger is not available")]
    Unavailable(#[source] DatabaseError),
    /// A stored value does not read back: an operator must look, a retry will not help.
    #[error("the ledger holds an unreadable {what}")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error)
    }
}

impl Fault for LedgerError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Unavailable(DatabaseError::Sqlx(error)) => Some(error),
            Self::Unavailable(_) | Self::Corrupt { .. } => None,
        }
    }
}
