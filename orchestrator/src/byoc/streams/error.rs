//! Why a request about a stream is refused. The texts are the network's.

use crate::byoc::error::ByocError;
use http::StatusCode;
use penstock_trickle::Refusal;
use thiserror::Error;

/// Why a request is refused.
#[derive(Debug, Error)]
pub enum StreamError {
    /// No start: 402 without money, 503 without books, else 400.
    #[error("{0}")]
    Start(#[source] ByocError),
    /// Neither stopped nor changed (400).
    #[error("Failed to stop stream, request not valid err={0}")]
    Request(#[source] ByocError),
    /// A payment that may not be made, or leaves less than a minute (400).
    #[error("Failed to process payment, request not valid err={0}")]
    Payment(#[source] ByocError),
    /// An id that no header can carry (400).
    #[error("invalid stream id")]
    Id,
    /// The body is no JSON object (400).
    #[error("Invalid JSON body")]
    Body,
    /// There is one of this id (500, as in the reference).
    #[error("stream already exists: {0}")]
    Exists(String),
    /// There is none of this id, or it is another's (404).
    #[error("stream not found")]
    NotFound,
    /// A bound of the channels is met (503).
    #[error("OrchestratorBusy")]
    Channels(#[from] Refusal),
    /// The worker did not answer (500).
    #[error("Error sending request to worker")]
    Worker,
    /// No random numbers: ours (500).
    #[error("internal error")]
    Random,
}

impl StreamError {
    /// The status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Start(error) | Self::Request(error) | Self::Payment(error) => match error {
                ByocError::Money(_) | ByocError::NoBooks | ByocError::Full { .. } => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                ByocError::InsufficientBalance { .. } | ByocError::UsedUp
                    if matches!(self, Self::Start(_)) =>
                {
                    StatusCode::PAYMENT_REQUIRED
                }
                _ => StatusCode::BAD_REQUEST,
            },
            Self::Id | Self::Body => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Channels(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Exists(_) | Self::Worker | Self::Random => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
