//! Settings of discovery and selection: where orchestrators come from, who may be used, at what
//! price, and what happens when one fails.

use super::models::{self, Ceilings, RunnerVersions};
use penstock_config::{ConfigError, EthUsdArgs};
use penstock_domain::Rational;
use penstock_selection::{Names, Policy, Weights};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};
use url::Url;

/// Largest `--tier-policies` file.
const MAX_POLICY_BYTES: u64 = 1 << 20;

/// Whom to use.
#[derive(Debug, Clone, clap::Args)]
pub struct SelectionArgs {
    /// Orchestrators to use, instead of the signer's list. Repeat or separate by commas.
    #[arg(long, env = "PENSTOCK_ORCHESTRATORS", value_delimiter = ',', value_name = "URL")]
    pub orchestrators: Vec<String>,

    /// Asked (GET) once a minute for the orchestrators to use, a JSON list of
    /// {"address","score","region"}; goes before --orchestrators and the signer's list. The Go node and the
    /// signer call it orch-webhook-url.
    #[arg(
        long,
        env = "PENSTOCK_ORCHESTRATOR_WEBHOOK_URL",
        visible_aliases = ["discovery-url", "orch-webhook-url"],
        value_name = "URL"
    )]
    pub orchestrator_webhook_url: Option<String>,

    /// How many of the further nodes that an orchestrator names are asked too.
    #[arg(long, env = "PENSTOCK_EXTRA_NODES", default_value_t = 0, value_name = "N",
          value_parser = penstock_config::within::<usize>(0, 65_535))]
    pub extra_nodes: usize,

    /// Only these are used: addresses (0x…), hosts, host:port or URLs.
    #[arg(
        long,
        env = "PENSTOCK_INCLUDE_ORCHESTRATORS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub include_orchestrators: Vec<String>,

    /// These are not used: addresses (0x…), hosts, host:port or URLs.
    #[arg(
        long,
        env = "PENSTOCK_EXCLUDE_ORCHESTRATORS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub exclude_orchestrators: Vec<String>,

    /// Only orchestrators in these regions are used.
    #[arg(long, env = "PENSTOCK_REGIONS", value_delimiter = ',', value_name = "REGION")]
    pub regions: Vec<String>,

    /// Where orchestrators are, as NAME=REGION, with names as in --include-orchestrators. A webhook
    /// may say it as well.
    #[arg(
        long,
        env = "PENSTOCK_ORCHESTRATOR_REGIONS",
        value_delimiter = ',',
        value_name = "NAME=REGION"
    )]
    pub orchestrator_regions: Vec<String>,

    /// Only orchestrators that say they have a GPU whose name contains one of these words.
    #[arg(long, env = "PENSTOCK_GPU_CLASSES", value_delimiter = ',', value_name = "WORD")]
    pub gpu_classes: Vec<String>,

    /// Only orchestrators that the discovery source gives a score of 1 or more.
    #[arg(long, env = "PENSTOCK_TRUSTED_ONLY")]
    pub trusted_only: bool,

    /// Oldest node version that is used.
    #[arg(long, env = "PENSTOCK_MIN_NODE_VERSION", default_value = "", value_name = "VERSION")]
    pub min_node_version: String,

    /// Highest price accepted for a unit (a pixel, a millisecond of audio, a token, a thousandth of a
    /// character, of brought jobs a second): NUMBER[wei|eth|usd][/UNITS], as `1200`, `1/3` or
    /// `0.5usd/1e9`. Orchestrators above it are not used. Dollars need --eth-usd. It counts for video and
    /// for whatever --max-price-per-capability does not name.
    #[arg(long, env = "PENSTOCK_MAX_PRICE", value_name = "PRICE")]
    pub max_price: Option<String>,

    /// Highest prices by pipeline and model, instead of --max-price: JSON or a file with it, in the Go
    /// node's form: {"capabilities_prices":[{"pipeline":"llm","model_id":"…","price_per_unit":0.5,
    /// "pixels_per_unit":1000000,"currency":"usd"}]}. An empty model_id, or `default`, is every model;
    /// the pipeline of brought jobs is `byoc`, with the capability's name as model and seconds as units.
    #[arg(long, env = "PENSTOCK_MAX_PRICE_PER_CAPABILITY", value_name = "JSON|FILE")]
    pub max_price_per_capability: Option<String>,

    /// Oldest versions of runners that are used, by model: JSON or a file with it, in the Go node's form:
    /// [{"model_id":"…","pipeline":"llm","minVersion":"0.13.0"}]. For models that are loaded: of others
    /// nodes tell no version.
    #[arg(long, env = "PENSTOCK_AI_MIN_RUNNER_VERSION", value_name = "JSON|FILE")]
    pub ai_min_runner_version: Option<String>,

    /// By how many percent a price may exceed the limit while a session with that orchestrator lasts:
    /// keeps a ceiling in dollars from ending sessions whenever ether moves. New sessions are begun
    /// within the limit itself.
    #[arg(long, env = "PENSTOCK_MAX_PRICE_BUFFER_PERCENT", default_value_t = 0, value_name = "N",
          value_parser = penstock_config::within::<u32>(0, 10_000))]
    pub max_price_buffer_percent: u32,

    /// When nobody is within --max-price, use the cheapest one all the same.
    #[arg(long, env = "PENSTOCK_IGNORE_MAX_PRICE_IF_NEEDED")]
    pub ignore_max_price_if_needed: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub ether: EthUsdArgs,

    /// How much chance counts in the draw. The three weights add up to 1.
    #[arg(long, env = "PENSTOCK_SELECT_RANDOM_WEIGHT", default_value_t = 0.3, value_name = "W")]
    pub select_random_weight: f64,

    /// How much stake counts. The signer's list tells the stakes of orchestrators, and a webhook's may: as long as none is
    /// known each has an equal part of this weight, as if it were one of chance.
    #[arg(long, env = "PENSTOCK_SELECT_STAKE_WEIGHT", default_value_t = 0.7, value_name = "W")]
    pub select_stake_weight: f64,

    /// How much a low price counts.
    #[arg(long, env = "PENSTOCK_SELECT_PRICE_WEIGHT", default_value_t = 0.0, value_name = "W")]
    pub select_price_weight: f64,

    /// Wei per unit by which a price has to rise to be chosen e times less.
    #[arg(
        long,
        env = "PENSTOCK_SELECT_PRICE_EXP_FACTOR",
        default_value_t = 100.0,
        value_name = "WEI"
    )]
    pub select_price_exp_factor: f64,

    /// How much speed counts in the draw for AI jobs: the weights are multiplied by (best latency score /
    /// own latency score) to this power. 1: whoever is twice as slow gets half as many jobs; 0: speed
    /// does not count.
    #[arg(
        long,
        env = "PENSTOCK_SELECT_SPEED_EXPONENT",
        default_value_t = 1.0,
        value_name = "EXPONENT"
    )]
    pub select_speed_exponent: f64,

    /// JSON file with policies by tier of the caller: {"gold":{"max_price":"2","regions":["eu"],
    /// "gpu_classes":["h100"],"include":[…],"exclude":[…],"trusted_only":true,"min_node_version":"…",
    /// "max_price_per_capability":{"capabilities_prices":[…]},"requests_per_second":20,
    /// "requests_per_day":100000}}.
    #[arg(long, env = "PENSTOCK_TIER_POLICIES", value_name = "FILE")]
    pub tier_policies: Option<PathBuf>,

    /// Sends a job to the next best orchestrator as well when the first has not answered after so
    /// many milliseconds; the first result counts. For short AI jobs that are answered whole. The
    /// slower one may charge all the same. 0: never.
    #[arg(long, env = "PENSTOCK_HEDGE_AFTER_MS", default_value_t = 0, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 3_600_000))]
    pub hedge_after_ms: u64,

    /// Of a hundred jobs, how many may be sent to a second orchestrator because the first is slow: of AI jobs
    /// with --hedge-after-ms, and of segments with --segment-hedge-after-ms. Each replica counts the last
    /// thousand or so of each kind, and has ten at the start. 0: none.
    #[arg(
        long,
        env = "PENSTOCK_HEDGE_PERCENT",
        default_value_t = 10,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(0..=100)
    )]
    pub hedge_percent: u32,

    /// How long a replica that died blocks the payments of the session that it was paying for, in
    /// milliseconds. One that lives keeps its right.
    #[arg(long, env = "PENSTOCK_SESSION_LEASE_MS", default_value_t = 4_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 3_600_000))]
    pub session_lease_ms: u64,

    /// How long a replica believes what it read of orchestrators' scores, suspensions and circuits, in
    /// milliseconds; then it is read again, and used meanwhile for at most ten times as long. What it
    /// learns by itself counts at once. 0: read for each choice.
    #[arg(long, env = "PENSTOCK_SELECTION_CACHE_MS", default_value_t = 100, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 3_600_000))]
    pub selection_cache_ms: u64,

    /// Refuse an orchestrator that shows another certificate than before. Nodes that make a new one at
    /// each start are then lost until this gateway restarts.
    #[arg(long, env = "PENSTOCK_STRICT_TLS")]
    pub strict_tls: bool,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct SelectionSettings {
    /// `--orchestrator-webhook-url`.
    pub webhook_url: Option<Url>,
    /// `--extra-nodes`.
    pub extra_nodes: usize,
    /// Everything but the price ceiling.
    pub policy: Policy,
    /// `--max-price`.
    pub max_price: Option<Ceiling>,
    /// `--max-price-per-capability`.
    pub ceilings: Ceilings,
    /// `--ai-min-runner-version`.
    pub runner_versions: RunnerVersions,
    /// `--max-price-buffer-percent`.
    pub price_buffer_percent: u32,
    /// `--orchestrator-regions`.
    pub regions: Vec<(Names, String)>,
    /// `--select-speed-exponent`.
    pub speed_exponent: f64,
    /// `--tier-policies`.
    pub tiers: BTreeMap<String, TierPolicy>,
    /// `--hedge-after-ms`.
    pub hedge_after: Option<Duration>,
    /// `--hedge-percent`.
    pub hedge_percent: u32,
    /// `--session-lease-ms`.
    pub session_lease_ms: u64,
    /// `--selection-cache-ms`.
    pub cache_ms: u64,
    /// `--strict-tls`.
    pub strict_tls: bool,
    /// `--eth-usd…`.
    pub eth_usd: penstock_clients::EthUsdSettings,
}

