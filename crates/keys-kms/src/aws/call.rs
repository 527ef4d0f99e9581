//! One call of AWS's JSON protocol: signed, sent, its errors sorted.

use crate::{
    Environment,
    aws::AwsKmsUri,
    http::{Failed, client, read, retried, words},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use penstock_keys::KeyError;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::{Context, Env, FileRead, HttpSend, OsEnv, Signer, StaticEnv};
use reqwest::Client;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::fmt;

const SERVICE: &str = "AWS KMS";

/// The service, with credentials that are fetched when needed and kept until they end.
pub(crate) struct Service {
    client: Client,
    uri: AwsKmsUri,
    signer: Signer<Credential>,
}

impl Service {
    pub(crate) fn new(uri: &AwsKmsUri, environment: &Environment) -> Result<Self, KeyError> {
        let client = client()?;
        let context = Context::new().with_file_read(Files).with_http_send(Sender(client.clone()));
        let context = match environment {
            Environment::Process => context.with_env(OsEnv),
            Environment::Fixed(variables) => {
                let home_dir = OsEnv.home_dir();
                context.with_env(StaticEnv { home_dir, envs: variables.clone() })
            }
        };
        // A program of the operator's choosing as a source is not offered: a signer runs no programs.
        let provider = DefaultCredentialProvider::builder().no_process().build();
        let signer = Signer::new(context, provider, RequestSigner::new("kms", &uri.region));
        Ok(Self { client, uri: uri.clone(), signer })
    }

    /// Calls `TrentService.{action}`, the name under which KMS goes.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        action: &'static str,
        body: &impl Serialize,
    ) -> Result<T, KeyError> {
        let body = serde_json::to_vec(body).map_err(|_| KeyError::BadAnswer("no request"))?;
        let body = Bytes::from(body);
        let answer = retried(|| self.attempt(action, body.clone())).await?;
        serde_json::from_slice(&answer).map_err(|_| KeyError::BadAnswer("not the JSON expected"))
    }

    async fn attempt(&self, action: &'static str, body: Bytes) -> Result<Vec<u8>, Failed> {
        let malformed = |_| KeyError::Denied("AWS KMS: the request cannot be written".to_owned());
        let hash = hex::encode(Sha256::digest(&body));
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.endpoint.as_str())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{action}"))
            .header(
                "x-amz-content-sha256",
                HeaderValue::from_str(&hash).map_err(|_| {
                    KeyError::Denied("AWS KMS: the request cannot be written".to_owned())
                })?,
            )
            .body(())
            .map_err(malformed)?;
        let (mut head, ()) = request.into_parts();
        self.signer.sign(&mut head, None).await.map_err(credentials)?;
        let request = Request::from_parts(head, body);
        let request = reqwest::Request::try_from(request)
            .map_err(|error| Failed::unreachable(SERVICE, error))?;
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| Failed::unreachable(SERVICE, error))?;
        let status = response.status();
        let answer = read(SERVICE, response).await?;
        if status.is_success() { Ok(answer) } else { Err(refusal(status.as_u16(), &answer)) }
    }
}

/// No credentials, or none that the source gives out.
fn credentials(error: reqsign_core::Error) -> Failed {
    let text = words(&format!("AWS credentials: {error}"));
    match error.is_retryable() {
        true => Failed { error: KeyError::Unavailable(text), again: true },
        // Instance metadata that do not answer now may do so later: not for the operator alone.
        false => Failed { error: KeyError::Unavailable(text), again: false },
    }
}

/// What a failed call means. The type's name is the protocol's error code.
fn refusal(status: u16, body: &[u8]) -> Failed {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "__type", default)]
        kind: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let body = serde_json::from_slice(body)
        .unwrap_or(Body { kind: String::new(), message: String::new() });
    let kind = body.kind.rsplit('#').next().unwrap_or_default();
    let text = words(&format!("{SERVICE}: {status} {kind}: {}", body.message));
    match kind {
        "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "KeyUnavailableException"
        | "DependencyTimeoutException"
        | "KMSInternalException" => Failed { error: KeyError::Unavailable(text), again: true },
        // New credentials come with the next attempt after these have ended.
        "ExpiredTokenException" => Failed { error: KeyError::Unavailable(text), again: false },
        _ if status >= 500 || status == 429 => {
            Failed { error: KeyError::Unavailable(text), again: true }
        }
        _ => KeyError::Denied(text).into(),
    }
}

/// Profiles and token files.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path)
            .await
            .map_err(|error| reqsign_core::Error::config_invalid(format!("{path}: {error}")))
    }
}

/// Requests for credentials: instance metadata, containers, token exchange.
struct Sender(Client);

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl HttpSend for Sender {
    async fn http_send(
        &self,
        request: Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |error: reqwest::Error| {
            reqsign_core::Error::unexpected(error.without_url().to_string()).set_retryable(true)
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let response = self.0.execute(request).await.map_err(failed)?;
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            headers.extend(response.headers().clone());
        }
        let body = read("AWS credentials", response)
            .await
            .map_err(|failed| reqsign_core::Error::unexpected(failed.error.to_string()))?;
        answer
            .body(Bytes::from(body))
            .map_err(|error| reqsign_core::Error::unexpected(error.to_string()))
    }
}
