//! Which key: the text behind `awskms:`.

use penstock_keys::{Locator, LocatorError};
use url::Url;

const KNOWN: &str = "region, endpoint";

/// `awskms:KEY_ID?region=…&endpoint=…`, the scheme left away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKmsUri {
    /// Key id, key ARN, `alias/NAME` or alias ARN.
    pub key_id: String,
    /// `region=`, or the one in the ARN.
    pub region: String,
    /// `endpoint=`: for VPC and FIPS endpoints. Default: the region's public one.
    pub endpoint: Url,
}

impl AwsKmsUri {
    /// Reads the part behind `awskms:`. `region` is for when neither `region=` nor an ARN names one:
    /// the environment's `AWS_REGION`.
    pub fn parse(text: &str, region: Option<String>) -> Result<Self, LocatorError> {
        const KEY: LocatorError = LocatorError::Value {
            name: "key",
            reason: "must be a key id, an ARN or alias/NAME of at most 2048 characters",
        };
        const REGION: LocatorError =
            LocatorError::Value { name: "region", reason: "must be like eu-central-1" };
        let mut found = Locator::parse(text)?;
        let key_id = found.place().to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_/:".contains(c);
        if key_id.is_empty() || key_id.len() > 2048 || !key_id.chars().all(plain) {
            return Err(KEY);
        }
        let of_arn = key_id.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2));
        let region = found.take("region").or(of_arn.map(str::to_owned)).or(region);
        let region = region.ok_or(LocatorError::Missing("region"))?;
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if region.is_empty() || region.len() > 64 || !region.chars().all(word) {
            return Err(REGION);
        }
        let endpoint = found.take("endpoint").unwrap_or_else(|| {
            let end = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://kms.{region}.amazonaws.com{end}")
        });
        let endpoint = Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/")
            .ok_or(LocatorError::Value { name: "endpoint", reason: "must be https://HOST" })?;
        found.finish(KNOWN)?;
        Ok(Self { key_id, region, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_from_wherever_it_is_said() {
        let parse = |text: &str| AwsKmsUri::parse(text, Some("us-west-1".into())).unwrap();
        let uri = parse("alias/deposit");
        assert_eq!((uri.key_id.as_str(), uri.region.as_str()), ("alias/deposit", "us-west-1"));
        assert_eq!(uri.endpoint.as_str(), "https://kms.us-west-1.amazonaws.com/");
        let uri = parse("arn:aws:kms:eu-central-1:111122223333:key/1234-ab");
        assert_eq!(uri.region, "eu-central-1");
        let uri = parse("1234-ab?region=cn-north-1");
        assert_eq!(uri.endpoint.as_str(), "https://kms.cn-north-1.amazonaws.com.cn/");
        let uri = parse("1234-ab?region=x-1&endpoint=http://127.0.0.1:1234");
        assert_eq!(uri.endpoint.as_str(), "http://127.0.0.1:1234/");
    }

    #[test]
    fn mistakes_are_refused() {
        let region = || Some("eu-west-1".to_owned());
        for bad in [
            "",
            "a b",
            "k?region=",
            "k?region=a/b",
            "k?endpoint=ftp://x",
            "k?endpoint=https://x/y",
            "k?x=1",
        ] {
            assert!(AwsKmsUri::parse(bad, region()).is_err(), "{bad}");
        }
        assert_eq!(AwsKmsUri::parse("k", None), Err(LocatorError::Missing("region")));
    }
}
