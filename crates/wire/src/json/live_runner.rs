//! Live runners: what one says about itself, by heartbeat or in an operator's file (live-runner.md
//! sections 2 and 3), and what its sessions ask for (section 7). Read as it was said; what makes sense
//! is for whoever registers it.

use super::read::{self, Object};
use crate::{error::WireError, limits};
use penstock_domain::Rational;
use serde_json::{Map, Value, json};

/// Most bytes of a heartbeat, and of a request about a session.
pub const MAX_HEARTBEAT_BYTES: usize = 1 << 20;
/// Most bytes of an operator's list of runners.
pub const MAX_STATIC_RUNNERS_BYTES: usize = 4 * 1024 * 1024;
/// Most runners in such a list.
const MAX_STATIC_RUNNERS: usize = 4096;

/// A runner's GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerGpu {
    /// As the runner calls it; a local device's number as text.
    pub id: String,
    /// Its model.
    pub name: String,
    /// Memory, MiB; 0 if not said.
    pub vram_mb: u32,
}

/// A price as it was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaidPrice {
    /// The decimal, as text; empty if none was said.
    pub price: String,
    /// May be empty.
    pub currency: String,
    /// May be empty.
    pub unit: String,
}

/// What a runner says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerSaid {
    /// May be empty.
    pub runner_id: String,
    /// Where it is, for the orchestrator only.
    pub runner_url: String,
    /// What it runs.
    pub app: String,
    /// Its operator's name for it.
    pub label: String,
    /// Its version.
    pub version: String,
    /// Free text.
    pub metadata: String,
    /// Empty or `ready`, or anything else for not ready.
    pub status: String,
    /// Empty, `persistent`, `single-shot` or `single_shot`.
    pub mode: String,
    /// Sessions at once; 0 if not said.
    pub capacity: i64,
    /// Whether its URL goes through the proxy template.
    pub proxy: bool,
    /// Its price.
    pub price_info: SaidPrice,
    /// Its GPU.
    pub gpu: Option<RunnerGpu>,
}

/// A runner of an operator's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticRunnerSaid {
    /// The same as in a heartbeat.
    pub runner: RunnerSaid,
    /// Empty, `runner-id` or `label`.
    pub routing: String,
    /// Absolute, or a path below the runner's URL.
    pub health_url: String,
    /// 0 if not said.
    pub healthy_status_code: i64,
}

/// A channel that a session wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedChannel {
    /// Its name within the session.
    pub name: String,
    /// May be empty.
    pub mime_type: String,
}

impl RunnerGpu {
    /// From a list or a heartbeat: an object, or the number of a local device.
    pub(super) fn read(value: &Value) -> Result<Self, WireError> {
        match value {
            Value::Number(number) => Ok(Self { id: number.to_string(), ..Self::default() }),
            Value::Object(map) => Ok(Self {
                id: read::text(map, "id", limits::NAME_BYTES)?,
                name: read::text(map, "name", limits::NAME_BYTES)?,
                vram_mb: read::uint32(map, "vram_mb")?,
            }),
            _ => Err(read::wrong("gpu", "expected an object or a number")),
        }
    }

    /// As lists carry it: what was not said is left out.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (key, text) in [("id", &self.id), ("name", &self.name)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), json!(text));
            }
        }
        if self.vram_mb > 0 {
            map.insert("vram_mb".to_owned(), json!(self.vram_mb));
        }
        Value::Object(map)
    }
}

impl SaidPrice {
    fn read(map: &Object) -> Result<Self, WireError> {
        let Some(value) = read::get(map, "price_info") else { return Ok(Self::default()) };
        let inner = read::as_object("price_info", value.clone())?;
        let price = match read::get(&inner, "price") {
            None => String::new(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(_) => return Err(read::wrong("price", "expected a number")),
        };
        let text = |key| read::text(&inner, key, limits::NAME_BYTES);
        Ok(Self { price, currency: text("currency")?, unit: text("unit")? })
    }

    /// The decimal, exactly; `None` if it is none, or absurdly long.
    pub fn amount(&self) -> Option<Rational> {
        (self.price.len() <= limits::NAME_BYTES)
            .then(|| Rational::from_decimal(&self.price).ok())
            .flatten()
    }
}

impl RunnerSaid {
    /// From a heartbeat.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        Self::read(&read::object("heartbeat", body, MAX_HEARTBEAT_BYTES)?)
    }

    fn read(map: &Object) -> Result<Self, WireError> {
        let name = |key| read::text(map, key, limits::NAME_BYTES);
        Ok(Self {
            runner_id: name("runner_id")?,
            runner_url: read::text(map, "runner_url", limits::URL_BYTES)?,
            app: name("app")?,
            label: name("label")?,
            version: name("version")?,
            // Longer than allowed, so that the rule about it is the one that says so.
            metadata: read::text(map, "metadata", MAX_HEARTBEAT_BYTES)?,
            status: name("status")?,
            mode: name("mode")?,
            capacity: read::int64(map, "capacity")?,
            proxy: flag(map, "proxy")?,
            price_info: SaidPrice::read(map)?,
            gpu: read::get(map, "gpu").map(RunnerGpu::read).transpose()?,
        })
    }
}

