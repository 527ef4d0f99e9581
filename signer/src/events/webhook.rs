//! Events by HTTP: one POST a batch, a JSON list in the order of delivery. 2xx means that all of
//! them are safe with the receiver; anything else means that none is known to be.

use super::sink::SinkError;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use penstock_clients::{HttpOptions, http};
use penstock_config::Secret;
use penstock_ledger::signer::Event;
use sha2::Sha256;
use std::time::{Duration, SystemTime};
use url::Url;

/// `t=<Unix seconds>,v1=<hex of HMAC-SHA256(key, "<Unix seconds>." + body)>`: the time inside
/// lets a receiver refuse old bodies that somebody sends again.
const SIGNATURE: HeaderName = HeaderName::from_static("penstock-signature");
/// Read of an answer that is not a success, for the log.
const ERROR_BYTES: usize = 256;

/// The client.
pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    key: Option<Secret>,
}

impl Webhook {
    pub fn new(
        url: &Url,
        token: Option<&Secret>,
        key: Option<&Secret>,
        time: Duration,
    ) -> Result<Self, SinkError> {
        let options = HttpOptions { total_timeout: Some(time), ..HttpOptions::default() };
        let client = http(&options).map_err(SinkError::new)?;
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| SinkError::new("--events-token-file: cannot be a header"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self { client, url: url.clone(), headers, key: key.cloned() })
    }

    pub async fn deliver(&self, events: &[Event]) -> Result<(), SinkError> {
        let body = list(events);
        let mut request = self.client.post(self.url.clone()).headers(self.headers.clone());
        if let Some(key) = &self.key {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            request = request.header(SIGNATURE, sign(key, now.as_secs(), &body)?);
        }
        let answer = request.body(body).send().await;
        let mut answer = answer.map_err(|e| SinkError::new(causes(&e.without_url())))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        let mut text = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            text.extend(chunk.iter().take(ERROR_BYTES.saturating_sub(text.len())));
            if text.len() >= ERROR_BYTES {
                break;
            }
        }
        Err(SinkError::new(format!("answered {status}: {}", String::from_utf8_lossy(&text))))
    }
}

/// The payloads are JSON already.
fn list(events: &[Event]) -> Vec<u8> {
    let mut body = vec![b'['];
    for event in events {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(&event.payload);
    }
    body.push(b']');
    body
}

fn sign(key: &Secret, unix_s: u64, body: &[u8]) -> Result<String, SinkError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes())
        .map_err(|_| SinkError::new("--events-hmac-key-file: not a key"))?;
    mac.update(format!("{unix_s}.").as_bytes());
    mac.update(body);
    Ok(format!("t={unix_s},v1={}", hex::encode(mac.finalize().into_bytes())))
}

/// The error with its causes: reqwest's own words say too little.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        let key = Secret::new("k");
        // printf '7.[]' | openssl dgst -sha256 -hmac k
        let expected = "t=7,v1=73df9ec2204dabf427d81c6794c9d374a3f96415ef11431a31ea38cad1332a3e";
        let made = sign(&key, 7, b"[]").unwrap();
        assert_eq!(made, expected);
        assert_ne!(sign(&key, 8, b"[]").unwrap()[4..], made[4..]);
        assert_ne!(sign(&key, 7, b"[1]").unwrap(), made);
    }
}
