//! Why an orchestrator is not in the list: one word each, for the operator's page and the metrics.

use penstock_clients::{CallError, CallErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

/// A word for why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The poll that asks it first has not ended.
    NotAskedYet,
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// It answered with an error.
    Refused,
    /// Its answer cannot be read.
    BadAnswer,
    /// Its answer names no address: it could not be paid.
    NoAddress,
    /// Its answer names no price.
    NoPrice,
    /// Its answer names no service URI: it does no work itself.
    NoServiceUri,
    /// It offers nothing that can be listed.
    NoCapability,
    /// All that it offers costs more than the limits allow.
    Price,
    /// It is not the one that the chain registers for this URI, and those are refused.
    RegisteredKey,
}

impl Reason {
    /// All of them: each has a series from the start.
    pub(super) const ALL: [Self; 11] = [
        Self::NotAskedYet,
        Self::Unreachable,
        Self::Timeout,
        Self::Refused,
        Self::BadAnswer,
        Self::NoAddress,
        Self::NoPrice,
        Self::NoServiceUri,
        Self::NoCapability,
        Self::Price,
        Self::RegisteredKey,
    ];

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAskedYet => "not_asked_yet",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::BadAnswer => "bad_answer",
            Self::NoAddress => "no_address",
            Self::NoPrice => "no_price",
            Self::NoServiceUri => "no_service_uri",
            Self::NoCapability => "no_capability",
            Self::Price => "price",
            Self::RegisteredKey => "registered_key",
        }
    }
}

/// A poll of one orchestrator that gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub reason: Reason,
    /// In words, bounded.
    pub message: String,
}

impl Failure {
    /// Longest text kept of a peer's words.
    const MESSAGE_CHARS: usize = 256;

    pub fn new(reason: Reason, message: impl std::fmt::Display) -> Self {
        let message = message.to_string().chars().take(Self::MESSAGE_CHARS).collect();
        Self { reason, message }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let reason = match &error.kind {
            CallErrorKind::Url(_) | CallErrorKind::Request(_) | CallErrorKind::Connect(_) => {
                Reason::Unreachable
            }
            CallErrorKind::HeaderTimeout | CallErrorKind::BodyTimeout | CallErrorKind::Silent => {
                Reason::Timeout
            }
            CallErrorKind::Status { .. } | CallErrorKind::Grpc { .. } | CallErrorKind::Job(_) => {
                Reason::Refused
            }
            CallErrorKind::Broken(_)
            | CallErrorKind::AnswerTooLong { .. }
            | CallErrorKind::Answer(_)
            | CallErrorKind::NoResult => Reason::BadAnswer,
        };
        let words = match &error.kind {
            CallErrorKind::Answer(wire) => format!("unusable answer: {wire}"),
            kind => kind.to_string(),
        };
        Self::new(reason, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_metrics_say_the_same_word() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
