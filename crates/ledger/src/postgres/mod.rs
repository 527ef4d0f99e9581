//! Connections to PostgreSQL for both ledgers: settings that durability rests on, pools that wait for
//! nobody for ever, transactions on connections that are kept, and what to do with a silent server.

pub mod bounded_pool;
#[cfg(test)]
pub mod line;
pub mod pools;
pub mod silence;
pub mod transaction;

/// An error of the books that may be a connection's.
pub trait Fault: From<sqlx::Error> {
    /// What the database said, if it is what went wrong.
    fn database(&self) -> Option<&sqlx::Error>;
}
