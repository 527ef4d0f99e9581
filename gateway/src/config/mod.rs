//! The gateway's settings: flags, their meaning and bounds, checked before anything starts.

pub mod ai;
pub mod front;
pub mod models;
pub mod record;
pub mod selection;
pub mod stores;
pub mod video;

use clap::{Parser, Subcommand};
use penstock_clients::{Identity, Names, Trust};
use penstock_config::{CommonArgs, ConfigError, Secret, read_secret_file};
use std::{
    collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration,
};
use url::Url;

/// Stateless HTTP gateway: takes video and AI jobs, pays orchestrators for them through the signer,
/// and hands results back.
#[derive(Debug, Clone, Parser)]
#[command(name = "penstock-gateway", version)]
pub struct Args {
    /// Address of the public HTTP interface. Port 0 chooses a free one.
    #[arg(
        long,
        env = "PENSTOCK_HTTP_ADDR",
        default_value = "127.0.0.1:9935",
        value_name = "IP:PORT"
    )]
    pub http_addr: SocketAddr,

    /// The signer: it holds the keys, pays, and (without --orchestrators) lists orchestrators.
    #[arg(
        long,
        env = "PENSTOCK_SIGNER_URL",
        default_value = "http://127.0.0.1:7936",
        value_name = "URL"
    )]
    pub signer_url: String,

    /// File with the bearer token that the signer asks for.
    #[arg(long, env = "PENSTOCK_SIGNER_TOKEN_FILE", value_name = "FILE")]
    pub signer_token_file: Option<PathBuf>,

    /// Authorities, PEM, that vouch for the signer's certificate; default: the system's.
    #[arg(long, env = "PENSTOCK_SIGNER_CA_FILE", value_name = "FILE")]
    pub signer_ca_file: Option<PathBuf>,

    /// Certificate, PEM, shown to a signer that asks for one.
    #[arg(long, env = "PENSTOCK_SIGNER_CLIENT_CERT", value_name = "FILE")]
    pub signer_client_cert: Option<PathBuf>,

    /// Private key of --signer-client-cert, PEM.
    #[arg(long, env = "PENSTOCK_SIGNER_CLIENT_KEY", value_name = "FILE")]
    pub signer_client_key: Option<PathBuf>,

    /// Most bytes of a pushed segment.
    #[arg(
        long,
        env = "PENSTOCK_MAX_BODY_BYTES",
        default_value_t = 300_000_000,
        value_name = "BYTES",
        value_parser = penstock_config::within::<usize>(0, 1 << 40)
    )]
    pub max_body_bytes: usize,

    /// Orchestrators tried for one segment before it is given up, and of an AI or brought job those that may
    /// have charged for a try that failed: who refuses at once costs nothing. 1 to 100.
    #[arg(long, env = "PENSTOCK_MAX_ATTEMPTS", default_value_t = 3)]
    pub max_attempts: u32,

    /// Least time that one segment has at an orchestrator, in milliseconds; long segments have four
    /// times their duration.
    #[arg(long, env = "PENSTOCK_SEGMENT_TIMEOUT_MS", default_value_t = 16_000, value_name = "MS")]
    pub segment_timeout_ms: u64,

    /// Least time that an orchestrator has to begin its answer to a segment, in milliseconds: when the
    /// upload is there and taken, not when the work is done. Long segments have half their duration.
    #[arg(
        long,
        env = "PENSTOCK_SEGMENT_HEAD_TIMEOUT_MS",
        default_value_t = 2_000,
        value_name = "MS"
    )]
    pub segment_head_timeout_ms: u64,

    /// When the next best orchestrator gets a segment as well because the first has no result yet, in
    /// milliseconds from when it was sent the segment; whichever result is there first counts, and both are paid.
    /// Never before twice the segment's duration and three times what the first one took last, so that one which
    /// is always slow is not doubted; and a share of all segments at most (--hedge-percent). 0: never.
    #[arg(
        long,
        env = "PENSTOCK_SEGMENT_HEDGE_AFTER_MS",
        default_value_t = 4_000,
        value_name = "MS",
        value_parser = penstock_config::within::<u64>(0, 3_600_000)
    )]
    pub segment_hedge_after_ms: u64,

    /// How long an orchestrator may take to accept tickets, in milliseconds. They are sent again, the
    /// same ones, when they are needed.
    #[arg(long, env = "PENSTOCK_PAYMENT_TIMEOUT_MS", default_value_t = 3_000, value_name = "MS")]
    pub payment_timeout_ms: u64,

    /// While an orchestrator has a job and nothing comes from it for so long, in milliseconds, it is asked for a
    /// sign of life (an HTTP/2 ping, which costs it nothing); if there is none for as long again, the job goes
    /// elsewhere. However long the work takes, a living process answers, and a dead or frozen one does not.
    /// 0: never.
    #[arg(long, env = "PENSTOCK_ORCHESTRATOR_PING_MS", default_value_t = 4_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 3_600_000))]
    pub orchestrator_ping_ms: u64,

    /// How long the signer may take for one answer, in milliseconds. A payment is asked for up to three
    /// times, and is the same one each time.
    #[arg(long, env = "PENSTOCK_SIGNER_TIMEOUT_MS", default_value_t = 3_000, value_name = "MS")]
    pub signer_timeout_ms: u64,

    /// Jobs' worth of credit that one payment buys at least. More means fewer payments, and more lost
    /// when an orchestrator goes away.
    #[arg(long, env = "PENSTOCK_PREPAY_JOBS", default_value_t = 4,
          value_parser = penstock_config::within::<u32>(1, 10_000))]
    pub prepay_jobs: u32,

    /// How long the credit that one payment buys lasts at the pace of the last second or two, in
    /// milliseconds, where that is more than --prepay-jobs: many short jobs would have used those up in no
    /// time. Where jobs are many, more is bought when half of it is left. So much is lost when an orchestrator goes away; neither of both buys ahead more than 50 tickets
    /// are worth. 0: --prepay-jobs alone, when credit has run out.
    #[arg(long, env = "PENSTOCK_PREPAY_MS", default_value_t = 1_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub prepay_ms: u64,

    /// How old the orchestrator pool may get before it is refreshed in the background, in
    /// milliseconds.
    #[arg(
        long,
        env = "PENSTOCK_DISCOVERY_INTERVAL_MS",
        default_value_t = 15_000,
        value_name = "MS",
        value_parser = penstock_config::within::<u64>(1, 86_400_000)
    )]
    pub discovery_interval_ms: u64,

    /// The tenant that payments are booked to at the signer, `client:subject`.
    #[arg(long, env = "PENSTOCK_AUTH_ID", default_value = "gateway:default")]
    pub auth_id: String,

    /// Follow URLs that an orchestrator names even if they lead into private, loopback or
    /// link-local networks. Its own address, as configured or discovered, is always allowed.
    #[arg(long, env = "PENSTOCK_ALLOW_PRIVATE_PEERS")]
    pub allow_private_peers: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub ai: ai::AiArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub front: front::FrontArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub stores: stores::StoresArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub video: video::VideoArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub record: record::RecordArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub selection: selection::SelectionArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: CommonArgs,

    /// How slow readers of answers may be.
    #[command(flatten)]
    pub readers: penstock_config::ReaderArgs,

    /// Where traces go, and how many.
    #[command(flatten)]
    pub otlp: penstock_config::OtlpArgs,

    #[command(subcommand)]
    #[allow(missing_docs)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Prints the OpenAPI document of the HTTP interface.
    Openapi {
        /// That of the admin listener instead.
        #[arg(long)]
        admin: bool,
    },
    /// Prints the table of errors, docs/errors.md.
    Errors,
    /// Prints how long choices among so many simulated orchestrators take, as JSON.
    MeasureSelection {
        /// Orchestrators in the pool.
        #[arg(long, default_value_t = 1_000)]
        orchestrators: usize,
        /// Choices.
        #[arg(long, default_value_t = 2_000)]
        choices: usize,
    },
}

