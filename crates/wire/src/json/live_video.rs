//! Starting live video: what a gateway asks, what it is answered, and what a runner is told
//! (live-video.md sections 5 and 6).

use super::read;
use crate::{error::WireError, limits};
use serde_json::{Map, Value, json};

/// Most bytes of a request.
pub const MAX_START_BYTES: usize = 16 << 20;
/// Model of a request that names none.
pub const DEFAULT_MODEL: &str = "noop";

/// What a gateway asks. The URLs that its schema requires are empty there, and not read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveVideoStart {
    /// The model; [`DEFAULT_MODEL`] if none was named.
    pub model_id: String,
    /// The pipeline's own parameters, passed on as they are.
    pub params: Option<Map<String, Value>>,
    /// The gateway's name of the request, for logs; may be empty.
    pub gateway_request_id: String,
    /// The gateway's name of the stream, for logs; may be empty.
    pub stream_id: String,
}

impl LiveVideoStart {
    /// From a body of at most [`MAX_START_BYTES`].
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        let map = read::object("live video request", body, MAX_START_BYTES)?;
        let text = |key| read::text(&map, key, limits::NAME_BYTES);
        let params = match read::get(&map, "params") {
            None => None,
            Some(Value::Object(params)) => Some(params.clone()),
            Some(_) => return Err(read::wrong("params", "expected an object")),
        };
        let mut model_id = text("model_id")?;
        if model_id.is_empty() {
            DEFAULT_MODEL.clone_into(&mut model_id);
        }
        if !model_id.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            return Err(read::wrong("model_id", "expected printable text"));
        }
        let (gateway_request_id, stream_id) = (text("gateway_request_id")?, text("stream_id")?);
        Ok(Self { model_id, params, gateway_request_id, stream_id })
    }
}

/// The channels of one session, as one party sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveVideoUrls {
    /// Where this party publishes media.
    pub publish_url: String,
    /// Where it reads media.
    pub subscribe_url: String,
    /// Parameters and keep-alives, from the gateway.
    pub control_url: String,
    /// Events and status, from the runner.
    pub events_url: String,
}

impl LiveVideoUrls {
    fn fields(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, url) in [
            ("publish_url", &self.publish_url),
            ("subscribe_url", &self.subscribe_url),
            ("control_url", &self.control_url),
            ("events_url", &self.events_url),
        ] {
            map.insert(key.to_owned(), json!(url));
        }
        map
    }

    /// The gateway's answer. `manifest_id` is what all later payments are for.
    pub fn answer(&self, manifest_id: &str) -> Value {
        let mut map = self.fields();
        map.insert("manifest_id".to_owned(), json!(manifest_id));
        Value::Object(map)
    }

    /// The runner's request.
    pub fn runner_request(&self, manifest_id: &str, start: &LiveVideoStart) -> Value {
        let mut map = self.fields();
        map.insert("manifest_id".to_owned(), json!(manifest_id));
        map.insert("model_id".to_owned(), json!(start.model_id));
        map.insert("gateway_request_id".to_owned(), json!(start.gateway_request_id));
        map.insert("stream_id".to_owned(), json!(start.stream_id));
        if let Some(params) = &start.params {
            map.insert("params".to_owned(), Value::Object(params.clone()));
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let asked = LiveVideoStart::parse(
            br#"{"model_id":"comfyui","params":{"a":[1]},"gateway_request_id":"r",
                 "stream_id":"s","subscribe_url":"","publish_url":""}"#,
        )
        .unwrap();
        assert_eq!((asked.model_id.as_str(), asked.stream_id.as_str()), ("comfyui", "s"));
        assert_eq!(asked.params.as_ref().unwrap()["a"], json!([1]));
        for none in ["{}", r#"{"model_id":"","params":null}"#] {
            let asked = LiveVideoStart::parse(none.as_bytes()).unwrap();
            assert_eq!((asked.model_id.as_str(), asked.params), (DEFAULT_MODEL, None));
        }
        for bad in ["", "[]", r#"{"params":1}"#, r#"{"model_id":7}"#, r#"{"model_id":"a b"}"#] {
            assert!(LiveVideoStart::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers() {
        let url = |name: &str| format!("https://o/ai/trickle/{name}");
        let urls = LiveVideoUrls {
            publish_url: url("m"),
            subscribe_url: url("m-out"),
            control_url: url("m-control"),
            events_url: url("m-events"),
        };
        let answer = urls.answer("m");
        assert_eq!(answer["publish_url"], url("m"));
        assert_eq!(answer["manifest_id"], "m");
        let start = LiveVideoStart { model_id: "noop".to_owned(), ..LiveVideoStart::default() };
        let told = urls.runner_request("m", &start);
        assert_eq!((&told["model_id"], told.get("params")), (&json!("noop"), None));
    }
}
