//! Orchestrator lists: `GET /discover-orchestrators` of a signer (remote-signer.md section 10),
//! an operator's webhook (selection.md section 2) and an orchestrator's own `GET /discovery`.
//! All three have one shape; each sender fills in a different part.

use super::{
    live_runner::RunnerGpu,
    read::{self, Object},
};
use crate::{
    error::{WireError, at_most},
    limits,
    offer::checked_url,
};
use penstock_domain::{Rational, U256};
use serde_json::{Map, Value, json};

const STAKE: &str = "stake_lptu";
/// Of the largest number there is.
const MOST_DIGITS: usize = 78;

/// One orchestrator of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiscoveryEntry {
    /// Service URI.
    pub address: String,
    /// 1 or more is trusted, 0 (absent) is not (selection.md section 1).
    pub score: f32,
    /// `pipeline/model` names.
    pub capabilities: Vec<String>,
    /// Applications that run there.
    pub runners: Vec<Runner>,
    /// `stake_lptu`, a text of digits, which only our lists have: what is bonded to it, in units of 10^-18 LPT. 0 when
    /// absent or no such text.
    pub stake_lptu: U256,
}

/// One application runner of an orchestrator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runner {
    /// Where to call it.
    pub url: String,
    /// Its GPU.
    pub gpu: Option<RunnerGpu>,
    /// What it runs.
    pub app: String,
    /// Its version.
    pub version: String,
    /// Free text of its operator.
    pub metadata: String,
    /// `persistent` or `single-shot`, as sent.
    pub mode: String,
    /// Sessions at once.
    pub capacity: u32,
    /// Sessions now.
    pub capacity_used: u32,
    /// Sessions free.
    pub capacity_available: u32,
    /// What a unit costs.
    pub price_info: Option<RunnerPrice>,
}

/// A runner's price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerPrice {
    /// The exact decimal.
    pub price: Rational,
    /// `wei`, as sent.
    pub currency: String,
    /// As sent.
    pub unit: String,
}

/// Reads a list. A wrong type of `address` or `score` spoils the list, an unusable address only
/// its entry, and a malformed runner only itself.
pub fn parse_discovery(body: &[u8]) -> Result<Vec<DiscoveryEntry>, WireError> {
    let what = "discovery list";
    let Value::Array(list) = read::value(what, body, limits::DISCOVERY_BYTES)? else {
        return Err(read::wrong(what, "expected a list"));
    };
    at_most(what, list.len(), limits::DISCOVERY_ENTRIES)?;
    let mut entries = Vec::with_capacity(list.len());
    for value in list {
        let map = read::as_object("discovery entry", value)?;
        let address = read::text(&map, "address", limits::DISCOVERY_BYTES)?;
        let score = score(&map)?;
        let Ok(address) = checked_url("address", &address) else { continue };
        entries.push(DiscoveryEntry {
            address,
            score,
            capabilities: texts(read::get(&map, "capabilities")),
            runners: runners(read::get(&map, "runners")),
            stake_lptu: stake(&map),
        });
    }
    Ok(entries)
}

/// A number in JSON would be a float to many a reader.
fn stake(map: &Object) -> U256 {
    let text = read::get(map, STAKE).and_then(Value::as_str).unwrap_or_default();
    let is_number =
        (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().unwrap_or_default() } else { U256::ZERO }
}

fn score(map: &Object) -> Result<f32, WireError> {
    match read::get(map, "score") {
        None => Ok(0.0),
        // Not money: a rank. The reference reads it as a 32-bit float as well.
        #[allow(clippy::cast_possible_truncation, reason = "a score is 32 bits on the wire")]
        Some(Value::Number(n)) => n
            .as_f64()
            .map(|s| s as f32)
            .filter(|s| s.is_finite())
            .ok_or_else(|| read::wrong("score", "out of range")),
        Some(_) => Err(read::wrong("score", "expected a number")),
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(Value::as_str)
        .filter(|t| !t.is_empty() && t.len() <= 2 * limits::NAME_BYTES)
        .take(limits::CAPABILITY_ENTRIES)
        .map(str::to_owned)
        .collect()
}

fn runners(value: Option<&Value>) -> Vec<Runner> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .filter_map(Value::as_object)
        .filter_map(|map| Runner::read(map).ok())
        .take(limits::CAPABILITY_ENTRIES)
        .collect()
}

/// An object; older orchestrators sent its name alone.
fn gpu(map: &Object) -> Result<Option<RunnerGpu>, WireError> {
    match read::get(map, "gpu") {
        None => Ok(None),
        Some(Value::String(_)) => {
            let name = read::text(map, "gpu", limits::NAME_BYTES)?;
            Ok((!name.is_empty()).then(|| RunnerGpu { name, ..RunnerGpu::default() }))
        }
        Some(value) => RunnerGpu::read(value).map(Some),
    }
}

impl Runner {
    fn read(map: &Object) -> Result<Self, WireError> {
        let name = |key| read::text(map, key, limits::NAME_BYTES);
        let url = read::text(map, "url", limits::URL_BYTES)?;
        let metadata = read::text(map, "metadata", limits::RUNNER_METADATA_BYTES)?;
        if metadata.contains('\u{fffd}') {
            return Err(WireError::invalid("metadata", "must be valid text"));
        }
        let app = name("app")?;
        if app.trim().is_empty() {
            return Err(WireError::Missing("app"));
        }
        Ok(Self {
            url: checked_url("runner url", &url)?,
            gpu: gpu(map)?,
            app,
            version: name("version")?,
            metadata,
            mode: name("mode")?,
            capacity: read::uint32(map, "capacity")?,
            capacity_used: read::uint32(map, "capacity_used")?,
            capacity_available: read::uint32(map, "capacity_available")?,
            price_info: match read::get(map, "price_info") {
                None => None,
                Some(value) => {
                    let inner = read::as_object("price_info", value.clone())?;
                    Some(RunnerPrice {
                        price: read::decimal(&inner, "price")?
                            .ok_or(WireError::invalid("price", "must be a decimal"))?,
                        currency: read::text(&inner, "currency", limits::NAME_BYTES)?,
                        unit: read::text(&inner, "unit", limits::NAME_BYTES)?,
                    })
                }
            },
        })
    }

