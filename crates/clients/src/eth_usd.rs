//! What an ether costs, for budgets and ceilings in dollars: a fixed number, a file, a URL or a price feed, read
//! regularly. A price that is too old is no price: whoever needs one then refuses rather than guess.

mod feed;

pub use feed::Feed;

use crate::{HttpOptions, http};
use penstock_config::{ConfigError, EthUsdArgs};
use penstock_domain::{Rational, parse_address};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use url::Url;

/// Largest answer or file read.
const MAX_BYTES: usize = 64 * 1024;
/// For one fetch.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Prices outside are a broken source.
const SANE_USD: core::ops::RangeInclusive<u64> = 1..=10_000_000;

/// Where the price comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PriceSource {
    /// Nowhere: budgets in dollars refuse.
    #[default]
    None,
    /// Always this many dollars.
    Fixed(Rational),
    /// A file; its age is what counts.
    File(PathBuf),
    /// A URL.
    Url(Url),
    /// A price feed on a chain.
    Feed(Feed),
}

/// How it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EthUsdSettings {
    /// Where from.
    pub source: PriceSource,
    /// Where in a JSON text (RFC 6901); empty for the whole.
    pub pointer: String,
    /// Between two readings.
    pub poll: Duration,
    /// How old the newest may be.
    pub max_age: Duration,
}

impl TryFrom<&EthUsdArgs> for EthUsdSettings {
    type Error = ConfigError;

    fn try_from(args: &EthUsdArgs) -> Result<Self, ConfigError> {
        let feed = &args.eth_usd_feed_url;
        let source = match (&args.eth_usd, &args.eth_usd_file, &args.eth_usd_url, feed) {
            (None, None, None, None) => PriceSource::None,
            (Some(text), None, None, None) => {
                PriceSource::Fixed(usd(text).map_err(|e| ConfigError::value("--eth-usd", e))?)
            }
            (None, Some(path), None, None) => PriceSource::File(path.clone()),
            (None, None, Some(text), None) => PriceSource::Url(web_url("--eth-usd-url", text)?),
            (None, None, None, Some(text)) => {
                let url = web_url("--eth-usd-feed-url", text)?;
                let address = parse_address(&args.eth_usd_feed_address).ok_or_else(|| {
                    ConfigError::value("--eth-usd-feed-address", "must be 0x and 40 hex digits")
                })?;
                PriceSource::Feed(Feed { url, address })
            }
            _ => {
                let reason =
                    "say one of --eth-usd, --eth-usd-file, --eth-usd-url and --eth-usd-feed-url";
                return Err(ConfigError::value("--eth-usd", reason));
            }
        };
        let pointer = args.eth_usd_pointer.clone();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(ConfigError::value("--eth-usd-pointer", "must be empty or begin with /"));
        }
        Ok(Self {
            source,
            pointer,
            poll: Duration::from_millis(args.eth_usd_poll_ms),
            max_age: Duration::from_millis(args.eth_usd_max_age_ms),
        })
    }
}

fn web_url(setting: &'static str, text: &str) -> Result<Url, ConfigError> {
    let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let url = Url::parse(text).ok().filter(is_web);
    url.ok_or_else(|| ConfigError::value(setting, "must be an http or https URL"))
}

/// The newest price.
pub struct EthUsd {
    settings: EthUsdSettings,
    client: Option<reqwest::Client>,
    newest: Mutex<Option<(Rational, Instant)>>,
    /// When a feed said its newest price, in seconds since 1970.
    updated_s: AtomicU64,
}

impl EthUsd {
    /// Knows a fixed price at once, others after [`Self::refresh`] read them. The error says why
    /// there is no HTTP client.
    pub fn new(settings: EthUsdSettings) -> Result<Self, String> {
        let options = HttpOptions {
            total_timeout: Some(TIMEOUT),
            connect_timeout: TIMEOUT,
            idle_per_host: 1,
            ..HttpOptions::default()
        };
        let client = match &settings.source {
            PriceSource::Url(_) | PriceSource::Feed(_) => {
                Some(http(&options).map_err(|e| e.to_string())?)
            }
            _ => None,
        };
        Ok(Self { settings, client, newest: Mutex::default(), updated_s: AtomicU64::new(0) })
    }