/// What a tier changes. What it does not name is as for everybody.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierPolicy {
    /// Highest price; the lower one of this and what the caller's account allows counts.
    #[serde(default)]
    pub max_price: Option<Ceiling>,
    /// The same by pipeline and model.
    #[serde(default)]
    pub max_price_per_capability: Option<Ceilings>,
    /// Only these.
    #[serde(default)]
    pub include: Option<Names>,
    /// These not.
    #[serde(default)]
    pub exclude: Option<Names>,
    /// Only there.
    #[serde(default)]
    pub regions: Option<Vec<String>>,
    /// Only with these.
    #[serde(default)]
    pub gpu_classes: Option<Vec<String>>,
    /// Only trusted ones.
    #[serde(default)]
    pub trusted_only: Option<bool>,
    /// Oldest node version.
    #[serde(default)]
    pub min_node_version: Option<String>,
    /// Requests a second of one caller, unless the caller's account says so.
    #[serde(default)]
    pub requests_per_second: Option<NonZeroU32>,
    /// The same in 24 hours.
    #[serde(default)]
    pub requests_per_day: Option<NonZeroU64>,
}

/// A highest price for one unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Ceiling {
    /// Wei.
    Wei(Rational),
    /// Dollars.
    Usd(Rational),
}

impl TryFrom<String> for Ceiling {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!("{text:?} is no price above 0; expected NUMBER[wei|eth|usd][/UNITS]")
        })
    }
}