/// The settings, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As given.
    pub args: Args,
    /// `--signer-url`.
    pub signer_url: Url,
    /// `--signer-token-file`, read.
    pub signer_token: Option<Secret>,
    /// `--signer-ca-file`, read.
    pub signer_trust: Trust,
    /// `--signer-client-cert` and `--signer-client-key`, read.
    pub signer_identity: Option<Identity>,
    /// `--orchestrators`.
    pub orchestrators: Vec<Url>,
    /// Models whose pools are kept fresh, by pipeline.
    pub default_models: BTreeMap<String, String>,
    /// Whom to use.
    pub selection: selection::SelectionSettings,
    /// `--auth-id`.
    pub auth_id: penstock_domain::AuthId,
    /// Operator token of the admin listener.
    pub admin_token: Option<Secret>,
    /// AI jobs.
    pub ai: ai::AiSettings,
    /// The front door.
    pub front: front::FrontSettings,
    /// The stores.
    pub stores: stores::StoresSettings,
    /// Ingest and playback of video.
    pub video: video::VideoSettings,
    /// Recordings.
    pub record: record::RecordSettings,
    /// How the names in peers' URLs become addresses: the system's way, or a test's.
    pub names: Names,
    /// How long discovery waits: the network's way, or a test's.
    pub discovery: DiscoveryTimes,
}

