//! Why a brought capability's job, or terms for one, are refused. The texts are the network's.

use crate::{
    release::Reason,
    service::cashier::{MoneyError, Shortfall},
};
use thiserror::Error;

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum ByocError {
    /// The job request, or its signature (400).
    #[error("Could not verify job creds")]
    Credentials,
    /// It does not say how long it may take (400).
    #[error("no timeout_seconds set with request, timeout_seconds is required")]
    NoTimeout,
    /// Nobody has registered it (503).
    #[error("No capacity available for capability")]
    NoCapacity,
    /// The bound of this process is met (503).
    #[error(
        "No capacity available for capability: {most} of {most} jobs of brought capabilities are under way \
         (--max-byoc-jobs)"
    )]
    Full {
        /// How many there may be.
        most: u32,
    },
    /// Less than a minute's worth of balance (400).
    #[error(
        "Insufficient balance for request: {short} are free for this capability, which work needs to begin and to \
         go on (--byoc-least-seconds); {}", what_to_do(refused.as_deref())
    )]
    InsufficientBalance {
        /// What is there.
        short: Shortfall,
        /// Why the payment that came with it does not count, if one did.
        refused: Option<String>,
    },
    /// The balance was used up before the work was done (400).
    #[error(
        "Insufficient balance for request: it was used up before the work was done; pay more at once"
    )]
    UsedUp,
    /// The books were away for too long while a job ran (503).
    #[error("the ledger is not available")]
    NoBooks,
    /// The path leads elsewhere than below the worker's (400).
    #[error("invalid path")]
    Path,
    /// The header that says who asks for terms is not there (400).
    #[error("Must have eth address and signature on address in Livepeer-Eth-Address header")]
    NoAddress,
    /// It does not prove it (400).
    #[error("Invalid eth address header ")]
    Address,
    /// The header that says what for is not there (400).
    #[error(
        "Job capabilities not provided, must provide comma separated capabilities in \
         Livepeer-Capability header"
    )]
    NoCapability,
    /// No terms can be made: 503 where another orchestrator may do better, else 400.
    #[error("Could not get price err={0}")]
    Terms(#[source] MoneyError),
    /// The books are away (503).
    #[error("{0}")]
    Money(#[source] MoneyError),
    /// The worker's secret (400, as in the reference).
    #[error("invalid authorization")]
    Secret,
    /// A registration that makes no sense (400).
    #[error("Error registering capability: {0}")]
    Registration(String),
}

fn what_to_do(refused: Option<&str>) -> String {
    refused.map_or_else(
        || "pay more".to_owned(),
        |why| format!("the payment that came was not taken: {why}"),
    )
}

impl ByocError {
    /// Why room is given back when its job ends so.
    pub fn reason(&self) -> Reason {
        match self {
            Self::InsufficientBalance { .. } | Self::UsedUp => Reason::PaymentFailed,
            Self::NoBooks => Reason::LedgerUnavailable,
            Self::Money(error) | Self::Terms(error) => error.reason(),
            Self::NoCapacity | Self::Full { .. } => Reason::Busy,
            _ => Reason::RequestRefused,
        }
    }
}