impl Ceiling {
    /// `NUMBER[wei|eth|usd][/UNITS]`, exact; both numbers above 0.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let (amount, units) = text.split_once('/').unwrap_or((&text, "1"));
        let (number, currency) = ["wei", "eth", "usd"]
            .into_iter()
            .find_map(|c| Some((amount.strip_suffix(c)?, c)))
            .unwrap_or((amount, "wei"));
        let number = Rational::from_decimal(number.trim()).ok()?;
        let units = Rational::from_decimal(units.trim()).ok()?;
        let price = number.checked_div(&units).filter(Rational::is_positive)?;
        Some(match currency {
            "usd" => Self::Usd(price),
            "eth" => Self::Wei(&price * &Rational::from(WEI_PER_ETH)),
            _ => Self::Wei(price),
        })
    }

    /// In wei; `None` when it takes the price of ether, millionths of a dollar, and that is not known.
    pub fn wei(&self, micro_usd_per_eth: Option<&Rational>) -> Option<Rational> {
        match self {
            Self::Wei(wei) => Some(wei.clone()),
            Self::Usd(usd) => {
                let micro_usd = usd * &Rational::from(1_000_000_u64);
                let eth = micro_usd.checked_div(micro_usd_per_eth?)?;
                Some(&eth * &Rational::from(WEI_PER_ETH))
            }
        }
    }
}