impl StaticRunnerSaid {
    /// From an operator's list, `{"runners":[…]}`.
    pub fn parse_list(body: &[u8]) -> Result<Vec<Self>, WireError> {
        let what = "runners";
        let mut map = read::object(what, body, MAX_STATIC_RUNNERS_BYTES)?;
        let list = match map.remove(what) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(read::wrong(what, "expected a list")),
        };
        crate::error::at_most(what, list.len(), MAX_STATIC_RUNNERS)?;
        list.into_iter().map(|value| Self::read(&read::as_object(what, value)?)).collect()
    }

    fn read(map: &Object) -> Result<Self, WireError> {
        Ok(Self {
            runner: RunnerSaid::read(map)?,
            routing: read::text(map, "routing", limits::NAME_BYTES)?,
            health_url: read::text(map, "health_url", limits::URL_BYTES)?,
            healthy_status_code: read::int64(map, "healthy_status_code")?,
        })
    }
}

impl WantedChannel {
    /// From `{"channels":[{"name","mime_type"}]}`; how many there may be is the caller's rule.
    pub fn parse_list(body: &[u8]) -> Result<Vec<Self>, WireError> {
        let read = |value: Value| {
            let map = read::as_object("channel", value)?;
            let text = |key| read::text(&map, key, limits::NAME_BYTES);
            Ok(Self { name: text("name")?, mime_type: text("mime_type")? })
        };
        list_of(body)?.into_iter().map(read).collect()
    }

    /// From `{"channels":["name"]}`.
    pub fn parse_names(body: &[u8]) -> Result<Vec<String>, WireError> {
        let read = |value: Value| match value {
            Value::String(name) => Ok(name),
            _ => Err(read::wrong("channels", "expected strings")),
        };
        list_of(body)?.into_iter().map(read).collect()
    }
}

fn list_of(body: &[u8]) -> Result<Vec<Value>, WireError> {
    let mut map = read::object("channels", body, MAX_HEARTBEAT_BYTES)?;
    match map.remove("channels") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(read::wrong("channels", "expected a list")),
    }
}

/// `target_url` of a request for a proxy, whose body may be empty; empty if not said.
pub fn parse_proxy_target(body: &[u8]) -> Result<String, WireError> {
    if body.trim_ascii().is_empty() {
        return Ok(String::new());
    }
    let map = read::object("proxy", body, MAX_HEARTBEAT_BYTES)?;
    read::text(&map, "target_url", limits::URL_BYTES)
}

fn flag(map: &Object, key: &'static str) -> Result<bool, WireError> {
    match read::get(map, key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(read::wrong(key, "expected true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_as_the_sdk_writes_it() {
        let body = json!({
            "runner_url": "http://10.0.0.2:9000", "app": "echo", "mode": "persistent", "capacity": 2,
            "price_info": { "price": 0.36, "currency": "usd", "unit": "hour" }, "session_ids": [],
            "gpu": { "id": "GPU-1", "name": "H100", "vram_mb": 81_559 }, "runner_id": "runner_a",
            "proxy": true,
        });
        let said = RunnerSaid::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!((said.capacity, said.proxy, said.app.as_str()), (2, true, "echo"));
        assert_eq!(said.price_info.amount().unwrap().to_string(), "9/25");
        let gpu = said.gpu.unwrap();
        assert_eq!(gpu.to_json(), json!({ "id": "GPU-1", "name": "H100", "vram_mb": 81_559 }));
        let of = |text: &str| RunnerSaid::parse(text.as_bytes());
        assert_eq!(of(r#"{"gpu":3}"#).unwrap().gpu.unwrap().to_json(), json!({ "id": "3" }));
        assert_eq!(of(r#"{"price_info":{"price":"1e-3"}}"#).unwrap().price_info.price, "1e-3");
        for bad in ["", "[]", r#"{"capacity":"2"}"#, r#"{"proxy":1}"#, r#"{"gpu":"x"}"#] {
            assert!(of(bad).is_err(), "{bad}");
        }
        // Half a surrogate pair is no text.
        assert!(of(r#"{"metadata":"\ud800"}"#).is_err());
    }

    #[test]
    fn lists() {
        let list = StaticRunnerSaid::parse_list(
            br#"{"runners":[{"label":"a","runner_url":"http://r","health_url":"/h"}]}"#,
        );
        let list = list.unwrap();
        assert_eq!((list[0].health_url.as_str(), list[0].runner.label.as_str()), ("/h", "a"));
        assert!(StaticRunnerSaid::parse_list(b"{}").unwrap().is_empty());
        assert!(StaticRunnerSaid::parse_list(br#"{"runners":[1]}"#).is_err());
        let wanted = WantedChannel::parse_list(br#"{"channels":[{"name":"in"}]}"#).unwrap();
        assert_eq!(wanted[0].name, "in");
        assert_eq!(WantedChannel::parse_names(br#"{"channels":["in"]}"#).unwrap(), ["in"]);
        assert!(WantedChannel::parse_names(br#"{"channels":[{}]}"#).is_err());
        assert_eq!(parse_proxy_target(b" ").unwrap(), "");
        assert_eq!(parse_proxy_target(br#"{"target_url":"http://r"}"#).unwrap(), "http://r");
    }
}
