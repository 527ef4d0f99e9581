//! Who may call the signer, as the books have it: accounts, tiers, credentials, rules for single
//! subjects. A port of its own beside the money: it is small, it changes rarely, and every replica
//! holds all of it in memory.
//!
//! Two methods suffice. [`AccountLedger::apply`] writes several records or none, each by
//! compare-and-swap on its version. [`AccountLedger::changes`] gives what changed after a given
//! change number, in order, so that a replica that asks often reads little and misses nothing.
//! What a policy says is text here; the signer's types check it before it is written.

mod books;
mod open;
mod records;

#[cfg(test)]
mod conformance;

use books::{PostgresAccounts, SqliteAccounts};
pub use open::{open, open_within};
pub use records::{
    AccountRecord, Applied, Changes, CredentialKind, CredentialRecord, Expect, MAX_RECORDS, Put,
    Record, Refusal, Stamp, SubjectRecord, TierRecord,
};

use super::LedgerError;
use async_trait::async_trait;

/// The port. Every method is one transaction, durable when it returns.
#[async_trait]
pub trait AccountLedger: Send + Sync {
    /// Records whose last change came after `after` (0 for all), in the order of their changes, at
    /// most `limit` of them. Ask again from the last one's number until nothing comes.
    async fn changes(&self, after: u64, limit: u32) -> Result<Changes, LedgerError>;

    /// Writes all records, or none and says which one is in the way. `now_ms` is Unix milliseconds.
    async fn apply(&self, puts: Vec<Put>, now_ms: i64) -> Result<Applied, LedgerError>;

    /// Ends the connections.
    async fn close(&self);
}