/// How long discovery waits for orchestrators.
#[derive(Debug, Clone, Copy)]
pub struct DiscoveryTimes {
    /// One orchestrator's time to answer.
    pub answer: Duration,
    /// A job that waits for a cold pool goes on with what there is at the first of the ticks T, 2T, 4T…
    /// that finds anybody.
    pub first_tick: Duration,
}

impl Default for DiscoveryTimes {
    /// The reference's limit for a whole round, and its first tick (selection.md section 3).
    fn default() -> Self {
        Self { answer: Duration::from_secs(3), first_tick: Duration::from_millis(500) }
    }
}

impl Settings {
    /// Checks everything that can be checked without a peer.
    pub fn from_args(args: Args) -> Result<Self, ConfigError> {
        if args.max_body_bytes == 0 {
            return Err(ConfigError::value("--max-body-bytes", "must be above 0"));
        }
        // Shorter than an answer can be, everybody who is asked looks as if he failed.
        for (setting, value, least, most) in [
            ("--max-attempts", u64::from(args.max_attempts), 1, 100),
            ("--segment-timeout-ms", args.segment_timeout_ms, 1, HOUR_MS),
            ("--segment-head-timeout-ms", args.segment_head_timeout_ms, 1, HOUR_MS),
            ("--signer-timeout-ms", args.signer_timeout_ms, 20, 600_000),
            ("--payment-timeout-ms", args.payment_timeout_ms, 20, 600_000),
        ] {
            within(setting, value, least..=most)?;
        }
        let ai = ai::AiSettings::from_args(&args.ai)?;
        let selection = args.selection.settings()?;
        let read_token = |path| read_secret_file(path, "--signer-token-file");
        Ok(Self {
            signer_url: url("--signer-url", &args.signer_url, "https://")?,
            signer_token: args.signer_token_file.as_deref().map(read_token).transpose()?,
            signer_trust: match &args.signer_ca_file {
                None => Trust::System,
                Some(path) => Trust::roots_from_file(path)
                    .map_err(|e| ConfigError::value("--signer-ca-file", e))?,
            },
            signer_identity: signer_identity(&args)?,
            orchestrators: orchestrators(&args.selection.orchestrators)?,
            default_models: ai.kept_warm(),
            ai,
            selection,
            auth_id: penstock_domain::AuthId::new(args.auth_id.clone())
                .map_err(|e| ConfigError::value("--auth-id", e.to_string()))?,
            admin_token: args.common.admin_token()?,
            front: front::FrontSettings::from_args(&args.front)?,
            stores: stores::StoresSettings::from_args(&args.stores)?,
            video: video::VideoSettings::from_args(&args.video)?,
            record: record::RecordSettings::from_args(&args.record, &args.stores)?,
            names: Names::default(),
            discovery: DiscoveryTimes::default(),
            args,
        })
    }
}

const HOUR_MS: u64 = 3_600_000;

fn within(setting: &str, value: u64, bounds: RangeInclusive<u64>) -> Result<(), ConfigError> {
    match bounds.contains(&value) {
        true => Ok(()),
        false => {
            let (least, most) = bounds.into_inner();
            Err(ConfigError::value(setting, format!("must be from {least} to {most}")))
        }
    }
}