const WEI_PER_ETH: u64 = 1_000_000_000_000_000_000;

fn lower(list: &[String]) -> Vec<String> {
    list.iter().map(|t| t.trim().to_lowercase()).filter(|t| !t.is_empty()).collect()
}

impl SelectionArgs {
    /// Checks what can be checked.
    pub fn settings(&self) -> Result<SelectionSettings, ConfigError> {
        let weights = Weights::new(
            self.select_random_weight,
            self.select_stake_weight,
            self.select_price_weight,
            self.select_price_exp_factor,
        )
        .map_err(|e| ConfigError::value("--select-random-weight", e.to_string()))?;
        let price = |text: &String| {
            Ceiling::try_from(text.clone()).map_err(|e| ConfigError::value("--max-price", e))
        };
        let max_price = self.max_price.as_ref().map(price).transpose()?;
        let tiers = self.tiers()?;
        let eth_usd = penstock_clients::EthUsdSettings::try_from(&self.ether)?;
        let ceilings = models::ceilings(self.max_price_per_capability.as_deref())?;
        let dollars = {
            let of_tiers = tiers.values().filter_map(|t| t.max_price_per_capability.as_ref());
            let by_model = of_tiers.chain([&ceilings]).flat_map(Ceilings::all);
            let of_tiers = tiers.values().filter_map(|t| t.max_price.as_ref());
            let mut all = of_tiers.chain(&max_price).chain(by_model);
            all.any(|c| matches!(c, Ceiling::Usd(_)))
        };
        if dollars && eth_usd.source == penstock_clients::PriceSource::None {
            let why =
                "in dollars needs --eth-usd, --eth-usd-file, --eth-usd-url or --eth-usd-feed-url";
            return Err(ConfigError::value("--max-price", why));
        }
        if !(0.0..=10.0).contains(&self.select_speed_exponent) {
            return Err(ConfigError::value("--select-speed-exponent", "must be from 0 to 10"));
        }
        if self.session_lease_ms < 100 {
            return Err(ConfigError::value("--session-lease-ms", "must be at least 100"));
        }
        let url = |text: &String| super::url("--orchestrator-webhook-url", text, "https://");
        Ok(SelectionSettings {
            webhook_url: self.orchestrator_webhook_url.as_ref().map(url).transpose()?,
            extra_nodes: self.extra_nodes.min(64),
            policy: Policy {
                weights,
                ignore_max_price_if_needed: self.ignore_max_price_if_needed,
                include: self.include_orchestrators.clone().into(),
                exclude: self.exclude_orchestrators.clone().into(),
                regions: lower(&self.regions),
                gpus: lower(&self.gpu_classes),
                trusted_only: self.trusted_only,
                min_version: self.min_node_version.clone(),
                ..Policy::default()
            },
            max_price,
            ceilings,
            runner_versions: models::runner_versions(self.ai_min_runner_version.as_deref())?,
            price_buffer_percent: self.max_price_buffer_percent,
            regions: self.located()?,
            tiers,
            hedge_after: (self.hedge_after_ms > 0)
                .then(|| Duration::from_millis(self.hedge_after_ms)),
            hedge_percent: self.hedge_percent,
            speed_exponent: self.select_speed_exponent,
            session_lease_ms: self.session_lease_ms,
            cache_ms: self.selection_cache_ms,
            strict_tls: self.strict_tls,
            eth_usd,
        })
    }

