//! The flags of discovery.

use penstock_config::ConfigError;
use penstock_wire::checked_url;
use std::time::Duration;
use url::Url;

/// The command line's part.
#[derive(Debug, Clone, clap::Args)]
pub struct DiscoveryArgs {
    /// Orchestrators to discover, URLs separated by commas. Default: the chain's active set.
    #[arg(long, env = "PENSTOCK_ORCHESTRATORS", value_name = "URL,…", value_delimiter = ',')]
    pub orchestrators: Vec<String>,

    /// Asked with GET before each poll which orchestrators there are: a JSON list of
    /// {"address": URL}. Instead of --orchestrators and the chain.
    #[arg(long, env = "PENSTOCK_ORCH_WEBHOOK_URL", value_name = "URL")]
    pub orch_webhook_url: Option<String>,

    /// How many of the further nodes that an orchestrator names are polled as well.
    #[arg(
        long,
        env = "PENSTOCK_EXTRA_NODES",
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=256)
    )]
    pub extra_nodes: u16,

    /// Milliseconds between two polls of the orchestrators.
    #[arg(
        long,
        env = "PENSTOCK_DISCOVERY_INTERVAL_MS",
        value_name = "MS",
        default_value_t = 60_000,
        value_parser = clap::value_parser!(u64).range(10..=86_400_000)
    )]
    pub discovery_interval_ms: u64,

    /// How long one orchestrator may take to answer a poll, in milliseconds. Who is later is asked
    /// again at the next poll.
    #[arg(
        long,
        env = "PENSTOCK_DISCOVERY_TIMEOUT_MS",
        value_name = "MS",
        default_value_t = 3_000,
        value_parser = clap::value_parser!(u64).range(1..=600_000)
    )]
    pub discovery_timeout_ms: u64,

    /// How long an orchestrator that no longer answers stays in the list, in milliseconds.
    #[arg(long, env = "PENSTOCK_DISCOVERY_TTL_MS", value_name = "MS", default_value_t = 600_000,
          value_parser = penstock_config::within::<u64>(1, 2_592_000_000))]
    pub discovery_ttl_ms: u64,

    /// Poll orchestrators at addresses of the public internet only.
    #[arg(long, env = "PENSTOCK_PUBLIC_ORCHESTRATORS_ONLY")]
    pub public_orchestrators_only: bool,

    /// Do not list an orchestrator that answers with another address than the one that the chain
    /// registers for its URI. Without this flag it is logged, counted and shown only.
    #[arg(long, env = "PENSTOCK_STRICT_REGISTERED_KEYS")]
    pub strict_registered_keys: bool,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct DiscoverySettings {
    /// `--orchestrators`, as URLs; empty means the chain's active set.
    pub orchestrators: Vec<String>,
    /// `--orch-webhook-url`
    pub webhook: Option<Url>,
    /// `--extra-nodes`
    pub extra_nodes: usize,
    /// `--discovery-interval-ms`
    pub interval: Duration,
    /// `--discovery-timeout-ms`
    pub timeout: Duration,
    /// `--discovery-ttl-ms`
    pub ttl: Duration,
    /// `--public-orchestrators-only`
    pub public_only: bool,
    /// `--strict-registered-keys`
    pub strict_registered_keys: bool,
}

impl DiscoveryArgs {
    /// Checks what can be checked without I/O.
    pub fn settings(&self) -> Result<DiscoverySettings, ConfigError> {
        let webhook = self.orch_webhook_url.as_deref().map(|text| {
            let bad = |e: String| ConfigError::value("--orch-webhook-url", e);
            let text = checked_url("webhook", text).map_err(|e| bad(e.to_string()))?;
            Url::parse(&text).map_err(|e| bad(e.to_string()))
        });
        Ok(DiscoverySettings {
            orchestrators: orchestrators(&self.orchestrators)?,
            webhook: webhook.transpose()?,
            extra_nodes: self.extra_nodes.into(),
            interval: Duration::from_millis(self.discovery_interval_ms),
            timeout: Duration::from_millis(self.discovery_timeout_ms),
            ttl: Duration::from_millis(self.discovery_ttl_ms),
            public_only: self.public_orchestrators_only,
            strict_registered_keys: self.strict_registered_keys,
        })
    }
}

/// URLs without their trailing slashes; a missing scheme is https, as in the reference.
fn orchestrators(given: &[String]) -> Result<Vec<String>, ConfigError> {
    let mut urls = Vec::new();
    for text in given.iter().map(|t| t.trim()).filter(|t| !t.is_empty()) {
        let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = checked_url("orchestrator", url.trim_end_matches('/'))
            .map_err(|e| ConfigError::value("--orchestrators", format!("{text:?}: {e}")))?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}
