//! What a database said, by whichever way it was asked.

use thiserror::Error;

/// What a database said. Never the caller's fault.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// PostgreSQL, and SQLite's readers.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    /// SQLite's writer.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// SQLite's writer was closed.
    #[error("the ledger is closed")]
    Closed,
}
