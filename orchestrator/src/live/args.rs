//! Settings of live video.

use clap::Args;
use penstock_config::ConfigError;
use penstock_trickle::{Settings, TrickleServer};
use std::time::Duration;

/// Settings of live video.
#[derive(Debug, Clone, Args)]
pub struct LiveArgs {
    /// Live video sessions at once, over all models.
    #[arg(long, env = "PENSTOCK_MAX_LIVE_SESSIONS", default_value_t = 100)]
    pub max_live_sessions: usize,

    /// Live video is charged for every so many milliseconds in which media came, or
    /// segments without any.
    #[arg(long, env = "PENSTOCK_LIVE_PAYMENT_INTERVAL_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub live_payment_interval_ms: u64,

    /// A live video session whose gateway, or whose runner, begins no segment for so many
    /// milliseconds ends.
    #[arg(long, env = "PENSTOCK_LIVE_IDLE_MS", default_value_t = 300_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub live_idle_ms: u64,

    /// How often a runner with a live video session is asked how it is, in milliseconds.
    #[arg(long, env = "PENSTOCK_LIVE_HEALTH_INTERVAL_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub live_health_interval_ms: u64,

    /// Host, or host and port, by which live video runners reach this orchestrator's channels, if not
    /// by that of --service-addr.
    #[arg(long, env = "PENSTOCK_LIVE_TRICKLE_HOST", value_name = "HOST[:PORT]")]
    pub live_trickle_host: Option<String>,
}

/// The same, ready for use.
#[derive(Debug, Clone)]
pub struct LiveSettings {
    /// Between two charges.
    pub payment_interval_ms: u64,
    /// Between two questions to a runner.
    pub health_interval: Duration,
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
            trickle_host: self.live_trickle_host.clone(),
        })
    }

    /// The channels' server. Peers make no channels; names are 128 random bits, and who knows one
    /// may use it.
    pub fn trickle(&self) -> Result<TrickleServer, ConfigError> {
        let idle_timeout = Duration::from_millis(self.live_idle_ms);
        let settings = Settings {
            idle_timeout,
            sweep_interval: SWEEP.min(idle_timeout),
            ..Settings::default()
        };
        TrickleServer::new(settings)
            .map_err(|e| ConfigError::value("--live-idle-ms", e.to_string()))
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
