//! Requests to a devnet server, and what their failures mean.

use crate::wire::{ReceiptView, TransactionRequest};
use penstock_chain::{ChainError, Revert};
use penstock_http_kit::tls::install_crypto_provider;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::Duration;

/// Time to a connection. A devnet is on this machine or beside it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time to a whole answer; a transaction waits for the disk and for those before it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer read: a full pool with the longest URIs stays far below.
const MAX_ANSWER: usize = 1 << 20;

/// Codes of the error envelope that mean something to the client.
pub(crate) mod code {
    /// The contract's revert; the message is its text.
    pub(crate) const REVERTED: &str = "reverted";
    /// The account's nonce is another one.
    pub(crate) const NONCE: &str = "nonce";
}

/// A devnet server.
#[derive(Debug, Clone)]
pub(super) struct Http {
    base: String,
    client: reqwest::Client,
}

/// The outcome of a signed transaction that was not refused.
pub(super) enum Transacted {
    /// It is on the chain.
    Done(ReceiptView),
    /// It must be signed again with another nonce.
    NonceTaken,
}

/// The error envelope.
#[derive(Deserialize)]
struct Envelope {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    message: String,
    #[serde(default)]
    code: String,
}

impl Http {
    pub(super) fn new(base: String) -> Result<Self, ChainError> {
        install_crypto_provider();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ChainError::Unavailable { reason: error.to_string() })?;
        Ok(Self { base, client })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ChainError> {
        self.answer(self.client.get(self.url(path))).await?.map_err(ChainError::from)
    }

    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ChainError> {
        self.answer(self.client.post(self.url(path)).json(body)).await?.map_err(ChainError::from)
    }

    pub(super) async fn transact(
        &self,
        request: &TransactionRequest,
    ) -> Result<Transacted, ChainError> {
        let answer = self.answer(self.client.post(self.url("/v1/transactions")).json(request));
        match answer.await? {
            Ok(view) => Ok(Transacted::Done(view)),
            Err(fault) if fault.code == code::NONCE => Ok(Transacted::NonceTaken),
            Err(fault) => Err(fault.into()),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends, and reads the answer or the envelope of a 4xx.
    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Result<T, Fault>, ChainError> {
        let unreachable = |error: reqwest::Error| ChainError::Unreachable {
            reason: format!("{} ({})", self.base, root_cause(&error)),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err(bad_answer("it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        read(status, &body)
    }
}

/// What an answer of this status and body means.
fn read<T: DeserializeOwned>(
    status: StatusCode,
    body: &[u8],
) -> Result<Result<T, Fault>, ChainError> {
    if status.is_success() {
        return serde_json::from_slice(body)
            .map(Ok)
            .map_err(|error| bad_answer(&error.to_string()));
    }
    let envelope = serde_json::from_slice::<Envelope>(body);
    if status.is_client_error() {
        return match envelope {
            Ok(envelope) => Ok(Err(envelope.error)),
            Err(_) => Err(bad_answer(&format!("status {status} without an error envelope"))),
        };
    }
    let reason = envelope.map_or_else(|_| status.to_string(), |envelope| envelope.error.message);
    Err(ChainError::Unavailable { reason })
}

fn bad_answer(reason: &str) -> ChainError {
    ChainError::BadAnswer { reason: reason.to_owned() }
}

/// The innermost error: "connection refused" rather than "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl From<Fault> for ChainError {
    fn from(fault: Fault) -> Self {
        if fault.code == code::REVERTED {
            Self::Reverted(Revert::from_text(&fault.message))
        } else {
            Self::Refused { reason: fault.message.chars().take(512).collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> ChainError {
        let status = StatusCode::from_u16(status).unwrap();
        match read::<ReceiptView>(status, body.as_bytes()) {
            Err(error) => error,
            Ok(Err(fault)) => fault.into(),
            Ok(Ok(view)) => panic!("{view:?}"),
        }
    }

    #[test]
    fn faults_say_whose_they_are() {
        let used = r#"{"error":{"message":"ticket is used","code":"reverted"}}"#;
        assert_eq!(error(422, used), ChainError::Reverted(Revert::Used));
        let refused = error(400, r#"{"error":{"message":"no"}}"#);
        assert_eq!(refused, ChainError::Refused { reason: "no".into() });
        assert!(matches!(error(503, "busy"), ChainError::Unavailable { .. }));
        assert!(matches!(error(404, "<html>"), ChainError::BadAnswer { .. }));
        assert!(matches!(error(200, "{}"), ChainError::BadAnswer { .. }));
    }
}
