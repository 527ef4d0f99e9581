//! Why a request about a training job is refused.

use crate::{byoc::error::ByocError, service::cashier::MoneyError};
use http::StatusCode;
use penstock_ledger::orchestrator::LedgerError;
use thiserror::Error;

/// Why a request is refused. Clients go elsewhere at 500 and above, and come again at 503.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// The path names another capability than the signed job (400).
    #[error("the path is not that of the job's capability")]
    Capability,
    /// No JSON object with a `model_id` (400).
    #[error("Invalid JSON body: {0}")]
    Body(&'static str),
    /// The worker could not be asked (500).
    #[error("Error sending request to worker")]
    Worker,
    /// The balance was used up before it began (400).
    #[error("{0}")]
    Money(#[source] ByocError),
    /// There is no such job (404).
    #[error("job not found")]
    NotFound,
    /// It has ended: nothing is taken for it any more (409).
    #[error("the job has ended")]
    Ended,
    /// Somebody else's payment (403).
    #[error("the payment is not by the job's sender")]
    Payer,
    /// The payment is no good (400), or we cannot take it (503).
    #[error("{0}")]
    Payment(#[source] MoneyError),
    /// The ledger cannot be asked (503).
    #[error("the ledger is not available")]
    Ledger(#[source] LedgerError),
    /// There are no payments here (400).
    #[error("there are no payments off-chain")]
    Free,
    /// No random numbers: ours (500).
    #[error("internal error")]
    Random,
}

impl TrainingError {
    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Capability | Self::Body(_) | Self::Free => StatusCode::BAD_REQUEST,
            Self::Money(ByocError::NoBooks) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Money(_) => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Ended => StatusCode::CONFLICT,
            Self::Payer => StatusCode::FORBIDDEN,
            Self::Payment(error) if error.is_callers_fault() => StatusCode::BAD_REQUEST,
            Self::Payment(_) | Self::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Worker | Self::Random => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
