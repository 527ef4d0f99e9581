//! The signer's books: payment sessions, payments with their stored answers, nonces handed out.
//!
//! Three rules live here and nowhere else. A nonce range is durable before it is returned and is
//! never returned twice. A payment of a session is stored once, by compare-and-swap on the
//! session's sequence number; whoever comes second gets the first one's answer. And the balance
//! is computed here, in the same transaction, as `old + tickets × EV − fee`.

mod records;
mod rows;
mod sqlite;

#[cfg(test)]
mod conformance;

pub use records::{
    Binding, Committed, ManifestBinding, NewPayment, NewSession, NonceRange, PaymentRow,
    ReserveRequest, Reserved, Session, StoredPayment, Summary,
};
pub use sqlite::SqliteSignerLedger;

use async_trait::async_trait;
use penstock_domain::StateId;
use std::sync::Arc;
use thiserror::Error;

/// The schema of the signer's SQLite ledger (`migrations/signer/sqlite`).
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/signer/sqlite");

/// Why the books did not answer. Never the caller's fault.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The database is away, full or locked: nothing is known to have changed. Retry.
    /// Shared, because one failed transaction may have carried several requests.
    #[error("the ledger is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
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

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

/// The port. Every method is one transaction, durable when it returns.
#[async_trait]
pub trait SignerLedger: Send + Sync {
    /// A payment session by its id.
    async fn session(&self, id: &StateId) -> Result<Option<Session>, LedgerError>;

    /// The stored payment with this sequence number, for a request that was answered before.
    async fn payment(
        &self,
        id: &StateId,
        sequence: u64,
    ) -> Result<Option<StoredPayment>, LedgerError>;

    /// The first payment of the session that `account` opened with this idempotency key.
    async fn first_payment(
        &self,
        account: &str,
        key: &str,
    ) -> Result<Option<StoredPayment>, LedgerError>;

    /// Takes `count` nonces off the hash's row for one payment. Answers [`Reserved::Answered`]
    /// instead when that payment has been stored meanwhile.
    async fn reserve(&self, request: ReserveRequest) -> Result<Reserved, LedgerError>;

    /// Stores a signed payment and advances (or creates) its session. If another one got there
    /// first, nothing changes and that one comes back; the caller's tickets must be forgotten.
    async fn commit(&self, payment: NewPayment) -> Result<Committed, LedgerError>;

    /// Uses up every hash in the books, so that each asks for fresh ticket parameters from now on:
    /// after a restore from a backup nobody knows which nonces were used since. Says how many.
    async fn fence(&self) -> Result<u64, LedgerError>;

    /// The newest payments, newest first.
    async fn payments(&self, limit: u32) -> Result<Vec<PaymentRow>, LedgerError>;

    /// The newest sessions, newest first.
    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, LedgerError>;

    /// Totals over everything.
    async fn summary(&self) -> Result<Summary, LedgerError>;

    /// Whether the ledger takes writes now, for readiness.
    async fn ping(&self) -> Result<(), LedgerError>;

    /// Finishes what is queued and closes; later calls answer [`LedgerError::Closed`].
    async fn close(&self);
}
