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
/// Most endpoints of a feed's chain.
const MAX_FEED_URLS: usize = 8;
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
    /// Other endpoints of the feed's chain, asked in this order when the one before does not tell.
    pub more_feed_urls: Vec<Url>,
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
        let mut more_feed_urls = Vec::new();
        let source = match (&args.eth_usd, &args.eth_usd_file, &args.eth_usd_url, feed) {
            (None, None, None, None) => PriceSource::None,
            (Some(text), None, None, None) => {
                PriceSource::Fixed(usd(text).map_err(|e| ConfigError::value("--eth-usd", e))?)
            }
            (None, Some(path), None, None) => PriceSource::File(path.clone()),
            (None, None, Some(text), None) => PriceSource::Url(web_url("--eth-usd-url", text)?),
            (None, None, None, Some(text)) => {
                let urls = text.split(',').map(|url| web_url("--eth-usd-feed-url", url.trim()));
                let mut urls = urls.collect::<Result<Vec<_>, _>>()?;
                if urls.len() > MAX_FEED_URLS {
                    return Err(ConfigError::value("--eth-usd-feed-url", "more than 8 URLs"));
                }
                let url = urls.remove(0);
                more_feed_urls = urls;
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
            more_feed_urls,
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
                return self.read_feed(client, feed).await;
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

    /// From the first endpoint that tells of a round that is good and no older than the one before.
    async fn read_feed(&self, client: &reqwest::Client, feed: &Feed) -> Result<(), String> {
        let urls = std::iter::once(&feed.url).chain(&self.settings.more_feed_urls);
        let mut reasons = Vec::new();
        for (at, url) in urls.enumerate() {
            let feed = Feed { url: url.clone(), ..feed.clone() };
            match feed::read(client, &feed).await {
                Ok(round) => {
                    // One of several nodes may lag: what it says was said before is old.
                    let before = self.updated_s.fetch_max(round.updated_s, Ordering::Relaxed);
                    if round.updated_s >= before {
                        self.learn(round.micro_usd, Instant::now());
                        return Ok(());
                    }
                    reasons
                        .push((at, "the endpoint tells of an older round than before".to_owned()));
                }
                Err(reason) => reasons.push((at, reason)),
            }
        }
        // An address may be a secret: endpoints go by their place in the setting.
        let said = |(at, reason): &(usize, String)| format!("endpoint {}: {reason}", at + 1);
        Err(match &reasons[..] {
            [(_, reason)] => reason.clone(),
            reasons => reasons.iter().map(said).collect::<Vec<_>>().join("; "),
        })
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
        let list = |text: &str| args(&|a| a.eth_usd_feed_url = Some(text.into()));
        assert_eq!(
            list("https://h/p, http://i:1/q"),
            list("https://h/p"),
            "the first is the first"
        );
        for bad in ["https://h,", "https://h,ftp://i", &["http://h"; 9].join(",")] {
            assert_eq!(list(bad), Err(()), "{bad}");
        }
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

    /// An endpoint that tells of a feed whose price is so many dollars, said so many seconds ago.
    async fn endpoint(dollars: u64, age_s: u64) -> Url {
        use axum::{Json, Router, routing::post};
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let answer = move |Json(question): Json<Value>| async move {
            let data = question["params"][0]["data"].as_str().unwrap().to_owned();
            let selector = |signature: &str| {
                format!("0x{}", hex::encode(&penstock_domain::keccak256(signature)[..4]))
            };
            let result = if data == selector("description()") {
                format!("0x{:064x}{:064x}{:0<64}", 32, 9, hex::encode("ETH / USD"))
            } else if data == selector("decimals()") {
                format!("0x{:064x}", 0)
            } else {
                let (zero, said) = (0, now - age_s);
                format!("0x{zero:064x}{dollars:064x}{zero:064x}{said:064x}{zero:064x}")
            };
            Json(serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": result }))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/", post(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    #[tokio::test]
    async fn a_feed_is_read_at_the_next_endpoint_when_one_is_away_stands_still_or_is_behind() {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let away: Url = format!("http://{}/", gone.local_addr().unwrap()).parse().unwrap();
        drop(gone);
        let of = |urls: &[&Url]| {
            let feed = Feed { url: urls[0].clone(), address: penstock_domain::Address::ZERO };
            EthUsd::new(EthUsdSettings {
                source: PriceSource::Feed(feed),
                more_feed_urls: urls[1..].iter().map(|url| (*url).clone()).collect(),
                max_age: Duration::from_secs(3600),
                ..EthUsdSettings::default()
            })
            .unwrap()
        };
        let price = |dollars: u64| Some(Rational::from(dollars * 1_000_000));
        let (old, behind, good) =
            (endpoint(1_000, 200_000).await, endpoint(2_000, 60).await, endpoint(3_000, 0).await);
        let feed = of(&[&away, &old, &good]);
        feed.refresh().await.unwrap();
        assert_eq!(feed.micro_usd_per_eth(), price(3_000));
        // What was said before is not said again by one that is behind.
        let feed = of(&[&behind, &good]);
        feed.refresh().await.unwrap();
        assert_eq!(feed.micro_usd_per_eth(), price(2_000), "the first that tells");
        feed.updated_s.fetch_add(1, Ordering::Relaxed);
        feed.refresh().await.unwrap();
        assert_eq!(feed.micro_usd_per_eth(), price(3_000));
        let said = of(&[&away, &old]).refresh().await.unwrap_err();
        assert!(
            said.contains("endpoint 1: ") && said.contains("endpoint 2: the feed stands still"),
            "{said}"
        );
        assert!(!said.contains("http://"), "{said}");
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
