//! The Go node's auth webhook (remote-signer.md section 7): somebody else's service that says yes
//! or no to each payment, and whose it is.
//!
//! `wire` is the body sent, `decide` what an answer means (pure), and this file the call. The
//! reference asks once its tickets exist; we ask before anything is reserved or signed, and
//! send the state as it will be, but for the nonce: nonces are handed out later, so it is the number
//! of tickets. The service is not trusted: its answer is bounded in size and time, and redirects are
//! not followed.

mod decide;
mod wire;

pub use decide::{Refusal, Verdict, check_price, decide, is_due, next_auth_id};
pub use wire::{NewState, request_body};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use penstock_clients::{HttpOptions, http};
use std::time::Duration;
use url::Url;

/// The whole call, as in the reference.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Whom to ask, and with which headers.
#[derive(Clone)]
pub struct WebhookSettings {
    /// `--auth-webhook-url`
    pub url: Url,
    /// `--auth-webhook-headers-file`, read; may hold secrets.
    pub headers: HeaderMap,
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&HeaderName> = self.headers.keys().collect();
        f.debug_struct("WebhookSettings").field("headers", &names).finish_non_exhaustive()
    }
}

impl WebhookSettings {
    /// Reads `NAME: VALUE` lines; `#` starts a comment.
    pub fn headers(text: &str) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (line, number) in text.lines().zip(1u32..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || format!("line {number} is not NAME: VALUE");
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
            let mut value: HeaderValue = value.trim().parse().map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// The client.
pub struct Webhook {
    settings: WebhookSettings,
    client: reqwest::Client,
}

impl Webhook {
    /// The error says why there is no HTTP client.
    pub fn new(settings: WebhookSettings) -> Result<Self, String> {
        let options = HttpOptions {
            total_timeout: Some(TIMEOUT),
            connect_timeout: TIMEOUT,
            ..HttpOptions::default()
        };
        let client = http(&options).map_err(|e| e.to_string())?;
        Ok(Self { settings, client })
    }

    /// Asks whether a payment may be made. `headers` are the caller's ([`super::Caller::headers`]).
    pub async fn ask(&self, headers: &HeaderMap, state: &NewState) -> Result<Verdict, Refusal> {
        let answer = self.post(request_body(headers, state)).await;
        let verdict = match answer {
            Ok((status, body)) => decide(status, &body),
            Err(reason) => Err(Refusal::Failed(reason)),
        };
        let outcome = match &verdict {
            Ok(_) => "allowed",
            Err(Refusal::Rejected { .. }) => "rejected",
            Err(_) => "failed",
        };
        metrics::counter!("signer_auth_webhook_total", "outcome" => outcome).increment(1);
        verdict
    }

    async fn post(&self, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), String> {
        let said = |error: reqwest::Error| error.without_url().to_string();
        let mut request = self
            .client
            .post(self.settings.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(said)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(said)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(format!("the answer has more than {MAX_ANSWER_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_from_lines() {
        let headers =
            WebhookSettings::headers("# ours\nAuthorization: Bearer a:b\n\nx-y:z\n").unwrap();
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert_eq!(headers["x-y"], "z");
        for bad in ["x", "a b: c", "x: \u{7}"] {
            assert!(WebhookSettings::headers(bad).is_err(), "{bad}");
        }
        let settings = WebhookSettings { url: "http://u:p@h/?key=s".parse().unwrap(), headers };
        let shown = format!("{settings:?}");
        assert!(!shown.contains("a:b") && !shown.contains("key=s"), "{shown}");
    }
}
