//! Settings of the stores: where state and media bytes outlive a request.

use penstock_config::{ConfigError, read_secret_file};
use penstock_store::{RedisOptions, RedisUrl, S3Options};
use std::{path::PathBuf, time::Duration};

/// Where things are kept.
#[derive(Debug, Clone, clap::Args)]
pub struct StoresArgs {
    /// Where state that outlives a request is kept: `memory` (one replica; lost at restart), or a
    /// Redis that replicas share: redis://HOST:PORT[/DB] (rediss: for TLS, redis+unix:///PATH),
    /// redis+sentinel://HOST:PORT,…?master=NAME, redis+cluster://HOST:PORT,….
    #[arg(long, env = "PENSTOCK_SESSION_STORE", default_value = "memory", value_name = "STORE")]
    pub session_store: String,

    /// File with the password for Redis.
    #[arg(long, env = "PENSTOCK_SESSION_STORE_PASSWORD_FILE", value_name = "FILE")]
    pub session_store_password_file: Option<PathBuf>,

    /// File with the password for the sentinels, if it is not the one for Redis. It is shown only to
    /// sentinels that ask for one.
    #[arg(long, env = "PENSTOCK_SESSION_STORE_SENTINEL_PASSWORD_FILE", value_name = "FILE")]
    pub session_store_sentinel_password_file: Option<PathBuf>,

    /// Authorities, PEM, that vouch for Redis' certificate; default: the system's.
    #[arg(long, env = "PENSTOCK_SESSION_STORE_CA_FILE", value_name = "FILE")]
    pub session_store_ca_file: Option<PathBuf>,

    /// Begins every key in Redis. Gateways with the same prefix are replicas of one another.
    #[arg(
        long,
        env = "PENSTOCK_SESSION_STORE_PREFIX",
        default_value = "penstock",
        value_name = "NAME"
    )]
    pub session_store_prefix: String,

    /// Longest time to connect to Redis, and longest wait for one answer, in milliseconds. After it
    /// Redis counts as away: requests get 503 at once until it answers again.
    #[arg(
        long,
        env = "PENSTOCK_SESSION_STORE_TIMEOUT_MS",
        default_value_t = 1_000,
        value_name = "MS",
        value_parser = clap::value_parser!(u64).range(20..=60_000)
    )]
    pub session_store_timeout_ms: u64,

    /// Redis replicas that must have a finished segment or a stored answer before a client hears of
    /// it; waits at most half of --session-store-timeout-ms for them, then answers 503. With 1 and
    /// one replica a failover loses nothing that was acknowledged.
    #[arg(
        long,
        env = "PENSTOCK_SESSION_STORE_REPLICAS",
        default_value_t = 0,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(0..=9)
    )]
    pub session_store_replicas: u32,

    /// Where media bytes for playback and replay are kept: `memory` (one replica; lost at
    /// restart), `redis` (in the session store's; short windows of small segments), `redis://…` (in
    /// another), `disk:PATH` (replicas need a shared file system), s3://BUCKET[/PREFIX].
    #[arg(long, env = "PENSTOCK_SEGMENT_STORE", default_value = "memory", value_name = "STORE")]
    pub segment_store: String,

    /// Most bytes of media that the memory or disk segment store holds; what expires first is dropped
    /// first.
    #[arg(
        long,
        env = "PENSTOCK_SEGMENT_STORE_BYTES",
        default_value_t = 2 << 30,
        value_name = "BYTES",
        value_parser = penstock_config::within::<usize>(1, 16 << 40)
    )]
    pub segment_store_bytes: usize,

    /// Where the bucket is, if not at AWS: a URL. Default: AWS_ENDPOINT_URL of the environment.
    #[arg(long, env = "PENSTOCK_SEGMENT_STORE_ENDPOINT", value_name = "URL")]
    pub segment_store_endpoint: Option<String>,

    /// The bucket's region. Default: AWS_REGION of the environment, else us-east-1.
    #[arg(long, env = "PENSTOCK_SEGMENT_STORE_REGION", value_name = "REGION")]
    pub segment_store_region: Option<String>,

    /// File with access key id and secret for the bucket, as ID:SECRET. Default: what the environment
    /// (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the machine's role gives.
    #[arg(long, env = "PENSTOCK_SEGMENT_STORE_KEY_FILE", value_name = "FILE")]
    pub segment_store_key_file: Option<PathBuf>,

    /// Most bytes of one file in a Redis segment store.
    #[arg(
        long,
        env = "PENSTOCK_SEGMENT_STORE_FILE_BYTES",
        default_value_t = 16 << 20,
        value_name = "BYTES",
        value_parser = penstock_config::within::<usize>(1, 1 << 40)
    )]
    pub segment_store_file_bytes: usize,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct StoresSettings {
    /// `--session-store`
    pub session: SessionStoreKind,
    /// `--segment-store`
    pub segments: SegmentStoreKind,
}

/// Which session store.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum SessionStoreKind {
    /// In this process.
    Memory,
    /// Shared.
    Redis(RedisOptions),
}

/// Which segment store.
#[derive(Debug, Clone)]
pub enum SegmentStoreKind {
    /// In this process.
    Memory {
        /// Most bytes.
        bytes: usize,
    },
    /// Shared.
    Redis {
        /// Another than the session store's.
        other: Option<RedisOptions>,
        /// Most bytes of one file.
        file_bytes: usize,
    },
    /// Files.
    Disk {
        /// The folder.
        path: PathBuf,
        /// Most bytes.
        bytes: usize,
    },
    /// Objects.
    S3(S3Options),
}

