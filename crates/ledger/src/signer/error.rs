//! Why the books did not answer.

use crate::{DatabaseError, postgres::Fault};
use std::{io, sync::Arc};
use thiserror::Error;

/// Why the books did not answer. Never the caller's fault.
#[derive(Debug, Clone, Error)]
pub enum LedgerError {
    /// The database is away, full or locked. A write may have happened or not: asking again finds
    /// out, and is safe. Shared, because one failed transaction may have carried several requests.
    #[error("the ledger is not available")]
    Unavailable(#[source] Arc<DatabaseError>),
    /// A row does not read back as what was written: an operator has to look.
    #[error("the ledger holds an unreadable {0}")]
    Corrupt(&'static str),
    /// The ledger was closed while the request was waiting.
    #[error("the ledger is closed")]
    Closed,
    /// The caller broke the port's rules (a bug, refused rather than booked).
    #[error("refused by the ledger: {0}")]
    Misuse(&'static str),
}

impl Fault for LedgerError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Unavailable(error) => match &**error {
                DatabaseError::Sqlx(error) => Some(error),
                DatabaseError::Sqlite(_) | DatabaseError::Closed => None,
            },
            _ => None,
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            error => Self::Unavailable(Arc::new(error.into())),
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(Arc::new(error.into()))
    }
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Closed => Self::Closed,
            error => Self::Unavailable(Arc::new(error)),
        }
    }
}

/// The database is of no use now, for a reason that it does not say itself.
pub(super) fn away(reason: &'static str) -> LedgerError {
    sqlx::Error::Io(io::Error::other(reason)).into()
}
