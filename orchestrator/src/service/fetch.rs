//! Downloads from addresses that a peer chose: http(s) only, public hosts only unless allowed, no
//! redirects, bounded in size and time (architecture.md, "Peers are not trusted").

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
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
    /// Not reached, or not in time.
    #[error("cannot be fetched")]
    Transport(#[source] reqwest::Error),
}

/// A client for peers' URLs.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: reqwest::Client,
    allow_private: bool,
}

impl Fetcher {
    /// `allow_private` lets it reach private and loopback addresses.
    pub fn new(allow_private: bool) -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // The data's hash is signed by the sender, so its transport need not be authentic;
            // the reference checks no certificate either.
            .tls_danger_accept_invalid_certs(true);
        let builder = if allow_private {
            builder
        } else {
            // Names are filtered where they are resolved, so that a second answer of the name
            // server cannot lead elsewhere.
            builder.dns_resolver(Arc::new(PublicOnly))
        };
        Ok(Self { client: builder.build()?, allow_private })
    }

    /// The body at `url`, at most `max_bytes`.
    pub async fn get(&self, url: &str, max_bytes: u64) -> Result<Bytes, FetchError> {
        let url = checked(url, self.allow_private)?;
        let response = self.client.get(url).send().await.map_err(FetchError::Transport)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        if response.content_length().is_some_and(|length| length > max_bytes) {
            return Err(FetchError::TooLarge(max_bytes));
        }
        let mut body = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(FetchError::Transport)?;
            if (body.len() + chunk.len()) as u64 > max_bytes {
                return Err(FetchError::TooLarge(max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

/// A URL that may be fetched.
fn checked(text: &str, allow_private: bool) -> Result<Url, FetchError> {
    let text = penstock_wire::checked_url("segment URL", text)
        .map_err(|_| FetchError::Refused("not an http(s) URL"))?;
    let url = Url::parse(&text).map_err(|_| FetchError::Refused("not an http(s) URL"))?;
    let literal = match url.host() {
        Some(url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(url::Host::Domain(_)) => None,
        None => return Err(FetchError::Refused("no host")),
    };
    if !allow_private && literal.is_some_and(|ip| !is_public(ip)) {
        return Err(FetchError::Refused("the address is not public"));
    }
    Ok(url)
}

/// Resolves names to their public addresses only.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|a| is_public(a.ip())).collect();
            if public.is_empty() {
                return Err("the name has no public address".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the open internet.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        // Carrier NAT, IETF protocol assignments, benchmarking, 6to4 relays.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 88 && c == 99);
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3; documentation 2001:db8::/32 and Teredo 2001::/32 are inside it.
    let [first, second, ..] = ip.segments();
    (0x2000..0x4000).contains(&first) && !(first == 0x2001 && (second == 0xdb8 || second == 0))
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64, 6to4.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([x, y], [z, w]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(x, y, z, w)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn private_and_special_addresses() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_text_is_handled(text in "(https?://)?\\PC{0,30}") {
            let _ = checked(&text, false);
        }
    }
}