    /// Whether there is a source at all.
    pub fn is_set(&self) -> bool {
        self.settings.source != PriceSource::None
    }

    /// Millionths of a dollar for an ether, unless that is not known or too old.
    pub fn micro_usd_per_eth(&self) -> Option<Rational> {
        if let PriceSource::Fixed(usd) = &self.settings.source {
            return Some(micro(usd));
        }
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let (price, at) = newest.as_ref()?;
        (at.elapsed() <= self.settings.max_age).then(|| price.clone())
    }

    /// Reads it once.
    pub async fn refresh(&self) -> Result<(), String> {
        let (text, age) = match (&self.settings.source, &self.client) {
            (PriceSource::Feed(feed), Some(client)) => {
                let round = feed::read(client, feed).await?;
                // One of several nodes behind an address may lag: what it says was said before is old.
                let before = self.updated_s.fetch_max(round.updated_s, Ordering::Relaxed);
                if round.updated_s < before {
                    return Err("the endpoint tells of an older round than before".to_owned());
                }
                self.learn(round.micro_usd, Instant::now());
                return Ok(());
            }
            (PriceSource::Url(url), Some(client)) => {
                (body_of(client.get(url.clone())).await?, Duration::ZERO)
            }
            (PriceSource::File(path), _) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?
            }
            _ => return Ok(()),
        };
        let usd = parse(&text, &self.settings.pointer)?;
        let at = Instant::now().checked_sub(age).ok_or("the file is too old")?;
        self.learn(micro(&usd), at);
        Ok(())
    }

    fn learn(&self, micro_usd: Rational, at: Instant) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((micro_usd, at));
    }

    /// How often it is to be read; `None` when there is nothing to read.
    pub fn poll(&self) -> Option<Duration> {
        let fixed = matches!(self.settings.source, PriceSource::None | PriceSource::Fixed(_));
        (!fixed).then_some(self.settings.poll)
    }
}

fn micro(usd: &Rational) -> Rational {
    usd * &Rational::from(1_000_000_u64)
}

/// A number of dollars above 0 as text.
pub fn usd(text: &str) -> Result<Rational, String> {
    let text = text.trim();
    let number = (text.len() <= 64).then(|| Rational::from_decimal(text).ok()).flatten();
    sane(number.unwrap_or_default())
}

/// A price that can be.
fn sane(usd: Rational) -> Result<Rational, String> {
    let (least, most) = (*SANE_USD.start(), *SANE_USD.end());
    if usd >= Rational::from(least) && usd <= Rational::from(most) {
        return Ok(usd);
    }
    Err(format!("expected dollars for one ether, a decimal from {least} to {most}"))
}

/// The price in a bare number or in JSON.
fn parse(text: &[u8], pointer: &str) -> Result<Rational, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    match value.pointer(pointer) {
        Some(Value::Number(number)) => usd(&number.to_string()),
        Some(Value::String(text)) => usd(text),
        Some(_) => Err(format!("{pointer:?} is not a number")),
        None => Err(format!("there is nothing at {pointer:?}")),
    }
}

fn read(path: &std::path::Path) -> std::io::Result<(Vec<u8>, Duration)> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)?;
    let changed = file.metadata()?.modified()?;
    let age = SystemTime::now().duration_since(changed).unwrap_or_default();
    let mut text = Vec::new();
    file.take(u64::try_from(MAX_BYTES).unwrap_or(u64::MAX)).read_to_end(&mut text)?;
    Ok((text, age))
}

