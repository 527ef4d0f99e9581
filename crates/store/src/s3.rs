//! Media bytes as objects of a bucket: S3 itself or anything that speaks it.
//!
//! An object's end is in its metadata and is what readers go by. What this process wrote it also
//! deletes when it is over; what a process that died left behind is for a lifecycle rule of the
//! bucket (`docs/session-store.md`).

use crate::{SegmentKey, SegmentStore, StoreError, StoredSegment, UnixMs, names};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore,
    ObjectStoreExt as _, PutOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use penstock_domain::SegmentFormat;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Metadata: the end in milliseconds.
const ENDS: &str = "penstock-ends";
/// Most objects remembered for deletion; beyond it the lifecycle rule is relied upon.
const MOST_TO_DELETE: usize = 200_000;
/// Objects deleted after one write, so that deletion keeps up and never piles up.
const DELETE_AT_ONCE: usize = 16;
/// Largest object read back: what a pushed segment may be at most, and some.
const LARGEST: u64 = 1 << 30;

/// Which bucket, and how it is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Begins every object's name; may be empty.
    pub prefix: String,
    /// Where, if not at AWS.
    pub endpoint: Option<String>,
    /// The region; default: what the environment says, else `us-east-1`.
    pub region: Option<String>,
    /// Access key id and secret; default: what the environment or the machine's role says.
    pub keys: Option<(String, String)>,
    /// For one request.
    pub timeout: Duration,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bucket, prefix, endpoint, region, .. } = self;
        f.debug_struct("S3Options")
            .field("bucket", bucket)
            .field("prefix", prefix)
            .field("endpoint", endpoint)
            .field("region", region)
            .finish_non_exhaustive()
    }
}

impl S3Options {
    /// `s3://BUCKET[/PREFIX]`, or what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("s3://").ok_or("is not s3://BUCKET[/PREFIX]")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=255).contains(&bucket.len()) || !bucket.bytes().all(plain) {
            return Err("names no bucket");
        }
        let prefix = prefix.trim_matches('/');
        if prefix.len() > 256 || !prefix.bytes().all(|b| plain(b) || b == b'/') {
            return Err("has a prefix that is not of letters, digits, '-', '_', '.' and '/'");
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: None,
            keys: None,
            timeout: Duration::from_secs(10),
        })
    }

    /// The reference's addresses, which hold their keys: `s3://KEY:SECRET@REGION/BUCKET[/PREFIX]` for
    /// AWS, `s3+https://KEY:SECRET@HOST[:PORT]/BUCKET[/PREFIX]` (or `s3+http`) for others
    /// (ingest-playback.md section 9).
    pub fn with_keys(address: &str) -> Result<Self, &'static str> {
        let rest = address.strip_prefix("s3").ok_or("is no s3:// or s3+https:// address")?;
        let (scheme, at_aws) = match rest.split_once("://") {
            Some(("", _)) => ("https", true),
            Some(("+https", _)) => ("https", false),
            Some(("+http", _)) => ("http", false),
            _ => return Err("is no s3:// or s3+https:// address"),
        };
        let (_, after) = rest.split_once("://").unwrap_or_default();
        let url = url::Url::parse(&format!("{scheme}://{after}")).map_err(|_| "is no URL")?;
        let keys = decoded(url.username()).zip(url.password().and_then(decoded));
        let keys = keys.filter(|(key, secret)| !key.is_empty() && !secret.is_empty());
        let keys = keys.ok_or("lacks a key and a secret")?;
        let host = url.host_str().unwrap_or_default();
        let labels: Vec<_> = host.split('.').collect();
        let region = match labels.as_slice() {
            _ if at_aws => host,
            // The second label of a long name, as in bucket.region.provider.example.
            [_, region, _, _, ..] if host.parse::<std::net::Ipv4Addr>().is_err() => region,
            _ => "us-east-1",
        };
        if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') || region.is_empty() {
            return Err("names no region");
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self {
            endpoint: (!at_aws).then(|| format!("{scheme}://{host}{port}")),
            region: Some(region.to_owned()),
            keys: Some(keys),
            ..Self::parse(&format!("s3:/{}", url.path().trim_end_matches('/')))?
        })
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

/// See the module.
#[derive(Debug, Clone)]
pub struct S3Segments {
    s3: Arc<AmazonS3>,
    prefix: Path,
    mine: Arc<Mutex<Mine>>,
}

/// What this process wrote.
#[derive(Debug, Default)]
struct Mine {
    ends: HashMap<Path, UnixMs>,
    by_end: BTreeSet<(UnixMs, Path)>,
}

impl Mine {
    fn add(&mut self, path: Path, ends: UnixMs) {
        if let Some(old) = self.ends.insert(path.clone(), ends) {
            self.by_end.remove(&(old, path.clone()));
        }
        self.by_end.insert((ends, path));
        while self.by_end.len() > MOST_TO_DELETE
            && let Some((_, last)) = self.by_end.pop_last()
        {
            self.ends.remove(&last);
        }
    }

    fn take_over(&mut self, now: UnixMs) -> Option<Path> {
        let (ends, _) = self.by_end.first()?;
        if *ends > now {
            return None;
        }
        let (_, path) = self.by_end.pop_first()?;
        self.ends.remove(&path);
        Some(path)
    }
}

