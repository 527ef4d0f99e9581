//! One object, written by a POST form with a signed policy (orchestrator-wire.md section 12). Where it goes,
//! a peer may say: public addresses only unless allowed, no redirects, bounded in time and in what is
//! read of the answer (architecture.md, "Peers are not trusted").

use crate::storage::StoredFile;
use penstock_clients::{BuildError, HttpOptions, Reach, http, multipart};
use penstock_wire::{Bucket, BucketKind, checked_url};
use std::time::Duration;
use thiserror::Error;
use url::Url;

/// Bytes of an answer that are read: it says why not.
const MAX_ANSWER_BYTES: usize = 512;

/// Why an object was not written.
#[derive(Debug, Error)]
pub enum UploadError {
    /// Not a place that may be written to.
    #[error("{0}")]
    Refused(&'static str),
    /// Not reached, or not in time.
    #[error("cannot be reached, or takes too long")]
    Transport(#[source] reqwest::Error),
    /// It said no.
    #[error("answered {status}: {text}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The begin of its words.
        text: String,
    },
}

/// Writes objects.
pub struct Uploader {
    http: reqwest::Client,
    reach: Reach,
}

impl Uploader {
    /// To such addresses, each object within `time`.
    pub fn new(reach: Reach, time: Duration) -> Result<Self, BuildError> {
        let options = HttpOptions {
            reach,
            total_timeout: Some(time),
            read_timeout: time,
            ..HttpOptions::default()
        };
        Ok(Self { http: http(&options)?, reach })
    }

    /// Writes `file` as `folder/name` below the bucket's key. Its URL.
    pub async fn put(
        &self,
        bucket: &Bucket,
        (folder, name): (&str, &str),
        file: StoredFile,
    ) -> Result<String, UploadError> {
        let host = self.host(bucket)?;
        let key = format!("{}/{folder}/{name}", bucket.key.trim_matches('/'));
        let key = key.trim_start_matches('/');
        // Names that a reader of the URL would take for another object's.
        let is_plain = |part: &str| !part.is_empty() && part.bytes().any(|b| b != b'.');
        if !key.split('/').all(is_plain) || key.chars().any(char::is_control) {
            return Err(UploadError::Refused("the object's name is not one for a URL"));
        }
        let request = self.http.post(host.clone()).multipart(form(bucket, key, name, file)?);
        let mut answer = request.send().await.map_err(UploadError::Transport)?;
        let status = answer.status();
        let mut said = Vec::new();
        while said.len() < MAX_ANSWER_BYTES
            && let Some(piece) = answer.chunk().await.map_err(UploadError::Transport)?
        {
            said.extend_from_slice(&piece);
        }
        // As in the reference, a store that has written an object has nothing to say.
        if !status.is_success() || !said.is_empty() {
            said.truncate(MAX_ANSWER_BYTES);
            let text = String::from_utf8_lossy(&said);
            let text = text.chars().filter(|c| !c.is_control()).collect();
            return Err(UploadError::Status { status: status.as_u16(), text });
        }
        Ok(format!("{}/{}", host.as_str().trim_end_matches('/'), escaped(key)))
    }

    fn host(&self, bucket: &Bucket) -> Result<Url, UploadError> {
        let refused = UploadError::Refused("the bucket's address is not a plain http(s) URL");
        let Ok(text) = checked_url("storage host", &bucket.host) else { return Err(refused) };
        let Ok(url) = Url::parse(&text) else { return Err(refused) };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused);
        }
        match self.reach.allows(&url) {
            true => Ok(url),
            false => Err(UploadError::Refused("the bucket's address is not public")),
        }
    }
}

/// The fields, the file last.
fn form(
    bucket: &Bucket,
    key: &str,
    name: &str,
    file: StoredFile,
) -> Result<multipart::Form, UploadError> {
    let mut form = multipart::Form::new()
        .text("acl", "public-read")
        .text("Content-Type", file.content_type)
        .text("key", key.to_owned())
        .text("policy", bucket.policy.clone());
    form = match bucket.kind {
        BucketKind::S3 => form
            .text("x-amz-algorithm", "AWS4-HMAC-SHA256")
            .text("x-amz-credential", bucket.credential.clone())
            .text("x-amz-date", bucket.amz_date.clone())
            .text("x-amz-signature", bucket.signature.clone()),
        BucketKind::Google => form
            .text("GoogleAccessId", bucket.credential.clone())
            .text("signature", bucket.signature.clone()),
    };
    let length = file.data.len() as u64;
    let part = multipart::Part::stream_with_length(file.data, length).file_name(name.to_owned());
    let part = part.mime_str(file.content_type).map_err(UploadError::Transport)?;
    Ok(form.part("file", part))
}

/// A name in a URL: all but unreserved characters and slashes are escaped.
pub fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(host: &str, key: &str) -> Bucket {
        let text = String::new;
        let (policy, signature, credential, amz_date) = (text(), text(), text(), text());
        let (kind, host, key) = (BucketKind::S3, host.to_owned(), key.to_owned());
        Bucket { kind, host, key, policy, signature, credential, amz_date }
    }

    #[tokio::test]
    async fn refuses_before_connecting() {
        penstock_http_kit::tls::install_crypto_provider();
        let uploader = Uploader::new(Reach::PublicOnly, Duration::from_secs(10)).unwrap();
        let file = || StoredFile { data: vec![7].into(), content_type: "video/mp2t" };
        for (host, key, folder) in [
            ("http://127.0.0.1:1/b", "k", "p"),
            ("http://[fd00::1]/b", "k", "p"),
            ("http://169.254.169.254/", "k", "p"),
            ("file:///etc", "k", "p"),
            ("http://1.1.1.1/b?x=1", "k", "p"),
            ("http://u:p@1.1.1.1/b", "k", "p"),
            ("", "k", "p"),
            ("http://1.1.1.1/b", "k/../l", "p"),
            ("http://1.1.1.1/b", "k", ".."),
            ("http://1.1.1.1/b", "k", "a\nb"),
            ("http://1.1.1.1/b", "k", ""),
        ] {
            let refused = uploader.put(&bucket(host, key), (folder, "1.ts"), file()).await;
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, UploadError::Refused(_)),
                "{host} {key} {folder}: {refused:?}"
            );
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("m/s/P240p30fps16x9/1.ts"), "m/s/P240p30fps16x9/1.ts");
        assert_eq!(escaped("a b?%é"), "a%20b%3F%25%C3%A9");
    }
}
