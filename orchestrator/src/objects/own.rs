//! The operator's bucket: its address in the reference's form (ingest-playback.md section 9), and the
//! rights to write into it that gateways and this process use: a policy, signed with the bucket's
//! secret (AWS signature version 4 over a POST policy).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use penstock_config::Secret;
use penstock_wire::{Bucket, BucketKind};
use serde_json::json;
use sha2::Sha256;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use url::Url;

/// A right holds for so long: a session's terms are asked for anew every half hour. (The reference: 24 h.)
const RIGHT_LASTS: Duration = Duration::hours(2);

/// A bucket with its keys.
pub struct OwnStore {
    /// URL of the bucket, without a slash at its end.
    host: String,
    bucket: String,
    region: String,
    /// Begins every object's name; empty, or ends in a slash.
    prefix: String,
    key_id: String,
    secret: Secret,
}

impl OwnStore {
    /// `s3://KEY:SECRET@REGION/BUCKET[/PREFIX]`, `s3+https://KEY:SECRET@HOST[:PORT]/BUCKET[/PREFIX]`
    /// (or `s3+http`), or what is wrong with it.
    pub fn parse(address: &str) -> Result<Self, &'static str> {
        const FORMS: &str =
            "must be s3://KEY:SECRET@REGION/BUCKET or s3+https://KEY:SECRET@HOST/BUCKET";
        let (kind, rest) = address.split_once("://").ok_or(FORMS)?;
        let (scheme, is_aws) = match kind {
            "s3" => ("https", true),
            "s3+https" => ("https", false),
            "s3+http" => ("http", false),
            _ => return Err(FORMS),
        };
        let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| FORMS)?;
        let key_id = decoded(url.username()).filter(|key| !key.is_empty());
        let secret = url.password().and_then(decoded).filter(|secret| !secret.is_empty());
        let (Some(key_id), Some(secret)) = (key_id, secret) else {
            return Err("lacks a key and a secret");
        };
        // A parser of URLs would resolve dots.
        if rest.split('/').any(|part| matches!(part, "." | ".."))
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err("has more than a plain path");
        }
        let path = url.path().trim_matches('/');
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=255).contains(&bucket.len()) || !bucket.bytes().all(plain) {
            return Err("names no bucket");
        }
        let is_plain = prefix.bytes().all(|b| plain(b) || b == b'/')
            && (prefix.is_empty() || prefix.split('/').all(|part| !part.is_empty()));
        if prefix.len() > 256 || !is_plain {
            return Err("has a prefix that is not of letters, digits, '-', '_', '.' and '/'");
        }
        let at = url.host_str().ok_or(FORMS)?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let labels: Vec<_> = at.split('.').collect();
        let region = match labels.as_slice() {
            _ if is_aws => at,
            // The second label of a long name, as in bucket.region.provider.example.
            [_, region, _, _, ..] if at.parse::<std::net::Ipv4Addr>().is_err() => region,
            _ => "us-east-1",
        };
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err("names no region");
        }
        let host = match is_aws {
            true => format!("https://{bucket}.s3.amazonaws.com"),
            false => format!("{scheme}://{at}{port}/{bucket}"),
        };
        Ok(Self {
            host,
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            key_id,
            secret: Secret::new(secret),
        })
    }

    /// The right to write objects of a session, and nothing else, until some hours after `now`: names
    /// that begin with the session's id and a slash, each of at most `most_bytes`.
    pub fn grant(&self, session_id: &str, now: OffsetDateTime, most_bytes: u64) -> Bucket {
        let key = format!("{}{session_id}", self.prefix);
        let day = format!("{:04}{:02}{:02}", now.year(), u8::from(now.month()), now.day());
        let credential = format!("{}/{day}/{}/s3/aws4_request", self.key_id, self.region);
        let amz_date = format!("{day}T000000Z");
        let expires = (now + RIGHT_LASTS).replace_nanosecond(0).unwrap_or(now);
        let policy = json!({
            "expiration": expires.format(&Rfc3339).unwrap_or_default(),
            "conditions": [
                { "bucket": self.bucket },
                { "acl": "public-read" },
                ["starts-with", "$Content-Type", ""],
                ["starts-with", "$key", format!("{key}/")],
                ["content-length-range", 0, most_bytes],
                { "x-amz-algorithm": "AWS4-HMAC-SHA256" },
                { "x-amz-credential": credential },
                { "x-amz-date": amz_date },
            ],
        });
        let policy = STANDARD.encode(policy.to_string());
        let signature = self.signature(&policy, &day);
        let (kind, host) = (BucketKind::S3, self.host.clone());
        Bucket { kind, host, key, policy, signature, credential, amz_date }
    }

    /// Whether a URL leads to what a session may write there.
    pub fn has(&self, url: &str, session_id: &str) -> bool {
        // As a client reads it: dots in a path are resolved.
        let Ok(url) = Url::parse(url) else { return false };
        let inside = url.as_str().strip_prefix(&self.host);
        inside.is_some_and(|path| path.starts_with(&format!("/{}{session_id}/", self.prefix)))
    }

    fn signature(&self, policy: &str, day: &str) -> String {
        let mut key = format!("AWS4{}", self.secret.expose()).into_bytes();
        for part in [day, &self.region, "s3", "aws4_request"] {
            key = mac(&key, part.as_bytes());
        }
        hex::encode(mac(&key, policy.as_bytes()))
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        }
        // HMAC takes keys of any length.
        Err(_) => Vec::new(),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn addresses() {
        let of = |text: &str| {
            let own = OwnStore::parse(text)?;
            Ok::<_, &str>((
                own.host,
                own.region,
                own.prefix,
                own.key_id,
                own.secret.expose().to_owned(),
            ))
        };
        let expect = |host: &str, region: &str, prefix: &str, key: &str, secret: &str| {
            let [host, region, prefix, key, secret] =
                [host, region, prefix, key, secret].map(str::to_owned);
            Ok((host, region, prefix, key, secret))
        };
        assert_eq!(
            of("s3://ID:a%2Fb@eu-west-1/films"),
            expect("https://films.s3.amazonaws.com", "eu-west-1", "", "ID", "a/b")
        );
        assert_eq!(
            of("s3+http://ID:s@127.0.0.1:9000/films/a/b/"),
            expect("http://127.0.0.1:9000/films", "us-east-1", "a/b/", "ID", "s")
        );
        assert_eq!(
            of("s3+https://ID:s@gateway.eu1.storjshare.io/films"),
            expect("https://gateway.eu1.storjshare.io/films", "eu1", "", "ID", "s")
        );
        for bad in [
            "",
            "films",
            "gs://ID:s@eu/films",
            "s3://eu/films",
            "s3://ID@eu/films",
            "s3://ID:@eu/films",
            "s3://ID:s@eu",
            "s3://ID:s@eu/",
            "s3://ID:s@eu/films/../other",
            "s3://ID:s@eu/films/a//b",
            "s3://ID:s@eu/fi%20lms",
            "s3://ID:s@e_u/films",
            "s3://ID:s@eu/films?x=1",
            "s3://ID:%zz@eu/films",
        ] {
            assert!(OwnStore::parse(bad).is_err(), "{bad}");
        }
    }

    /// The signature that boto3's `generate_presigned_post` makes for this policy, date and secret.
    #[test]
    fn signatures_are_those_of_aws() {
        let own = OwnStore::parse(
            "s3://AKIDEXAMPLE:wJalrXUtnFEMI%2FK7MDENG+bPxRfiCYEXAMPLEKEY@us-east-1/films",
        )
        .unwrap();
        const BOTO_POLICY: &str = "eyJleHBpcmF0aW9uIjogIjIwMjYtMTEtMjJUMDg6NTQ6MDlaIiwgImNvbmRpdGlvbnMiOiBbeyJhY2wiOiAicHVibGljLXJlYWQifSwgeyJidWNrZXQiOiAiZmlsbXMifSwgWyJzdGFydHMtd2l0aCIsICIka2V5IiwgImsvIl0sIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwgeyJ4LWFtei1jcmVkZW50aWFsIjogIkFLSURFWEFNUExFLzIwMjYwMTAyL3VzLWVhc3QtMS9zMy9hd3M0X3JlcXVlc3QifSwgeyJ4LWFtei1kYXRlIjogIjIwMjYwMTAyVDAzMDQwNVoifV19";
        const BOTO_SIGNATURE: &str =
            "fd723c9a83e70cc99ebd64c10284c26a626b4f1736af8a84f8a5a10ca427f629";
        assert_eq!(own.signature(BOTO_POLICY, "20260102"), BOTO_SIGNATURE);
    }

    #[test]
    fn what_is_in_it() {
        let own = OwnStore::parse("s3+http://ID:s@10.0.0.9:9000/films/p").unwrap();
        assert!(own.has("http://10.0.0.9:9000/films/p/ab12/source.ts", "ab12"));
        for outside in [
            "",
            "films/p/x",
            "http://10.0.0.9:9000/films/q/ab12/x",
            "http://10.0.0.9:9000/films/p/ab13/x",
            "http://10.0.0.9:9000/films/p/ab123/x",
            "http://10.0.0.9:9000/films/p/ab12",
            "http://10.0.0.9:9000/films/p/ab12/../ab13/x",
            "http://10.0.0.9:9000/films/p/../../admin",
            "http://10.0.0.9:9000/films/p/%2e%2e/%2e%2e/admin",
            "http://10.0.0.9:9000/filmsp/x",
            "http://10.0.0.9/films/p/x",
            "http://u@10.0.0.9:9000/films/p/x",
            "https://10.0.0.9:9000/films/p/x",
            "http://10.0.0.99:9000/films/p/x",
        ] {
            assert!(!own.has(outside, "ab12"), "{outside}");
        }
    }

    #[test]
    fn a_right_is_for_one_session() {
        let own = OwnStore::parse("s3+http://ID:s@127.0.0.1:9000/films/p").unwrap();
        let right = own.grant("ab12", datetime!(2026-03-04 23:30:00.5 UTC), 300_000_000);
        assert_eq!(
            (right.kind, right.host.as_str()),
            (BucketKind::S3, "http://127.0.0.1:9000/films")
        );
        assert_eq!((right.key.as_str(), right.amz_date.as_str()), ("p/ab12", "20260304T000000Z"));
        assert_eq!(right.credential, "ID/20260304/us-east-1/s3/aws4_request");
        let policy = STANDARD.decode(&right.policy).unwrap();
        let policy: serde_json::Value = serde_json::from_slice(&policy).unwrap();
        assert_eq!(policy["expiration"], "2026-03-05T01:30:00Z");
        let conditions = policy["conditions"].as_array().unwrap();
        assert!(conditions.contains(&json!(["starts-with", "$key", "p/ab12/"])), "{policy}");
        assert!(conditions.contains(&json!({ "bucket": "films" })));
        let other = own.grant("ab13", datetime!(2026-03-04 23:30 UTC), 300_000_000);
        assert_ne!(right.signature, other.signature);
    }
}
