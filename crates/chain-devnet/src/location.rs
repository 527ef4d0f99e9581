//! `--chain devnet:URL`: where the chain is.

use core::fmt;
use thiserror::Error;

/// Which chain to speak to; what `--chain` is parsed to (use as clap's `value_parser`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainLocation {
    /// A devnet server, as an `http://host:port` base address without a trailing slash.
    Devnet(String),
}

/// The text of `--chain` names no chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("--chain must be devnet:http://HOST:PORT or ethereum:URL, not {text:?}: {reason}")]
pub struct BadChain {
    /// What was given, cut to 128 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Longest accepted text.
const MAX_TEXT: usize = 512;

/// Parses the value of `--chain`.
pub fn parse_chain(text: &str) -> Result<ChainLocation, BadChain> {
    let bad = |reason| BadChain { text: text.chars().take(128).collect(), reason };
    if text.len() > MAX_TEXT {
        return Err(bad("too long"));
    }
    let base = text.strip_prefix("devnet:").ok_or_else(|| BadChain {
        // An endpoint of Ethereum whose prefix is missing may have a key in it.
        text: text.split(':').next().unwrap_or_default().chars().take(16).collect(),
        reason: "neither devnet: nor ethereum: in front",
    })?;
    let url = reqwest::Url::parse(base).map_err(|_| bad("not an address after devnet:"))?;
    if url.scheme() != "http" {
        return Err(bad("a devnet is reached over http"));
    }
    if url.host_str().is_none() {
        return Err(bad("no host"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.path() != "/"
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(bad("only a host and a port may follow http://"));
    }
    Ok(ChainLocation::Devnet(url.as_str().trim_end_matches('/').to_owned()))
}

impl fmt::Display for ChainLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devnet(base) => write!(f, "devnet:{base}"),
        }
    }
}

impl core::str::FromStr for ChainLocation {
    type Err = BadChain;
    fn from_str(text: &str) -> Result<Self, BadChain> {
        parse_chain(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devnet_address() {
        let location = parse_chain("devnet:http://127.0.0.1:7001/").unwrap();
        assert_eq!(location, ChainLocation::Devnet("http://127.0.0.1:7001".into()));
        assert_eq!(parse_chain(&location.to_string()).unwrap(), location);
    }

    #[test]
    fn everything_else_is_refused_with_the_setting_named() {
        for bad in [
            "",
            "devnet:",
            "http://127.0.0.1:1",
            "devnet:https://h:1",
            "devnet:http://u:p@h:1",
            "devnet:http://h:1/x",
            "devnet:http://h:1/?q",
            "devnet:file:///etc/passwd",
            "devnet:http://",
        ] {
            let error = parse_chain(bad).unwrap_err();
            assert!(error.to_string().contains("--chain"), "{bad}");
        }
        assert!(parse_chain(&format!("devnet:http://{}", "a".repeat(600))).is_err());
    }
}
