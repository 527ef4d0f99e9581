//! One call of Google's REST API: with a token, its errors sorted.

use crate::{
    Environment,
    gcp::{GcpKmsUri, token::Tokens},
    http::{Failed, client, read, retried, words},
};
use penstock_keys::KeyError;
use reqwest::{Client, Method};
use serde::{Deserialize, de::DeserializeOwned};

const SERVICE: &str = "Google Cloud KMS";

/// The service, with tokens that are fetched when needed.
pub(crate) struct Service {
    client: Client,
    tokens: Tokens,
    /// `ENDPOINT/v1/NAME`
    base: String,
}

impl Service {
    pub(crate) fn new(uri: &GcpKmsUri, environment: &Environment) -> Result<Self, KeyError> {
        let client = client()?;
        let tokens = Tokens::new(uri, environment, client.clone())?;
        let base = format!("{}v1/{}", uri.endpoint, uri.name);
        Ok(Self { client, tokens, base })
    }

    /// `suffix` follows the key version's name.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        suffix: &'static str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, KeyError> {
        let answer = retried(|| self.attempt(method.clone(), suffix, body)).await?;
        serde_json::from_slice(&answer).map_err(|_| KeyError::BadAnswer("not the JSON expected"))
    }

    async fn attempt(
        &self,
        method: Method,
        suffix: &'static str,
        body: Option<&serde_json::Value>,
    ) -> Result<Vec<u8>, Failed> {
        let token = self.tokens.get().await?;
        let mut request = self
            .client
            .request(method, format!("{}{suffix}", self.base))
            .bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| Failed::unreachable(SERVICE, error))?;
        let status = response.status().as_u16();
        let answer = read(SERVICE, response).await?;
        match status {
            200 => Ok(answer),
            401 => {
                // Revoked before its end; the next attempt fetches another.
                self.tokens.forget(&token).await;
                Err(Failed { again: true, ..refusal(status, &answer) })
            }
            _ => Err(refusal(status, &answer)),
        }
    }
}

fn refusal(status: u16, body: &[u8]) -> Failed {
    #[derive(Deserialize)]
    struct Body {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        status: String,
        #[serde(default)]
        message: String,
    }
    let (kind, message) = serde_json::from_slice(body)
        .map_or_else(|_| Default::default(), |b: Body| (b.error.status, b.error.message));
    let text = words(&format!("{SERVICE}: {status} {kind}: {message}"));
    match status {
        // ABORTED, RESOURCE_EXHAUSTED and everything of the server's.
        409 | 429 | 500.. => Failed { error: KeyError::Unavailable(text), again: true },
        _ => KeyError::Denied(text).into(),
    }
}
