//! Settings of live video.

use super::{Hosting, runners::Runners, workers::LiveWorkers};
use clap::Args;
use penstock_config::ConfigError;
use penstock_trickle::{Limits, Settings, TrickleServer};
use std::{sync::Arc, time::Duration};

/// Settings of live video.
#[derive(Debug, Clone, Args)]
pub struct LiveArgs {
    /// Live video sessions at once, over all models.
    #[arg(long, env = "PENSTOCK_MAX_LIVE_SESSIONS", default_value_t = 100,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_live_sessions: usize,

    /// Live video is charged for every so many milliseconds in which a runner brought something, and begins with so
    /// much of it paid. Gateways pay a minute before they begin.
    #[arg(long, env = "PENSTOCK_LIVE_PAYMENT_INTERVAL_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub live_payment_interval_ms: u64,

    /// A live video session whose gateway, or whose runner, begins no segment for so many
    /// milliseconds ends.
    #[arg(long, env = "PENSTOCK_LIVE_IDLE_MS", default_value_t = 300_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub live_idle_ms: u64,

    /// A live video session whose runner brings nothing for so many milliseconds, while its gateway sends, ends; that
    /// time is not charged.
    #[arg(long, env = "PENSTOCK_LIVE_OUTPUT_TIMEOUT_MS", default_value_t = 60_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub live_output_timeout_ms: u64,

    /// How often each live video runner is asked how it is, in milliseconds.
    #[arg(long, env = "PENSTOCK_LIVE_HEALTH_INTERVAL_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub live_health_interval_ms: u64,

    /// A worker with live video runners that is not heard of for so many milliseconds is gone, and its runners
    /// with it.
    #[arg(long, env = "PENSTOCK_LIVE_WORKER_LEASE_MS", default_value_t = 20_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1_000..=600_000))]
    pub live_worker_lease_ms: u64,

    /// Live video runners that workers bring, at once.
    #[arg(long, env = "PENSTOCK_MAX_WORKER_LIVE_RUNNERS", default_value_t = 1_000,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_worker_live_runners: usize,

    /// Host, or host and port, by which live video runners reach this orchestrator's channels, if not
    /// by that of --service-addr.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_HOST", value_name = "HOST[:PORT]")]
    pub live_trickle_host: Option<String>,

    /// Longest session of a hosted runner (an entry of --models-file with a ws or wss URL), in milliseconds:
    /// its time is paid to whoever hosts it.
    #[arg(long, env = "PENSTOCK_SERVERLESS_TIMEOUT_MS", default_value_t = 3_600_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=864_000_000))]
    pub serverless_timeout_ms: u64,

    /// How long a hosted runner has, in milliseconds, once it was told that its session will be over.
    #[arg(long, env = "PENSTOCK_SERVERLESS_GRACE_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub serverless_grace_ms: u64,

    /// Where hosted runners may be that requests choose by params.ws_url: what the URL has to begin with,
    /// ws or wss, the host and a slash at least. The key of the operator's own is shown there.
    #[arg(long, env = "PENSTOCK_SERVERLESS_URL_PREFIX", value_name = "URL")]
    pub serverless_url_prefix: Option<String>,

    /// The channels of live video and live runners.
    #[command(flatten)]
    pub trickle: TrickleArgs,
}

/// Bounds of what the channels hold, whatever their peers do.
#[derive(Debug, Clone, Args)]
pub struct TrickleArgs {
    /// Channels at once.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_CHANNELS", default_value_t = 16_384,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_channels: usize,

    /// Readers and writers of channels at once, over all channels. A reader whose socket takes nothing may
    /// cost some 400 KiB.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_REQUESTS", default_value_t = 16_384,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_requests: usize,

    /// So many of --live-trickle-requests, at most half of them, are for writers alone: media comes in
    /// whatever readers do.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_WRITER_ROOM", default_value_t = 2_048,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_writer_room: usize,

    /// Readers of one channel at once.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_READERS", default_value_t = 64,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_readers: usize,

    /// Readers at once of all channels of one session.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_SESSION_READERS", default_value_t = 128,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_session_readers: usize,

    /// Writers at once of all channels of one session, those included that have said nothing yet.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_SESSION_WRITERS", default_value_t = 64,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_session_writers: usize,

