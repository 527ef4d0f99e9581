//! Settings of live runners.

use super::template::Template;
use crate::{
    limits::Limits,
    runner_networks::{Network, USUAL},
};
use clap::Args;
use penstock_config::ConfigError;
use std::{path::PathBuf, time::Duration};

/// Settings of live runners.
#[derive(Debug, Clone, Args)]
pub struct RunnerArgs {
    /// Lets applications register themselves as live runners, with the secret of --secret-file.
    #[arg(long, env = "PENSTOCK_USE_LIVE_RUNNERS")]
    pub use_live_runners: bool,

    /// JSON file with the operator's own live runners, `{"runners":[…]}`, read at start.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_CONFIG", value_name = "FILE")]
    pub live_runner_config: Option<PathBuf>,

    /// Address by which live runners reach this orchestrator, if not by --service-addr.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_ADDR", value_name = "URL")]
    pub live_runner_addr: Option<String>,

    /// Where clients find the proxies of live runners: a URL with {proxy} in its host or as the last
    /// piece of its path. Default: the service address and /run/{proxy}.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_PROXY_URL", value_name = "TEMPLATE")]
    pub live_runner_proxy_url: Option<String>,

    /// Networks where live runners and workers of brought capabilities may be: public, private, loopback,
    /// ADDRESS/BITS. Link-local addresses and this process's own listeners never are allowed.
    #[arg(long, env = "PENSTOCK_RUNNER_NETWORKS", value_name = "NETWORK,…", value_delimiter = ',',
          default_value = USUAL)]
    pub runner_networks: Vec<Network>,

    /// Live runners at once.
    #[arg(long, env = "PENSTOCK_MAX_LIVE_RUNNERS", default_value_t = 1_000,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_live_runners: usize,

    /// Sessions and calls of live runners at once, over all runners.
    #[arg(long, env = "PENSTOCK_MAX_RUNNER_SESSIONS", default_value_t = 1_000,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_runner_sessions: usize,

    /// Channels that one session of a live runner may have.
    #[arg(long, env = "PENSTOCK_MAX_RUNNER_CHANNELS", default_value_t = 100,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_runner_channels: usize,

    /// Proxies that one session of a live runner may have.
    #[arg(long, env = "PENSTOCK_MAX_RUNNER_PROXIES", default_value_t = 32,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_runner_proxies: usize,

    /// Requests and connections that one session of a live runner may have open.
    #[arg(long, env = "PENSTOCK_MAX_RUNNER_REQUESTS", default_value_t = 256,
          value_parser = penstock_config::within::<usize>(1, 1_000_000))]
    pub max_runner_requests: usize,

    /// Requests to live runners, and connections with them, that may be open in all sessions.
    #[arg(long, env = "PENSTOCK_MAX_OPEN_RUNNER_REQUESTS", default_value_t = 4_096,
          value_parser = penstock_config::within::<usize>(1, 10_000_000))]
    pub max_open_runner_requests: usize,

    /// A live runner that is not heard of for so many milliseconds is gone. It is told to say
    /// something four times as often.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_TTL_MS", default_value_t = 20_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(40..=3_600_000))]
    pub live_runner_ttl_ms: u64,

    /// How often the operator's own live runners are asked how they are, in milliseconds.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_HEALTH_MS", default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub live_runner_health_ms: u64,

    /// A session of a live runner that nobody pays, calls or listens to for so many milliseconds is
    /// released.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_LEASE_MS", default_value_t = 120_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub live_runner_lease_ms: u64,

    /// A request to a live runner, or a connection with one, on which no byte moves for so many
    /// milliseconds is closed.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_IDLE_MS", default_value_t = 300_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub live_runner_idle_ms: u64,

    /// Largest body of a request that is passed on to a live runner, in bytes.
    #[arg(long, env = "PENSTOCK_LIVE_RUNNER_BODY_BYTES", default_value_t = 1 << 30, value_name = "BYTES",
          value_parser = penstock_config::within::<u64>(1, 16 << 40))]
    pub live_runner_body_bytes: u64,
}

