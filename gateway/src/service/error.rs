//! What can go wrong with a job, whichever kind it is.

use penstock_clients::CallError;
use penstock_store::StoreError;
use penstock_wire::WireError;
use thiserror::Error;

/// A job that gave no result. Says whose fault it is by its variant; `crate::error` maps it to a
/// status.
#[derive(Debug, Error)]
pub enum JobError {
    /// Nobody can take it now: try again later.
    #[error("{0}")]
    NoOrchestrators(String),
    /// Everybody who was tried failed; the last one's words.
    #[error("hit max transcode attempts: {0}")]
    Exhausted(String),
    /// Other jobs of ours are in the way everywhere: try again at once.
    #[error("busy: {0}")]
    Busy(String),
    /// The job itself cannot be done, wherever it goes: the caller's to change.
    #[error("{0}")]
    Rejected(String),
    /// A budget, spend rate or request rate of the caller's account at the signer is used up.
    #[error("{why}")]
    Budget {
        /// The signer's words.
        why: String,
        /// When it is worth coming again, if the signer said so.
        retry_after_s: Option<u32>,
    },
    /// The signer does not pay for this caller's job, whoever does it.
    #[error("{0}")]
    Forbidden(String),
    /// The signer cannot be reached or refuses: the operator's to change.
    #[error("the signer does not pay: {0}")]
    Signer(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug or a peer's impossible answer.
    #[error("{0}")]
    Internal(String),
}

impl JobError {
    /// When the signer said that it is worth coming again, seconds.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Budget { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }
}

/// Why one try at one orchestrator failed, and what that means for the next.
#[derive(Debug, Error)]
pub enum TryError {
    /// A call failed; its own classification says what to do.
    #[error("{}", .0.message())]
    Call(#[from] CallError),
    /// The offer lacks something that a paid job needs, or a result is malformed.
    #[error(transparent)]
    Offer(#[from] WireError),
    /// The result is not what was asked and paid for.
    #[error("{0}")]
    BadResult(&'static str),
    /// The credit needed is beyond what we buy at once.
    #[error("one job would need {units} units of credit, more than is bought for one job")]
    TooDear {
        /// Units missing.
        units: u64,
    },
    /// The offer has become dearer than `--max-price`.
    #[error("the price is above the limit")]
    PriceAboveLimit,
    /// Somebody else holds the payment lease and did not finish in time.
    #[error("the payment session is busy")]
    LeaseBusy,
    /// Nobody waits for the answer any more.
    #[error("the client hung up")]
    Unheard {
        /// Whether the job had been sent: orchestrators charge a stream before it begins.
        sent: bool,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