    /// As a list carries it: exactly these keys, empty texts left out.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("url".into(), json!(self.url));
        map.insert("app".into(), json!(self.app));
        if let Some(gpu) = &self.gpu {
            map.insert("gpu".into(), gpu.to_json());
        }
        for (key, text) in
            [("version", &self.version), ("metadata", &self.metadata), ("mode", &self.mode)]
        {
            if !text.is_empty() {
                map.insert(key.into(), json!(text));
            }
        }
        map.insert("capacity".into(), json!(self.capacity));
        map.insert("capacity_used".into(), json!(self.capacity_used));
        map.insert("capacity_available".into(), json!(self.capacity_available));
        if let Some(p) = &self.price_info {
            let price = read::decimal_number(&p.price);
            let inner = json!({ "price": price, "currency": p.currency, "unit": p.unit });
            map.insert("price_info".into(), inner);
        }
        Value::Object(map)
    }
}

impl DiscoveryEntry {
    /// As a list carries it; empty parts are left out.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("address".into(), json!(self.address));
        map.insert("score".into(), json!(self.score));
        if !self.capabilities.is_empty() {
            map.insert("capabilities".into(), json!(self.capabilities));
        }
        if !self.runners.is_empty() {
            let runners = self.runners.iter().map(Runner::to_json).collect();
            map.insert("runners".into(), Value::Array(runners));
        }
        if !self.stake_lptu.is_zero() {
            map.insert(STAKE.into(), json!(self.stake_lptu.to_string()));
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<DiscoveryEntry>, WireError> {
        parse_discovery(text.as_bytes())
    }

    #[test]
    fn stakes_are_exact_or_none() {
        let of = |stake: &str| {
            let list = parse(&format!(r#"[{{"address":"https://o1:8935","stake_lptu":{stake}}}]"#));
            list.unwrap()[0].stake_lptu
        };
        let most = format!("\"{}\"", U256::MAX);
        for (said, want) in [
            (
                "\"123456789012345678901234567\"",
                U256::from(123_456_789_012_345_678_901_234_567_u128),
            ),
            (most.as_str(), U256::MAX),
            ("\"\"", U256::ZERO),
            ("\"0x10\"", U256::ZERO),
            ("\"-1\"", U256::ZERO),
            ("\"1e18\"", U256::ZERO),
            ("1000", U256::ZERO),
            ("null", U256::ZERO),
        ] {
            assert_eq!(of(said), want, "{said}");
        }
        let over = format!("\"9{}\"", "9".repeat(77));
        assert_eq!(of(&over), U256::ZERO);
        let mut entry = DiscoveryEntry {
            address: "https://o1:8935".into(),
            stake_lptu: U256::MAX,
            ..DiscoveryEntry::default()
        };
        let again = |entry: &DiscoveryEntry| {
            let list = Value::Array(vec![entry.to_json()]).to_string();
            parse(&list).unwrap().remove(0).stake_lptu
        };
        assert_eq!(again(&entry), U256::MAX);
        entry.stake_lptu = U256::ZERO;
        assert!(entry.to_json().get(STAKE).is_none(), "as the reference writes it");
    }

    #[test]
    fn webhook_rules() {
        let list = parse(
            r#"[{"address":"https://o1:8935"},{"Address":"https://o2:8935","SCORE":1},
                {"address":""},{"address":"not a url"},{"address":"https://o3","x":{}}]"#,
        )
        .unwrap();
        let seen: Vec<_> = list.iter().map(|e| (e.address.as_str(), e.score)).collect();
        assert_eq!(seen, [("https://o1:8935", 0.0), ("https://o2:8935", 1.0), ("https://o3", 0.0)]);
        assert_eq!(parse("[]").unwrap(), []);
        for bad in
            ["{}", "null", "[1]", r#"[{"address":1}]"#, r#"[{"address":"https://o","score":"1"}]"#]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn runners_stand_alone() {
        let list = parse(
            r#"[{"address":"https://o","capabilities":["a/b",1,""],"runners":[
                {"url":"https://r","app":"x","gpu":{"name":"H100","vram_mb":1},"capacity":2,"capacity_used":1,"capacity_available":1,
                 "price_info":{"price":1.5e3,"currency":"wei","unit":"seconds"},"extra":1},
                {"url":"https://r2","app":" "},{"url":"","app":"y"},7,
                {"url":"https://r3","app":"z","metadata":"\ufffd"},
                {"url":"https://r4","app":"z","price_info":{"price":"much"}}]}]"#,
        )
        .unwrap();
        assert_eq!(list[0].capabilities, ["a/b"]);
        assert_eq!(list[0].runners.len(), 1);
        let runner = &list[0].runners[0];
        assert_eq!(runner.gpu.as_ref().unwrap().name, "H100");
        assert_eq!(runner.price_info.as_ref().unwrap().price, Rational::from_int(1500));
        let again = parse(&Value::Array(vec![list[0].to_json()]).to_string()).unwrap();
        assert_eq!(again, list);
        assert!(runner.to_json().to_string().contains(r#""price":1500"#));
    }
}