/// The bounds of [`RunnerArgs`].
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Runners.
    pub runners: usize,
    /// Sessions of all of them.
    pub sessions: usize,
    /// Channels of a session.
    pub channels: usize,
    /// Proxies of a session.
    pub proxies: usize,
    /// Open requests of a session.
    pub requests: usize,
    /// Open requests of all sessions.
    pub all_requests: usize,
    /// Silence that ends a registration.
    pub ttl: Duration,
    /// Disuse that ends a session.
    pub lease: Duration,
    /// Silence that ends a request.
    pub idle: Duration,
    /// Between two questions to the operator's own.
    pub health_interval: Duration,
    /// Body of a request.
    pub body_bytes: u64,
    /// Between two charges.
    pub payment_interval: Duration,
    /// Pieces of an answer that wait for the client.
    pub waiting_pieces: usize,
    /// Messages that wait for a runner.
    pub messages: usize,
    /// Sessions that have ended and are told of.
    pub ended: usize,
}

/// Where runners and clients find things.
#[derive(Debug, Clone)]
pub struct Places {
    /// For clients, without a trailing slash.
    pub service: String,
    /// For runners, the same.
    pub runner: String,
    /// Of proxies.
    pub template: Template,
}

impl RunnerArgs {
    /// Whether there are live runners at all.
    pub fn is_on(&self) -> bool {
        self.use_live_runners || self.live_runner_config.is_some()
    }

    /// The bounds.
    pub fn bounds(&self, payment_interval_ms: u64, limits: &Limits) -> Bounds {
        let ms = Duration::from_millis;
        Bounds {
            runners: self.max_live_runners,
            sessions: self.max_runner_sessions,
            channels: self.max_runner_channels,
            proxies: self.max_runner_proxies,
            requests: self.max_runner_requests,
            all_requests: self.max_open_runner_requests,
            ttl: ms(self.live_runner_ttl_ms),
            lease: ms(self.live_runner_lease_ms),
            idle: ms(self.live_runner_idle_ms),
            health_interval: ms(self.live_runner_health_ms),
            body_bytes: self.live_runner_body_bytes,
            payment_interval: ms(payment_interval_ms),
            waiting_pieces: limits.runner_waiting_pieces,
            messages: limits.runner_messages,
            ended: limits.ended_sessions,
        }
    }

    /// The places, checked.
    pub fn places(&self, service_uri: &str) -> Result<Places, ConfigError> {
        let runner = match self.live_runner_addr.as_deref() {
            None => service_uri.to_owned(),
            Some(text) => {
                let url = super::facts::http_url(text)
                    .filter(|url| url.query().is_none() && url.fragment().is_none());
                let url = url.ok_or_else(|| {
                    ConfigError::value("--live-runner-addr", "must be an http or https URL")
                })?;
                url.as_str().trim_end_matches('/').to_owned()
            }
        };
        let template = Template::new(self.live_runner_proxy_url.as_deref(), service_uri)
            .map_err(|why| ConfigError::value("--live-runner-proxy-url", why))?;
        Ok(Places { service: service_uri.to_owned(), runner, template })
    }
}

/// As the network's nodes write times: one number and one unit.
pub fn go_duration(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: RunnerArgs,
    }

    fn args(extra: &[&str]) -> RunnerArgs {
        Only::parse_from(["x"].iter().chain(extra)).args
    }

    #[test]
    fn places() {
        let usual = args(&[]).places("https://o:1").unwrap();
        assert_eq!(
            (usual.runner.as_str(), usual.template.url("a")),
            ("https://o:1", "https://o:1/run/a".into())
        );
        let other = args(&["--live-runner-addr", "http://10.0.0.1:8935/"]);
        assert_eq!(other.places("https://o:1").unwrap().runner, "http://10.0.0.1:8935");
        assert!(args(&["--live-runner-addr", "o:1"]).places("https://o:1").is_err());
        assert!(args(&["--live-runner-proxy-url", "https://o/run"]).places("https://o:1").is_err());
        assert!(!args(&[]).is_on() && args(&["--use-live-runners"]).is_on());
    }

    #[test]
    fn times() {
        assert_eq!(go_duration(Duration::from_millis(5_000)), "5s");
        assert_eq!(go_duration(Duration::from_millis(90_500)), "90500ms");
    }
}
