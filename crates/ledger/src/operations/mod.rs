//! What an account was asked to do on the chain: fund, unlock, bond, call a reward. Each is asked for under an
//! idempotency key; asked for again under it, it is not done twice, and gets the same answer.
//!
//! [`OperationLedger`] keeps them, for the signer and for the orchestrator, each in its own database. [`Operations`] does
//! them: one at a time for all processes of the books, with a lease that lapses when a process dies. What one has sent
//! is noted here before anybody has it, so that whoever goes on with it sends nothing twice.

mod books;
#[cfg(test)]
mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod open;
mod plan;
mod service;

pub use open::{open_orchestrator, open_signer};
pub use service::{OperationError, Operations};

use crate::signer::LedgerError;
use async_trait::async_trait;
use penstock_chain::Receipt;
use penstock_domain::Wei;

/// How long an ended operation is remembered: a year. Its key is a new one after that.
pub const KEPT_MS: i64 = 366 * 24 * 3_600 * 1_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The idempotency key.
    pub key: String,
    /// What is to be done, in the role's own form; the same for the same wish.
    pub content: String,
}

/// Who asks, when, and for how long he may be silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Names the process. Its next life has the same name, and takes over at once.
    pub holder: String,
    /// Now.
    pub now_ms: i64,
    /// Without a renewal for so long, somebody else may go on.
    pub lease_ms: i64,
}

/// The right to do one operation, until somebody has a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationFence(pub u64);

/// What became of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is the caller's to do. `is_new`: nobody began it before.
    Yours {
        /// For what follows.
        fence: OperationFence,
        /// Whether nobody began it before.
        is_new: bool,
    },
    /// Another one has to come to its end first: somebody sent it, and is gone. The caller has the right to do that.
    First {
        /// For what follows.
        fence: OperationFence,
        /// That one.
        left: Wanted,
    },
    /// It was done before: this is its answer.
    Done(Receipt),
    /// It failed on the chain before, in these words.
    Failed(String),
    /// The key stands for something else.
    OtherContent,
    /// Another process does one now.
    UnderWay {
        /// That one's key.
        key: String,
        /// Until when that process may be silent.
        until_ms: i64,
    },
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It is on the chain.
    Done(Receipt),
    /// The chain refused it, for good where something of it is on the chain; where nothing was ever sent, the key may be
    /// used again.
    Refused(String),
    /// Nobody knows yet: it stays as it is, and the right is given back.
    Open,
}

/// What the account's transactions may cost, ether that goes along and gas at most; `None` = anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendLimits {
    /// One transaction.
    pub per_transaction: Option<Wei>,
    /// All of a UTC day.
    pub per_day: Option<Wei>,
}

/// What may be spent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// The transaction takes no more than this.
    pub most: Wei,
    /// Days since 1970.
    pub day: i64,
}

/// What came of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It is counted.
    Yes,
    /// It would be too much for one. Nothing is counted.
    AboveTransaction {
        /// That limit.
        limit: Wei,
    },
    /// It would be too much for the day. Nothing is counted.
    AboveDay {
        /// That limit.
        limit: Wei,
        /// What others of the day counted.
        others: Wei,
    },
    /// Somebody else has the right. Nothing is counted.
    Lost,
}

/// The books of operations. Every write is durable when it returns.
#[async_trait]
pub trait OperationLedger: Send + Sync {
    /// Asks for one.
    async fn begin(&self, wanted: &Wanted, terms: &Terms) -> Result<Begun, LedgerError>;

    /// More time. `false`: somebody else has the right.
    async fn renew(&self, fence: OperationFence, until_ms: i64) -> Result<bool, LedgerError>;

    /// The operation's note.
    async fn note(&self, key: &str) -> Result<Option<Vec<u8>>, LedgerError>;

    /// Writes or clears it. `false`: somebody else has the right, and nothing was written.
    async fn set_note(
        &self,
        key: &str,
        fence: OperationFence,
        note: Option<Vec<u8>>,
    ) -> Result<bool, LedgerError>;

    /// Counts what the operation's transaction may cost in place of what it counted before, within `limits`. An operation
    /// that ends without anything sent takes its count with it.
    async fn count(
        &self,
        key: &str,
        fence: OperationFence,
        spend: Spend,
        limits: &SpendLimits,
    ) -> Result<Counted, LedgerError>;

    /// What is counted on a day.
    async fn counted(&self, day: i64) -> Result<Wei, LedgerError>;

    /// Its end, and the end of the right. `false`: somebody else has the right, and nothing was written.
    async fn end(
        &self,
        key: &str,
        fence: OperationFence,
        ended: &Ended,
        now_ms: i64,
    ) -> Result<bool, LedgerError>;

    /// Ends the connections.
    async fn close(&self);
}