fn unavailable(error: &Error) -> StoreError {
    let text: String = error.to_string().chars().take(200).collect();
    StoreError::Unavailable(format!("object store: {text}"))
}

impl S3Segments {
    /// From options; connects to nothing yet.
    pub fn new(options: &S3Options) -> Result<Self, StoreError> {
        let builder = builder(options, true);
        let s3 = builder.build().map_err(|e| unavailable(&e))?;
        let prefix = Path::from(options.prefix.as_str());
        Ok(Self { s3: Arc::new(s3), prefix, mine: Arc::default() })
    }

    /// Readable, one object a key, and never outside the prefix.
    fn path(&self, key: &SegmentKey) -> Path {
        let parts = key.0.split('/').map(|part| match names::encoded(part, 120) {
            // Names that mean a folder, and none at all.
            dots if dots.bytes().all(|b| b == b'.') => format!("~{}", dots.len()),
            name => name,
        });
        let key = parts.collect::<Vec<_>>();
        let key = match key.len() {
            0..=16 => key.join("/"),
            _ => format!("~~{}", names::hashed(&key.join("/"))),
        };
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    fn mine(&self) -> MutexGuard<'_, Mine> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes some of what is over. Another replica may have written one anew, so each is asked for
    /// its end first.
    async fn sweep(&self, now: UnixMs) {
        let over: Vec<Path> = {
            let mut mine = self.mine();
            std::iter::from_fn(|| mine.take_over(now)).take(DELETE_AT_ONCE).collect()
        };
        let deleted = over.iter().map(|path| async move {
            let head = self.s3.get_opts(path, GetOptions { head: true, ..GetOptions::default() });
            match head.await {
                Ok(found) if ends(&found.attributes).is_none_or(|ends| ends <= now) => {
                    self.s3.delete(path).await
                }
                Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        });
        for done in futures::future::join_all(deleted).await {
            if let Err(error) = done {
                tracing::warn!(%error, "an object that is over was not deleted");
            }
        }
    }
}

/// What the options say; keys and more of the environment as well, if it is asked.
pub(crate) fn builder(options: &S3Options, from_environment: bool) -> AmazonS3Builder {
    let http = options.endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
    let client = ClientOptions::new()
        .with_timeout(options.timeout)
        .with_connect_timeout(options.timeout)
        .with_allow_http(http);
    // Once more for what one repetition mends; the request itself ends in time.
    let retry = RetryConfig {
        max_retries: 1,
        retry_timeout: options.timeout,
        backoff: BackoffConfig { init_backoff: Duration::from_millis(50), ..Default::default() },
    };
    let mut builder = match from_environment {
        true => AmazonS3Builder::from_env(),
        false => AmazonS3Builder::new(),
    }
    .with_bucket_name(&options.bucket)
    .with_client_options(client)
    .with_retry(retry);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some((id, secret)) = &options.keys {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    builder
}

fn ends(attributes: &Attributes) -> Option<UnixMs> {
    attributes.get(&Attribute::Metadata(ENDS.into()))?.as_ref().parse().ok().map(UnixMs)
}

#[async_trait]
impl SegmentStore for S3Segments {
    async fn put(
        &self,
        key: &SegmentKey,
        segment: StoredSegment,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let (path, ends) = (self.path(key), now.plus_ms(ttl_ms));
        let kind = match segment.format {
            SegmentFormat::MpegTs => "video/mp2t",
            SegmentFormat::Mp4 => "video/mp4",
        };
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, kind.to_owned()),
            (Attribute::Metadata(ENDS.into()), ends.0.to_string()),
        ]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.s3.put_opts(&path, segment.data.into(), options).await.map_err(|e| unavailable(&e))?;
        self.mine().add(path, ends);
        self.sweep(now).await;
        Ok(())
    }

    async fn get(
        &self,
        key: &SegmentKey,
        now: UnixMs,
    ) -> Result<Option<StoredSegment>, StoreError> {
        let found = match self.s3.get_opts(&self.path(key), GetOptions::default()).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|e| unavailable(&e))?,
        };
        let corrupt = || StoreError::Corrupt("segment");
        if ends(&found.attributes).ok_or_else(corrupt)? <= now {
            return Ok(None);
        }
        let format = match found.attributes.get(&Attribute::ContentType).map(AsRef::as_ref) {
            Some("video/mp2t") => SegmentFormat::MpegTs,
            Some("video/mp4") => SegmentFormat::Mp4,
            _ => return Err(corrupt()),
        };
        if found.meta.size > LARGEST {
            return Err(corrupt());
        }
        let data: Bytes = found.bytes().await.map_err(|e| unavailable(&e))?;
        Ok(Some(StoredSegment { data, format }))
    }

    async fn remove(&self, key: &SegmentKey, now: UnixMs) -> Result<bool, StoreError> {
        let live = self.get(key, now).await?.is_some();
        match self.s3.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(live),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // An object that is not there: the bucket answers, and lets us read.
        match self.s3.head(&self.prefix.clone().join("~ping")).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }
}