    /// Writers of one channel at once, those included that have said nothing yet.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_WRITERS", default_value_t = 32,
          value_parser = penstock_config::within::<usize>(0, 10_000_000))]
    pub live_trickle_writers: usize,

    /// Segments that a channel remembers, at least 2. Readers of the network count on 5.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_SEGMENTS", default_value_t = 5,
          value_parser = penstock_config::within::<usize>(0, 10_000))]
    pub live_trickle_segments: usize,

    /// Memory for one segment of a channel, in bytes.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_SEGMENT_BYTES", default_value_t = 64 << 20, value_name = "BYTES",
          value_parser = penstock_config::within::<u64>(0, 16 << 40))]
    pub live_trickle_segment_bytes: u64,

    /// Memory for one channel, in bytes, that included which slow readers hold.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_CHANNEL_BYTES", default_value_t = 256 << 20, value_name = "BYTES",
          value_parser = penstock_config::within::<u64>(0, 16 << 40))]
    pub live_trickle_channel_bytes: u64,

    /// Memory for all channels, in bytes.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_MEMORY_BYTES", default_value_t = 2 << 30, value_name = "BYTES",
          value_parser = penstock_config::within::<u64>(0, 16 << 40))]
    pub live_trickle_memory_bytes: u64,

    /// A reader of a channel that takes nothing for so many milliseconds is let go.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_STALL_MS", default_value_t = 30_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub live_trickle_stall_ms: u64,

    /// A writer of a channel whose segment was closed by somebody else, or with its channel, may go on sending it
    /// for so many milliseconds.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_WRITER_GRACE_MS", default_value_t = 60_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub live_trickle_writer_grace_ms: u64,
}

impl TrickleArgs {
    fn limits(&self) -> Limits {
        Limits {
            channels: self.live_trickle_channels,
            requests: self.live_trickle_requests,
            publisher_room: self.live_trickle_writer_room,
            subscribers_per_channel: self.live_trickle_readers,
            subscribers_per_group: self.live_trickle_session_readers,
            publishers_per_group: self.live_trickle_session_writers,
            publishers_per_channel: self.live_trickle_writers,
            segments_per_channel: self.live_trickle_segments,
            segment_bytes: self.live_trickle_segment_bytes,
            channel_bytes: self.live_trickle_channel_bytes,
            total_bytes: self.live_trickle_memory_bytes,
            reader_stall: Duration::from_millis(self.live_trickle_stall_ms),
            publisher_grace: Duration::from_millis(self.live_trickle_writer_grace_ms),
            ..Limits::default()
        }
    }
}

/// The flag that a limit has.
fn flag(limit: &str) -> &'static str {
    match limit {
        "channels" => "--live-trickle-channels",
        "requests" => "--live-trickle-requests",
        "subscribers_per_channel" => "--live-trickle-readers",
        "subscribers_per_group" => "--live-trickle-session-readers",
        "publishers_per_group" => "--live-trickle-session-writers",
        "publishers_per_channel" => "--live-trickle-writers",
        "segments_per_channel" => "--live-trickle-segments",
        "segment_bytes" => "--live-trickle-segment-bytes",
        "channel_bytes" => "--live-trickle-channel-bytes",
        "total_bytes" => "--live-trickle-memory-bytes",
        _ => "--live-idle-ms",
    }
}

/// The same, ready for use.
#[derive(Debug, Clone)]
pub struct LiveSettings {
    /// Between two charges.
    pub payment_interval_ms: u64,
    /// Between two questions to a runner.
    pub health_interval: Duration,
    /// Longest time in which a runner brings nothing of what comes.
    pub output_timeout: Duration,
    /// Host in URLs for runners.
    pub trickle_host: Option<String>,
}

/// Idle channels and stalled readers are looked for this often, or more often than they can be idle.
const SWEEP: Duration = Duration::from_secs(15);

impl LiveArgs {
    /// Checked.
    pub fn settings(&self) -> Result<LiveSettings, ConfigError> {
        if let Some(host) = &self.live_trickle_host {
            let url = url::Url::parse(&format!("http://{host}/"));
            let plain = |url: &url::Url| url.path() == "/" && url.username().is_empty();
            if !url.is_ok_and(|url| plain(&url) && url.query().is_none()) {
                return Err(ConfigError::value(
                    "--live-trickle-host",
                    "must be a host, or host:port",
                ));
            }
        }
        Ok(LiveSettings {
            payment_interval_ms: self.live_payment_interval_ms,
            health_interval: Duration::from_millis(self.live_health_interval_ms),
            output_timeout: Duration::from_millis(self.live_output_timeout_ms),
            trickle_host: self.live_trickle_host.clone(),
        })
    }

