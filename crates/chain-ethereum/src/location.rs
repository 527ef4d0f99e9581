//! `--chain ethereum:URL[,URL]`: the endpoints to ask, the most wanted first.

use core::fmt;
use reqwest::Url;
use thiserror::Error;

/// What the value of `--chain` begins with.
pub const PREFIX: &str = "ethereum:";

/// Most endpoints.
const MAX_ENDPOINTS: usize = 8;
/// Longest text.
const MAX_TEXT: usize = 4_096;

/// Endpoints of one chain. Their addresses may hold an access key, so that only hosts are ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<Url>);

/// The text names no endpoints. It is not repeated, since there may be an access key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be ethereum:URL, or ethereum:URL,URL for several endpoints of one chain: {0}")]
pub struct BadEndpoints(&'static str);

impl Endpoints {
    /// Parses the value of `--chain`.
    pub fn parse(text: &str) -> Result<Self, BadEndpoints> {
        if text.len() > MAX_TEXT {
            return Err(BadEndpoints("too long"));
        }
        let urls = text.strip_prefix(PREFIX).ok_or(BadEndpoints("no ethereum: in front"))?;
        let urls: Vec<Url> = urls.split(',').map(endpoint).collect::<Result<_, _>>()?;
        if urls.len() > MAX_ENDPOINTS {
            return Err(BadEndpoints("more than 8 endpoints"));
        }
        Ok(Self(urls))
    }

    /// In the order of the setting; at least one.
    pub fn urls(&self) -> &[Url] {
        &self.0
    }
}

fn endpoint(text: &str) -> Result<Url, BadEndpoints> {
    let url = Url::parse(text.trim()).map_err(|_| BadEndpoints("not an address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadEndpoints("endpoints are asked over http or https"));
    }
    if url.host_str().is_none() || url.fragment().is_some() {
        return Err(BadEndpoints("an address without a host, or with a fragment"));
    }
    Ok(url)
}

/// Host and port, which say which endpoint it is and give no key away.
pub(crate) fn name_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(name_of).collect();
        write!(f, "{PREFIX}{}", names.join(","))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoints({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_endpoints_and_no_key_shown() {
        let text = "ethereum:https://rpc.example/v3/s3cret,http://u:p4ss@127.0.0.1:8545/";
        let endpoints = Endpoints::parse(text).unwrap();
        assert_eq!(endpoints.urls().len(), 2);
        assert_eq!(endpoints.to_string(), "ethereum:rpc.example,127.0.0.1:8545");
        assert_eq!(format!("{endpoints:?}"), "Endpoints(ethereum:rpc.example,127.0.0.1:8545)");
    }

    #[test]
    fn everything_else_is_refused_without_being_repeated() {
        let many = format!("ethereum:{}", ["http://h"; 9].join(","));
        let long = format!("ethereum:http://h/{}", "s3cret".repeat(1_000));
        for bad in [
            "",
            "ethereum:",
            "ethereum:http://",
            "ethereum:ws://h",
            "ethereum:file:///etc/s3cret",
            "ethereum:http://h,",
            "ethereum:http://h#s3cret",
            "https://h/s3cret",
            &many,
            &long,
        ] {
            let error = Endpoints::parse(bad).unwrap_err().to_string();
            assert!(error.contains("ethereum:URL") && !error.contains("s3cret"), "{error}");
        }
    }
}