fn url(setting: &str, text: &str, default_scheme: &str) -> Result<Url, ConfigError> {
    let bad = |reason: String| ConfigError::value(setting, reason);
    let full =
        if text.contains("://") { text.to_owned() } else { format!("{default_scheme}{text}") };
    let url = Url::parse(&full).map_err(|e| bad(format!("{text:?} is not a URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad(format!("{text:?} must be an http or https URL with a host")));
    }
    Ok(url)
}

/// selection.md section 1: trimmed, empty entries dropped, `https://` put in front, port 8935.
fn orchestrators(list: &[String]) -> Result<Vec<Url>, ConfigError> {
    let entries = list.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let mut url = url("--orchestrators", entry, "https://")?;
            let authority = entry.split("://").last().unwrap_or_default();
            let authority = authority.split('/').next().unwrap_or_default();
            let names_port = authority.rsplit(']').next().unwrap_or_default().contains(':');
            if !names_port {
                // Cannot fail: the URL has a host.
                let _ = url.set_port(Some(8935));
            }
            Ok(url)
        })
        .collect()
}

fn signer_identity(args: &Args) -> Result<Option<Identity>, ConfigError> {
    match (&args.signer_client_cert, &args.signer_client_key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Identity::from_files(cert, key)
            .map(Some)
            .map_err(|e| ConfigError::value("--signer-client-cert", e)),
        (Some(_), None) => {
            Err(ConfigError::value("--signer-client-key", "is required with --signer-client-cert"))
        }
        (None, Some(_)) => {
            Err(ConfigError::value("--signer-client-cert", "is required with --signer-client-key"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ai::Pipeline;

    fn settings(argv: &[&str]) -> Result<Settings, ConfigError> {
        let argv = std::iter::once("penstock-gateway").chain(argv.iter().copied());
        Settings::from_args(penstock_config::try_parse_from(argv)?)
    }

    #[test]
    fn times_that_nobody_can_meet_are_refused() {
        for name in [
            "max-attempts",
            "segment-timeout-ms",
            "segment-head-timeout-ms",
            "signer-timeout-ms",
            "payment-timeout-ms",
            "ai-job-timeout-ms",
            "ai-stream-head-ms",
            "ai-stream-idle-ms",
            "ai-result-ttl-ms",
        ] {
            for value in [0, u64::from(u32::MAX)] {
                let refused = settings(&[&format!("--{name}={value}")]).unwrap_err().to_string();
                assert!(refused.contains(&format!("--{name}: must be from")), "{refused}");
            }
        }
        assert!(settings(&["--max-attempts=1", "--ai-retry-timeout-ms=0"]).is_ok());
    }

    #[test]
    fn numbers_beyond_all_bounds_are_refused() {
        for name in [
            "auth-webhook-timeout-ms",
            "rtmp-max-connections",
            "rtmp-max-bitrate",
            "hls-gap-wait-ms",
            "segment-store-bytes",
            "segment-store-file-bytes",
            "max-body-bytes",
            "segment-hedge-after-ms",
            "orchestrator-ping-ms",
            "prepay-jobs",
            "discovery-interval-ms",
            "extra-nodes",
            "max-price-buffer-percent",
            "hedge-after-ms",
            "session-lease-ms",
            "selection-cache-ms",
            "max-audio-bytes",
            "max-image-bytes",
            "max-ai-json-bytes",
            "default-max-tokens",
            "max-byoc-bytes",
            "caller-auth-stale-ms",
            "drain-notice-ms",
            "video-max-in-flight",
            "video-queue",
            "video-queue-wait-ms",
            "ai-max-in-flight",
            "ai-queue",
            "ai-queue-wait-ms",
            "caller-max-in-flight",
            "max-buffered-bytes",
            "drain-timeout-ms",
        ] {
            let refused = settings(&[&format!("--{name}={}", u64::MAX)]).unwrap_err().to_string();
            assert!(refused.contains(&format!("--{name}")), "{refused}");
        }
    }

    #[test]
    fn definition_and_defaults() {
        penstock_config::assert_definition::<Args>();
        let s = settings(&[]).unwrap();
        assert_eq!(s.signer_url.as_str(), "http://127.0.0.1:7936/");
        assert_eq!(s.video.profiles.len(), 2);
        let audio = |asked| s.ai.model(Pipeline::AudioToText, asked);
        assert_eq!(audio(Some("")), "openai/whisper-large-v3");
        assert_eq!(audio(Some("m")), "m");
        assert_eq!(s.ai.model(Pipeline::Llm, None), Pipeline::Llm.default_model());
        assert_eq!(s.default_models.len(), 1, "nobody looks for models that nobody chose");
    }

    /// The names of the command-line contract (architecture.md), and the Go node's own.
    #[test]
    fn the_list_behind_a_url_has_the_names_that_are_looked_for() {
        for name in ["orchestrator-webhook-url", "discovery-url", "orch-webhook-url"] {
            let given = settings(&[&format!("--{name}=https://lists.example/o")]).unwrap();
            let url = given.selection.webhook_url.unwrap();
            assert_eq!(url.as_str(), "https://lists.example/o", "{name}");
        }
        let twice = ["--discovery-url=https://a", "--orchestrator-webhook-url=https://b"];
        assert!(settings(&twice).unwrap_err().to_string().contains("multiple times"));
    }

    #[test]
    fn no_try_of_an_ai_job_may_take_all_its_time() {
        let of = |flags: &[&str]| settings(flags).unwrap().ai.try_timeout;
        let ms = std::time::Duration::from_millis;
        assert_eq!(of(&[]).of(Pipeline::Llm), ms(300_000), "half of the job's");
        assert_eq!(of(&["--ai-job-timeout-ms=1000"]).of(Pipeline::Llm), ms(500));
        let some = of(&["--ai-try-timeout-ms=60000,image-to-video=599999"]);
        assert_eq!(some.of(Pipeline::ImageToVideo), ms(599_999));
        assert_eq!(some.of(Pipeline::Llm), ms(60_000));
        for wrong in ["600000", "0", "x", "llm=", "video=5", "llm=600000"] {
            let refused = settings(&[&format!("--ai-try-timeout-ms={wrong}")]).unwrap_err();
            assert!(refused.to_string().contains("--ai-try-timeout-ms"), "{wrong}: {refused}");
        }
    }

    #[test]
    fn values() {
        let s = settings(&[
            "--orchestrators",
            "https://a:1,http://b,, c ,[::1]",
            "--default-model",
            "audio-to-text=x/y",
            "--max-price",
            "1/3",
            "--signer-url",
            "signer.example:7936",
            "--public-url=https://g.example/api/",
        ])
        .unwrap();
        let urls: Vec<_> = s.orchestrators.iter().map(Url::as_str).collect();
        assert_eq!(
            urls,
            ["https://a:1/", "http://b:8935/", "https://c:8935/", "https://[::1]:8935/"]
        );
        assert_eq!(s.ai.model(Pipeline::AudioToText, None), "x/y");
        assert_eq!(s.default_models["audio-to-text"], "x/y");
        assert_eq!(s.ai.public_url.as_deref(), Some("https://g.example/api"));
        let third = penstock_domain::Rational::new(1, 3).map(selection::Ceiling::Wei);
        assert_eq!(s.selection.max_price, third);
        assert_eq!(s.signer_url.scheme(), "https");
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (argv, says) in [
            (["--session-store", "redis://x"], "--segment-store"),
            (["--session-store", "redis://user:secret@x"], "--session-store"),
            (["--session-store", "postgres://u:secret@x"], "--session-store"),
            (["--segment-store", "redis"], "--segment-store"),
            (["--segment-store", "disk:"], "--segment-store"),
            (["--segment-store", "nowhere"], "--segment-store"),
            (["--segment-store", "s3://"], "--segment-store"),
            (["--orchestrators", "ftp://x"], "--orchestrators"),
            (["--transcoding-options", "nope"], "--transcoding-options"),
            (["--auth-webhook-url", "ftp://x"], "--auth-webhook-url"),
            (["--stream-idle-ms", "0"], "--stream-idle-ms"),
            (["--hls-gap-wait-ms", "4999"], "--hls-gap-wait-ms"),
            (["--default-model", "h264=x"], "--default-model"),
            (["--default-model", "audio-to-text"], "--default-model"),
            (["--public-url", "g.example"], "--public-url"),
            (["--default-max-tokens", "0"], "--default-max-tokens"),
            (["--embeddings-model", "m"], "--embeddings-model"),
            (["--max-price", "0"], "--max-price"),
            (["--max-price", "1/0"], "--max-price"),
            (["--signer-url", "unix:///x"], "--signer-url"),
            (["--signer-ca-file", "/nonexistent"], "--signer-ca-file"),
            (["--signer-client-cert", "/nonexistent"], "--signer-client-key"),
            (["--signer-client-key", "/nonexistent"], "--signer-client-cert"),
            (["--auth-id", "a b"], "--auth-id"),
        ] {
            let error = settings(&argv).unwrap_err().to_string();
            assert!(error.starts_with(says), "{argv:?}: {error}");
            assert!(!error.contains("secret"), "{argv:?}: {error}");
        }
    }
}