impl StoresSettings {
    /// Checks, and reads the named files.
    pub fn from_args(args: &StoresArgs) -> Result<Self, ConfigError> {
        let session = match args.session_store.as_str() {
            "memory" => SessionStoreKind::Memory,
            text => SessionStoreKind::Redis(redis(args, "--session-store", text)?),
        };
        let is_redis = matches!(session, SessionStoreKind::Redis(_));
        let segments = segments(args, is_redis)?;
        if is_redis && matches!(segments, SegmentStoreKind::Memory { .. }) {
            return Err(ConfigError::value(
                "--segment-store",
                "is memory, but --session-store is shared: other replicas would list segments that \
                 only this one has; use redis, s3://…, or disk:PATH on a shared file system",
            ));
        }
        Ok(Self { session, segments })
    }
}

impl SegmentStoreKind {
    /// What to say to an operator whose clients may send, or get, larger files than are kept.
    pub fn too_small_for(&self, max_body_bytes: usize) -> Option<String> {
        let (setting, most) = match self {
            Self::Redis { file_bytes, .. } => ("--segment-store-file-bytes", *file_bytes),
            Self::Memory { bytes } | Self::Disk { bytes, .. } => ("--segment-store-bytes", *bytes),
            Self::S3(_) => return None,
        };
        (most < max_body_bytes).then(|| {
            format!("{setting} is {most}, below --max-body-bytes ({max_body_bytes}): larger segments and results are refused with 413")
        })
    }
}

fn segments(args: &StoresArgs, shared: bool) -> Result<SegmentStoreKind, ConfigError> {
    let setting = "--segment-store";
    let bytes = args.segment_store_bytes;
    let file_bytes = args.segment_store_file_bytes;
    if let Some(path) = args.segment_store.strip_prefix("disk:") {
        if path.is_empty() {
            return Err(ConfigError::value(setting, "disk: wants a path"));
        }
        return Ok(SegmentStoreKind::Disk { path: path.into(), bytes });
    }
    if args.segment_store.starts_with("s3:") {
        return Ok(SegmentStoreKind::S3(s3(args, setting, &args.segment_store)?));
    }
    match args.segment_store.as_str() {
        "memory" => Ok(SegmentStoreKind::Memory { bytes }),
        "redis" if shared => Ok(SegmentStoreKind::Redis { other: None, file_bytes }),
        "redis" => Err(ConfigError::value(setting, "is redis, but --session-store is not")),
        text => {
            let other = Some(redis(args, setting, text)?);
            Ok(SegmentStoreKind::Redis { other, file_bytes })
        }
    }
}

/// A bucket, and how `--segment-store-…` say it is reached.
pub(super) fn s3(args: &StoresArgs, setting: &str, text: &str) -> Result<S3Options, ConfigError> {
    let bad = |reason: &str| ConfigError::value(setting, reason.to_owned());
    let mut options = S3Options::parse(text).map_err(bad)?;
    let endpoint = args.segment_store_endpoint.as_deref();
    options.endpoint = match endpoint.map(url::Url::parse).transpose() {
        Ok(url) => url.map(|url| url.to_string().trim_end_matches('/').to_owned()),
        Err(e) => return Err(ConfigError::value("--segment-store-endpoint", e.to_string())),
    };
    options.region = args.segment_store_region.clone();
    let name = "--segment-store-key-file";
    let key = args.segment_store_key_file.as_deref().map(|p| read_secret_file(p, name));
    if let Some(key) = key.transpose()? {
        let pair = key
            .expose()
            .split_once(':')
            .filter(|(id, secret)| !id.is_empty() && !secret.is_empty());
        let (id, secret) =
            pair.ok_or_else(|| ConfigError::value(name, "does not hold ID:SECRET"))?;
        options.keys = Some((id.to_owned(), secret.to_owned()));
    }
    Ok(options)
}

fn redis(args: &StoresArgs, setting: &str, text: &str) -> Result<RedisOptions, ConfigError> {
    if !RedisUrl::looks_like_one(text) {
        // Not shown whole: it may hold a password.
        return Err(ConfigError::value(setting, "names no store that is known; see --help"));
    }
    let url = RedisUrl::parse(text).map_err(|e| ConfigError::value(setting, e.to_string()))?;
    let prefix = args.session_store_prefix.clone();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(plain) {
        return Err(ConfigError::value(
            "--session-store-prefix",
            "must be 1 to 64 letters, digits, '-', '_', '.' or ':'",
        ));
    }
    let secret = |file: &Option<PathBuf>, setting| {
        let secret = file.as_deref().map(|path| read_secret_file(path, setting)).transpose();
        secret.map(|secret| secret.map(|secret| secret.expose().to_owned()))
    };
    let root_cert = args.session_store_ca_file.as_deref().map(|path| {
        std::fs::read(path).map_err(|e| {
            ConfigError::value("--session-store-ca-file", format!("{}: {e}", path.display()))
        })
    });
    Ok(RedisOptions {
        password: secret(&args.session_store_password_file, "--session-store-password-file")?,
        sentinel_password: secret(
            &args.session_store_sentinel_password_file,
            "--session-store-sentinel-password-file",
        )?,
        root_cert: root_cert.transpose()?,
        prefix,
        timeout: Duration::from_millis(args.session_store_timeout_ms),
        replicas: args.session_store_replicas,
        ..RedisOptions::new(url)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_told() {
        let redis = SegmentStoreKind::Redis { other: None, file_bytes: 16 << 20 };
        let why = redis.too_small_for(300_000_000).unwrap();
        assert!(why.starts_with("--segment-store-file-bytes is 16777216"), "{why}");
        assert_eq!(redis.too_small_for(16 << 20), None);
        let memory = SegmentStoreKind::Memory { bytes: 10 };
        assert!(memory.too_small_for(11).unwrap().starts_with("--segment-store-bytes"));
    }
}
