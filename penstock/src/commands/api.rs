//! One role's HTTP interface: bounded JSON answers, and failures in words.

use std::time::Duration;

use penstock_clients::{HttpOptions, http};
use penstock_config::Secret;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::CommandError;

/// A command waits this long; a role that takes longer is in trouble.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For what waits for a chain: longer than a transaction is tried with usual settings.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Largest answer read: the longest page of payments stays below.
const MAX_ANSWER: usize = 16 << 20;

/// A role, found.
#[derive(Debug)]
pub(super) struct Api {
    role: &'static str,
    setting: &'static str,
    base: String,
    token: Option<Secret>,
    client: reqwest::Client,
}

/// The error envelope of every role.
#[derive(Deserialize)]
struct Envelope {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

impl Api {
    /// `role` and `setting` (the flag that holds `base`) are for error texts.
    pub(super) fn new(
        role: &'static str,
        setting: &'static str,
        base: String,
        token: Option<Secret>,
    ) -> Result<Self, CommandError> {
        let options = HttpOptions { total_timeout: Some(TIMEOUT), ..HttpOptions::default() };
        let client = http(&options)
            .map_err(|error| CommandError::Setting { setting, reason: error.to_string() })?;
        Ok(Self { role, setting, base, token, client })
    }

    /// The base address.
    #[cfg(test)]
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The answer to a GET, as it is.
    pub(super) async fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.send(path, self.client.get(self.url(path))).await
    }

    /// The answer to a POST, as it is.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.send(path, self.client.post(self.url(path)).json(body)).await
    }

    /// The answer to a POST that waits for a chain, and is done once for this key.
    pub(super) async fn post_to_chain(
        &self,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Result<Value, CommandError> {
        let request = self.client.post(self.url(path)).timeout(CHAIN_TIMEOUT);
        self.send(path, request.header("idempotency-key", key).json(body)).await
    }

    /// The answer to a PUT, as it is.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.send(path, self.client.put(self.url(path)).json(body)).await
    }

    /// The answer to a PATCH, as it is.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.send(path, self.client.patch(self.url(path)).json(body)).await
    }

    /// Removes something.
    pub(super) async fn delete(&self, path: &str) -> Result<(), CommandError> {
        self.bytes(path, self.client.delete(self.url(path))).await.map(|_| ())
    }

    /// The answer to a GET that is text.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, CommandError> {
        let body = self.bytes(path, self.client.get(self.url(path))).await?;
        String::from_utf8(body).map_err(|error| self.bad_answer(path, error.to_string()))
    }

    /// The same with a query.
    pub(super) async fn get_text_with(
        &self,
        path: &str,
        query: &[(&str, &String)],
    ) -> Result<String, CommandError> {
        let body = self.bytes(path, self.client.get(self.url(path)).query(query)).await?;
        String::from_utf8(body).map_err(|error| self.bad_answer(path, error.to_string()))
    }

    /// An answer in the shape that the command shows.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: &Value,
    ) -> Result<T, CommandError> {
        T::deserialize(answer).map_err(|error| self.bad_answer(path, error.to_string()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Value, CommandError> {
        let body = self.bytes(path, request).await?;
        serde_json::from_slice(&body).map_err(|error| self.bad_answer(path, error.to_string()))
    }

    /// The body of a success.
    async fn bytes(
        &self,
        path: &str,
        mut request: reqwest::RequestBuilder,
    ) -> Result<Vec<u8>, CommandError> {
        if let Some(token) = &self.token {
            // The one place where the token leaves its wrapping: the header it is made for.
            request = request.bearer_auth(token.expose());
        }
        let unreachable = |error: reqwest::Error| CommandError::Unreachable {
            role: self.role,
            setting: self.setting,
            url: self.url(path),
            reason: root_cause(&error),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err(self.bad_answer(path, "it is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        Err(match serde_json::from_slice::<Envelope>(&body) {
            Ok(envelope) => self.refused(status.as_u16(), envelope.error.message),
            Err(_) => self.bad_answer(path, format!("status {status}")),
        })
    }

    fn refused(&self, status: u16, message: String) -> CommandError {
        let hint = match status {
            401 => "; say --admin-token-file",
            _ => "",
        };
        CommandError::Refused { role: self.role, status, message, hint }
    }

    fn bad_answer(&self, path: &str, reason: String) -> CommandError {
        CommandError::BadAnswer {
            role: self.role,
            setting: self.setting,
            url: self.url(path),
            reason,
        }
    }
}

/// The innermost error: "connection refused" rather than "error sending request".
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