async fn body_of(request: reqwest::RequestBuilder) -> Result<Vec<u8>, String> {
    let said = |error: reqwest::Error| error.without_url().to_string();
    let mut response = request.send().await.map_err(said)?;
    if response.status() != ::http::StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if text.len().saturating_add(chunk.len()) > MAX_BYTES {
            return Err(format!("the answer has more than {MAX_BYTES} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_are_read_exactly() {
        let r = |text: &str| text.parse::<Rational>().unwrap();
        assert_eq!(parse(b"2500.5\n", ""), Ok(r("5001/2")));
        assert_eq!(parse(br#"{"ethereum":{"usd":2.5e3}}"#, "/ethereum/usd"), Ok(r("2500")));
        assert_eq!(parse(br#"{"result":[{"p":"3000.1"}]}"#, "/result/0/p"), Ok(r("30001/10")));
        for (text, pointer) in [
            (&b"0"[..], ""),
            (b"-5", ""),
            (b"0.5", ""),
            (b"1e300", ""),
            (b"x", ""),
            (b"", ""),
            (br#"{"a":1}"#, ""),
            (br#"{"a":1}"#, "/b"),
            (b"null", ""),
        ] {
            assert!(parse(text, pointer).is_err(), "{text:?}");
        }
    }

    #[test]
    fn there_is_one_source() {
        let args = |change: &dyn Fn(&mut EthUsdArgs)| {
            let mut args = EthUsdArgs {
                eth_usd: None,
                eth_usd_file: None,
                eth_usd_url: None,
                eth_usd_pointer: String::new(),
                eth_usd_feed_url: None,
                eth_usd_feed_address: "0x639Fe6ab55C921f74e7fac1ee960C0B6293ba612".into(),
                eth_usd_poll_ms: 1,
                eth_usd_max_age_ms: 2,
            };
            change(&mut args);
            EthUsdSettings::try_from(&args).map(|settings| settings.source).map_err(|_| ())
        };
        let url = |text: &str| args(&|a| a.eth_usd_url = Some(text.into()));
        assert_eq!(args(&|_| {}), Ok(PriceSource::None));
        assert!(args(&|a| a.eth_usd = Some("2500.50".into())).is_ok());
        assert!(url("https://h/p").is_ok());
        assert_eq!(url("ftp://h/p"), Err(()));
        assert_eq!(args(&|a| a.eth_usd = Some("0".into())), Err(()));
        assert_eq!(args(&|a| a.eth_usd_pointer = "a".into()), Err(()));
        let feed = |a: &mut EthUsdArgs| a.eth_usd_feed_url = Some("https://h/p".into());
        assert!(matches!(args(&feed), Ok(PriceSource::Feed(_))));
        let nowhere = |a: &mut EthUsdArgs| {
            feed(a);
            a.eth_usd_feed_address = "0x1".into();
        };
        assert_eq!(args(&nowhere), Err(()));
        let both = |a: &mut EthUsdArgs| {
            (a.eth_usd, a.eth_usd_file) = (Some("1".into()), Some("f".into()));
        };
        assert_eq!(args(&both), Err(()));
    }

    #[tokio::test]
    async fn an_old_file_is_no_price() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("price");
        std::fs::write(&path, "2000").unwrap();
        let settings = EthUsdSettings {
            source: PriceSource::File(path.clone()),
            max_age: Duration::from_secs(3600),
            ..EthUsdSettings::default()
        };
        let price = EthUsd::new(settings).unwrap();
        assert_eq!(price.micro_usd_per_eth(), None);
        price.refresh().await.unwrap();
        assert_eq!(price.micro_usd_per_eth(), Some(Rational::from(2_000_000_000_u64)));
        std::fs::write(&path, "broken").unwrap();
        price.refresh().await.unwrap_err();
        assert!(price.micro_usd_per_eth().is_some(), "the last good one stays while it is young");
        std::fs::write(&path, "3000").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
        let _ = price.refresh().await;
        assert_eq!(
            price.micro_usd_per_eth().filter(|p| *p == Rational::from(3_000_000_000_u64)),
            None
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn no_text_panics(text in ".{0,60}", pointer in "(/[a-z0-9]{0,3}){0,3}") {
            if let Ok(price) = parse(text.as_bytes(), &pointer) {
                prop_assert!(price.is_positive());
            }
        }
    }
}