    /// What hosted runners have in common.
    pub fn hosting(
        &self,
        trickle: &TrickleServer,
        limits: crate::limits::Limits,
    ) -> Result<Hosting, ConfigError> {
        let bad = |why: &str| ConfigError::value("--serverless-url-prefix", why);
        let prefix = self.serverless_url_prefix.as_deref().map(str::to_lowercase);
        let rest = prefix.as_deref().map(|text| {
            text.strip_prefix("wss://").or_else(|| text.strip_prefix("ws://")).unwrap_or_default()
        });
        // With the slash the host is whole, and nobody's.
        if rest.is_some_and(|rest| {
            rest.split_once('/').is_none_or(|(host, _)| host.is_empty() || host.contains('@'))
        }) {
            return Err(bad("must begin with ws:// or wss://, a host and a slash"));
        }
        Ok(Hosting {
            trickle: trickle.clone(),
            longest: Duration::from_millis(self.serverless_timeout_ms),
            grace: Duration::from_millis(self.serverless_grace_ms),
            prefix,
            limits,
        })
    }

    /// Workers' runners, among all `runners`; `messages` is how many calls may wait for one worker.
    pub fn workers(&self, runners: Arc<Runners>, messages: usize) -> LiveWorkers {
        let lease = Duration::from_millis(self.live_worker_lease_ms);
        LiveWorkers::new(runners, self.max_worker_live_runners, messages, lease)
    }

    /// The channels' server. Peers make no channels; names are 128 random bits, and who knows one
    /// may use it.
    pub fn trickle(&self) -> Result<TrickleServer, ConfigError> {
        let idle_timeout = Duration::from_millis(self.live_idle_ms);
        let limits = self.trickle.limits();
        let settings = Settings {
            idle_timeout,
            sweep_interval: SWEEP.min(idle_timeout).min(limits.reader_stall),
            limits,
            ..Settings::default()
        };
        TrickleServer::new(settings).map_err(|error| {
            ConfigError::value(flag(error.setting), format!("must be at least {}", error.least))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        live: LiveArgs,
    }

    #[test]
    fn bounds_of_channels_are_settings_and_nonsense_is_named() {
        let of = |flag: &str| Only::parse_from(["x", flag]).live.trickle();
        assert!(of("--live-trickle-requests=1").is_ok());
        for (flag, name) in [
            ("--live-trickle-requests=0", "--live-trickle-requests"),
            ("--live-trickle-channels=0", "--live-trickle-channels"),
            ("--live-trickle-readers=0", "--live-trickle-readers"),
            ("--live-trickle-session-readers=0", "--live-trickle-session-readers"),
            ("--live-trickle-session-writers=0", "--live-trickle-session-writers"),
            ("--live-trickle-writers=0", "--live-trickle-writers"),
            ("--live-trickle-segments=1", "--live-trickle-segments"),
            ("--live-trickle-segment-bytes=1", "--live-trickle-segment-bytes"),
            ("--live-trickle-channel-bytes=1", "--live-trickle-channel-bytes"),
            ("--live-trickle-memory-bytes=1", "--live-trickle-memory-bytes"),
        ] {
            let error = of(flag).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("at least"), "{error}");
        }
        // The defaults are the channels' own.
        let (own, ours) = (Limits::default(), Only::parse_from(["x"]).live.trickle.limits());
        assert_eq!(format!("{own:?}"), format!("{ours:?}"));
    }

    #[test]
    fn hosts_for_runners() {
        let of = |host: &str| {
            let only = Only::parse_from(["x", "--live-trickle-host", host]);
            only.live.settings().map(|settings| settings.trickle_host)
        };
        for good in ["host", "host:8935", "10.0.0.1:1", "[::1]:1"] {
            assert_eq!(of(good).unwrap().as_deref(), Some(good));
        }
        for bad in ["", "http://host", "host/path", "a b", "user@host", "host?x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
