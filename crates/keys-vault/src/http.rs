//! One request to a vault: bounded in time and size, errors sorted.

use crate::{VaultConfig, VaultError};
use penstock_config::{Secret, read_secret_file};
use reqwest::{Certificate, Client, Method, Response, StatusCode, redirect::Policy};
use serde::de::DeserializeOwned;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// Largest answer read; a KV secret may have 1 MiB.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// A vault that hangs is as good as none.
const TIMEOUT: Duration = Duration::from_secs(15);
/// A standby sends to the active node.
const MAX_REDIRECTS: usize = 2;

/// What is asked for.
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Below `/v1/`, in parts that are escaped here.
    pub(crate) path: Vec<String>,
    pub(crate) query: Option<(&'static str, String)>,
    pub(crate) token: Option<Secret>,
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
}

/// The connection, without credentials.
pub(crate) struct Http {
    client: Client,
    address: Url,
    namespace: Option<String>,
}

impl Http {
    pub(crate) fn new(config: &VaultConfig) -> Result<Self, VaultError> {
        let bad = |reason: String| VaultError::Config(reason);
        if !matches!(config.address.scheme(), "http" | "https") || config.address.host().is_none() {
            return Err(bad(format!("{} is not an http or https URL", config.address)));
        }
        let secure = config.address.scheme() == "https";
        let policy = Policy::custom(move |attempt| {
            // The token goes along, so never from https to http.
            let stays_secure = attempt.url().scheme() == "https" || !secure;
            match attempt.previous().len() <= MAX_REDIRECTS && stays_secure {
                true => attempt.follow(),
                false => attempt.stop(),
            }
        });
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(policy);
        if let Some(path) = &config.ca_file {
            let pem = read_secret_file(path, "--vault-ca-file")?;
            let certificates = Certificate::from_pem_bundle(pem.expose().as_bytes())
                .map_err(|error| bad(format!("--vault-ca-file: {error}")))?;
            if certificates.is_empty() {
                return Err(bad("--vault-ca-file holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| bad(error.to_string()))?;
        Ok(Self { client, address: config.address.clone(), namespace: config.namespace.clone() })
    }

    /// The answer's JSON. A status that is not a success becomes the error it means.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, VaultError> {
        let response = self.send(ask).await?;
        let status = response.status();
        let body = read(response).await?;
        if !status.is_success() {
            return Err(refusal(status, &body, || ask.path.join("/")));
        }
        let body = if body.is_empty() { b"null".as_slice() } else { &body };
        serde_json::from_slice(body).map_err(|_| VaultError::BadAnswer("not the JSON expected"))
    }

    async fn send(&self, ask: &Ask) -> Result<Response, VaultError> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| VaultError::Config("the vault's address has no path".to_owned()))?
            .pop_if_empty()
            .push("v1")
            .extend(ask.path.iter().flat_map(|part| part.split('/')));
        if let Some((name, value)) = &ask.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut request =
            self.client.request(ask.method.clone(), url).header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = &ask.token {
            let mut value = reqwest::header::HeaderValue::from_str(token.expose())
                .map_err(|_| VaultError::Config("the token is not printable".to_owned()))?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        if let Some(body) = &ask.body {
            request = request.header("content-type", "application/json").body(body.to_vec());
        }
        request.send().await.map_err(|error| VaultError::Unavailable(causes(&error.without_url())))
    }
}

async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    // Room from the start: a buffer that grows leaves copies of the secret behind.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES / 16));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| VaultError::Unavailable(causes(&error.without_url())))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(VaultError::BadAnswer("larger than 1 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What a status means (Vault's "HTTP status codes"): 412 and 472 to 474 are nodes that are behind
/// or stand by, 429 too many requests.
fn refusal(status: StatusCode, body: &[u8], place: impl Fn() -> String) -> VaultError {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
    }
    let errors = serde_json::from_slice(body).map_or_else(|_| Vec::new(), |e: Errors| e.errors);
    let mut reason = errors.join("; ").replace(|c: char| c.is_control(), " ");
    if reason.is_empty() {
        reason = status.to_string();
    }
    let reason = reason.chars().take(400).collect::<String>();
    match status.as_u16() {
        404 => VaultError::Missing(place()),
        400 if reason.contains("check-and-set") => VaultError::Changed(place()),
        412 | 429 | 472..=474 | 500.. => VaultError::Unavailable(format!("{status}: {reason}")),
        status => VaultError::Denied { status, reason },
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
