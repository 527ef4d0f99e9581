//! What can go wrong in a store, whichever backend it is.

use thiserror::Error;

/// What a file of media is called in [`StoreError::TooLarge`].
pub const SEGMENT: &str = "a segment";

/// Says whether to retry; none of them is the caller's client's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The backend could not be reached or did not answer: retry, then answer 503.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// A bound was reached: shed load (503), nothing was changed.
    #[error("the store is full: {0}")]
    Full(&'static str),
    /// One value is larger than the store takes: give up, retrying cannot help.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What was being stored.
        what: &'static str,
        /// The limit.
        limit_bytes: usize,
    },
    /// Stored bytes do not decode: treat the record as absent and say so in the log.
    #[error("a stored {0} cannot be read")]
    Corrupt(&'static str),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }
}
