//! What can be wrong with bytes from a peer. Always the peer's fault; sending the same bytes
//! again gives the same error.

use thiserror::Error;

/// A message, header or JSON document that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// More than the limit; nothing of it was decoded.
    #[error("{what} is longer than {max} bytes")]
    TooLong {
        /// Which thing.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// More entries than the limit.
    #[error("{what} has more than {max} entries")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Not standard base64 with padding.
    #[error("base64 decode error in {0}")]
    Base64(&'static str),
    /// Not the protobuf message that was expected.
    #[error("protobuf unmarshal error in {what}: {reason}")]
    Protobuf {
        /// Which message.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// Not the JSON that was expected.
    #[error("invalid JSON in {what}: {reason}")]
    Json {
        /// Which document.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// A field that must be there is not.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A field whose value is not allowed.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// Which field.
        what: &'static str,
        /// What is expected of it.
        reason: &'static str,
    },
}

impl WireError {
    pub(crate) fn invalid(what: &'static str, reason: &'static str) -> Self {
        Self::Invalid { what, reason }
    }
}

/// Refuses a text or byte string above its limit.
pub(crate) fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooLong { what, max }) } else { Ok(()) }
}

/// Refuses a list above its limit.
pub(crate) fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooMany { what, max }) } else { Ok(()) }
}
