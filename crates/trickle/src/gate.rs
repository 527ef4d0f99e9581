//! Who may do what: asked before every HTTP request, never for this process's own calls.

use async_trait::async_trait;
use http::{StatusCode, request::Parts};
use thiserror::Error;

/// What a request is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `POST {name}`.
    Create,
    /// `DELETE {name}`.
    Delete,
    /// `POST {name}/{idx}`.
    Publish {
        /// The channel is missing and would be created by it.
        creates: bool,
    },
    /// `GET {name}/{idx}`.
    Subscribe,
    /// `GET {name}/next`.
    Query,
    /// `DELETE {name}/{idx}`.
    CloseSegment,
}

/// A request at the gate.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// What it would do.
    pub action: Action,
    /// To which channel, whether it is there or not.
    pub channel: &'a str,
    /// Its head: method, path, headers, and what the listener knows of the peer.
    pub request: &'a Parts,
}

/// The gate's no.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// The peer may not. Its status, if it is one of 400 to 499 (400 if not), and words for the
    /// peer; without words, the status' own.
    #[error("refused with {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the peer reads.
        message: String,
    },
    /// It could not be decided: our fault, status 500.
    #[error("{0}")]
    Failed(String),
}

impl Denied {
    /// Status and words of the answer.
    pub(crate) fn answer(self) -> (StatusCode, String) {
        match self {
            Self::Refused { status, message } => {
                let status = StatusCode::from_u16(status)
                    .ok()
                    .filter(StatusCode::is_client_error)
                    .unwrap_or(StatusCode::BAD_REQUEST);
                let own = || status.canonical_reason().unwrap_or("refused").to_owned();
                (status, if message.is_empty() { own() } else { message })
            }
            Self::Failed(message) => (StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

/// Decides who may do what.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Asked before the channel is looked for, so that a stranger does not learn which there are.
    async fn admit(&self, access: Access<'_>) -> Result<(), Denied>;
}

/// Lets everybody do everything that the settings allow, as the reference does: whoever knows a
/// channel's name may use it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

#[async_trait]
impl Gate for Open {
    async fn admit(&self, _access: Access<'_>) -> Result<(), Denied> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_client_error_whatever_the_gate_says() {
        let of = |status, text: &str| {
            let (status, message) = Denied::Refused { status, message: text.to_owned() }.answer();
            (status.as_u16(), message)
        };
        assert_eq!(of(403, "nope"), (403, "nope".to_owned()));
        assert_eq!(of(401, ""), (401, "Unauthorized".to_owned()));
        assert_eq!(of(200, ""), (400, "Bad Request".to_owned()));
        assert_eq!(of(500, "x"), (400, "x".to_owned()));
        assert_eq!(of(1, "x"), (400, "x".to_owned()));
        assert_eq!(of(470, ""), (470, "refused".to_owned()));
        assert_eq!(Denied::Failed("boom".to_owned()).answer().0.as_u16(), 500);
    }
}
