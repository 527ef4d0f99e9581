//! Which key version: the text behind `gcpkms:`.

use penstock_keys::{Locator, LocatorError};
use std::path::PathBuf;
use url::Url;

const KNOWN: &str = "credentials, endpoint";
const PUBLIC: &str = "https://cloudkms.googleapis.com";

/// `gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N?credentials=FILE&endpoint=…`,
/// the scheme left away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpKmsUri {
    /// The resource name.
    pub name: String,
    /// `credentials=`: a service account's JSON file. Default: `GOOGLE_APPLICATION_CREDENTIALS`, else
    /// the metadata server.
    pub credentials: Option<PathBuf>,
    /// `endpoint=`: for private endpoints.
    pub endpoint: Url,
}

impl GcpKmsUri {
    /// Reads the part behind `gcpkms:`.
    pub fn parse(text: &str) -> Result<Self, LocatorError> {
        const NAME: LocatorError = LocatorError::Value {
            name: "key",
            reason: "must be projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N",
        };
        let mut found = Locator::parse(text)?;
        let name = found.place().to_owned();
        let parts: Vec<&str> = name.split('/').collect();
        let value = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
            !text.is_empty() && text.len() <= 128 && text.chars().all(plain)
        };
        match parts.as_slice() {
            [
                "projects",
                p,
                "locations",
                l,
                "keyRings",
                r,
                "cryptoKeys",
                k,
                "cryptoKeyVersions",
                n,
            ] if [p, l, r, k]
                .iter()
                .all(|part| value(part) && !part.trim_matches('.').is_empty())
                && n.parse::<u64>().is_ok() => {}
            _ => return Err(NAME),
        }
        let endpoint = found.take("endpoint").unwrap_or_else(|| PUBLIC.to_owned());
        let endpoint = Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/")
            .ok_or(LocatorError::Value { name: "endpoint", reason: "must be https://HOST" })?;
        let credentials = found.take("credentials").map(PathBuf::from);
        found.finish(KNOWN)?;
        Ok(Self { name, credentials, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str =
        "projects/example.com:p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1";

    #[test]
    fn reads_every_part() {
        let uri = GcpKmsUri::parse(NAME).unwrap();
        assert_eq!((uri.name.as_str(), uri.credentials), (NAME, None));
        assert_eq!(uri.endpoint.as_str(), "https://cloudkms.googleapis.com/");
        let uri = GcpKmsUri::parse(&format!("{NAME}?credentials=/c.json&endpoint=http://[::1]:2"));
        let uri = uri.unwrap();
        assert_eq!(uri.credentials, Some("/c.json".into()));
        assert_eq!(uri.endpoint.as_str(), "http://[::1]:2/");
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            "".to_owned(),
            NAME.replace("/cryptoKeyVersions/1", ""),
            NAME.replace("/1", "/one"),
            NAME.replace("global", ".."),
            NAME.replace("global", "a%2Fb"),
            format!("{NAME}:asymmetricSign"),
            format!("{NAME}?endpoint=https://x/y"),
            format!("{NAME}?region=x"),
        ] {
            assert!(GcpKmsUri::parse(&bad).is_err(), "{bad}");
        }
    }
}