    fn located(&self) -> Result<Vec<(Names, String)>, ConfigError> {
        let entries = self.orchestrator_regions.iter().map(|e| e.trim()).filter(|e| !e.is_empty());
        entries
            .map(|entry| match entry.rsplit_once('=') {
                Some((name, region)) if !name.is_empty() && !region.is_empty() => {
                    Ok((Names::from(vec![name.to_owned()]), region.to_lowercase()))
                }
                _ => Err(ConfigError::value(
                    "--orchestrator-regions",
                    format!("{entry:?} is not NAME=REGION"),
                )),
            })
            .collect()
    }

    fn tiers(&self) -> Result<BTreeMap<String, TierPolicy>, ConfigError> {
        let Some(path) = &self.tier_policies else { return Ok(BTreeMap::new()) };
        let bad = |why: String| {
            ConfigError::value("--tier-policies", format!("{}: {why}", path.display()))
        };
        let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
        if size > MAX_POLICY_BYTES {
            return Err(bad(format!("has more than {MAX_POLICY_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let mut tiers: BTreeMap<String, TierPolicy> =
            serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        for tier in tiers.values_mut() {
            for list in [&mut tier.regions, &mut tier.gpu_classes].into_iter().flatten() {
                *list = lower(list);
            }
        }
        Ok(tiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings() {
        let wei = |text: &str| Ceiling::parse(text)?.wei(None);
        let r = |text: &str| text.parse::<Rational>().ok();
        assert_eq!(wei("1200"), r("1200"));
        assert_eq!(wei("1.4"), r("7/5"));
        assert_eq!(wei("1/3"), r("1/3"));
        assert_eq!(wei("100WEI"), r("100"));
        assert_eq!(wei("0.000001eth/1e9"), r("1000"));
        for bad in ["", "0", "-1", "1/0", "abcUSD", "-100USD", "420DOG3", "usd", "1/usd", "1//2"] {
            assert_eq!(Ceiling::parse(bad), None, "{bad}");
        }
        // Half a dollar for a thousand million units at 2500 dollars an ether.
        let usd = Ceiling::parse("0.5usd/1e9").unwrap();
        assert_eq!(usd.wei(None), None);
        assert_eq!(usd.wei(Some(&Rational::from(2_500_000_000_u64))), r("200000"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// No text panics, and whatever is read is above 0, also at any price of ether.
        #[test]
        fn any_text(text in "[0-9a-z./ +-]{0,16}", rate in 1_000_000_u64..) {
            if let Some(ceiling) = Ceiling::parse(&text) {
                prop_assert!(ceiling.wei(Some(&Rational::from(rate))).is_some_and(|w| w.is_positive()));
            }
        }
    }
}
