//! Downloads from addresses that a peer chose: http(s) only, public hosts only unless allowed, no
//! redirects, bounded in size and time (architecture.md, "Peers are not trusted").

use axum::body::Body;
use penstock_clients::{BuildError, HttpOptions, Reach, Trust, http};
use std::time::Duration;
use thiserror::Error;
use url::Url;

/// Whole download, as the reference's client.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Why nothing was downloaded. The peer's fault, or its network's; the answer is 400.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Not a URL that may be fetched.
    #[error("{0}")]
    Refused(&'static str),
    /// Larger than allowed.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// Not 200.
    #[error("answered {0}")]
    Status(u16),
    /// Broke off, or was longer than announced and allowed.
    #[error("the body broke off or is too long")]
    Broken,
    /// Not reached, or not in time.
    #[error("cannot be fetched")]
    Transport(#[source] reqwest::Error),
}

/// A client for peers' URLs.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: reqwest::Client,
    reach: Reach,
}

impl Fetcher {
    /// `allow_private` lets it reach private and loopback addresses.
    pub fn new(allow_private: bool) -> Result<Self, BuildError> {
        let reach = if allow_private { Reach::Anywhere } else { Reach::PublicOnly };
        let client = http(&HttpOptions {
            // The data's hash is signed by the sender, so its transport need not be authentic; the
            // reference checks no certificate either.
            trust: Trust::AcceptAny,
            reach,
            total_timeout: Some(TIMEOUT),
            ..HttpOptions::default()
        })?;
        Ok(Self { client, reach })
    }

    /// The body at `url`, still to be read. More than `max_bytes` is refused if it is announced;
    /// the reader keeps to the limit.
    pub async fn get(&self, url: &str, max_bytes: u64) -> Result<Body, FetchError> {
        let url = checked(url, self.reach)?;
        let response = self.client.get(url).send().await.map_err(FetchError::Transport)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        if response.content_length().is_some_and(|length| length > max_bytes) {
            return Err(FetchError::TooLarge(max_bytes));
        }
        Ok(Body::from_stream(response.bytes_stream()))
    }

    /// Tells somebody something: JSON, posted to a URL of his.
    pub async fn tell(&self, url: &str, json: String) -> Result<(), FetchError> {
        let request = self.client.post(checked(url, self.reach)?).body(json);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let status = request.send().await.map_err(FetchError::Transport)?.status();
        if status.is_success() { Ok(()) } else { Err(FetchError::Status(status.as_u16())) }
    }
}

/// A URL that may be fetched.
fn checked(text: &str, reach: Reach) -> Result<Url, FetchError> {
    let text = penstock_wire::checked_url("segment URL", text)
        .map_err(|_| FetchError::Refused("not an http(s) URL"))?;
    let url = Url::parse(&text).map_err(|_| FetchError::Refused("not an http(s) URL"))?;
    if reach.allows(&url) { Ok(url) } else { Err(FetchError::Refused("the address is not public")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn refuses_before_connecting() {
        penstock_http_kit::tls::install_crypto_provider();
        let fetcher = Fetcher::new(false).unwrap();
        for bad in [
            "file:///etc/passwd",
            "gopher://1.1.1.1/",
            "http://127.0.0.1:1/",
            "http://[::1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://user@1.1.1.1/",
            "",
            "http://",
        ] {
            let refused = fetcher.get(bad, 10).await.unwrap_err();
            assert!(matches!(refused, FetchError::Refused(_)), "{bad}: {refused:?}");
        }
        let named = fetcher.get("http://localhost:1/", 10).await.unwrap_err();
        assert!(matches!(named, FetchError::Transport(_)), "{named:?}");
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_as_such() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "[fe80::1]",
            "[fd00::1]",
            "[2002:7f00:1::]",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{host}:1/x");
                let refused = checked(&url, Reach::PublicOnly).unwrap_err();
                let why = "the address is not public";
                assert!(matches!(refused, FetchError::Refused(said) if said == why), "{url}");
                assert!(checked(&url, Reach::Anywhere).is_ok(), "{url}");
            }
        }
        assert!(checked("http://1.1.1.1/x", Reach::PublicOnly).is_ok());
        // Whatever dots it has.
        assert!(checked("http://127\u{3002}0\u{3002}0\u{3002}1:1/x", Reach::PublicOnly).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn any_text_is_handled(text in "(https?://)?\\PC{0,30}") {
            let _ = checked(&text, Reach::PublicOnly);
        }
    }
}
