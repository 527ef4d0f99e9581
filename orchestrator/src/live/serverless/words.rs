//! The messages of a hosted runner's socket (ai-pipelines.md section 9): JSON, each with a `type`.

use crate::live::error::RunnerError;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

/// Media of channels that a runner asks for without saying which.
const MEDIA: &str = "video/MP2T";
/// Whose session it is at a provider that wants to know, if the request does not say.
const NOBODY: &str = "daydreamer";
/// Bytes of a name, of a request's id, of a media type.
const MAX_WORD_BYTES: usize = 256;

/// What a runner says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It is ready for the request, for the first time or anew.
    Ready,
    /// It has begun.
    Started,
    /// It has not.
    Refused { code: String, message: String },
    /// It is there.
    Pong,
    /// It will be ready anew.
    Restarting { request_id: String },
    /// It wants channels.
    Create { request_id: String, mime: String, inbound: bool, outbound: bool },
    /// It has done with these: URLs.
    Close(Vec<String>),
    /// It is to be left out.
    Nonsense,
    /// Nothing that a runner says.
    Unknown,
}

impl Said {
    /// Reads a message.
    pub fn read(message: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Raw {
            r#type: String,
            code: String,
            error: String,
            message: String,
            request_id: String,
            mime_type: String,
            direction: String,
            channels: Vec<String>,
        }
        // A list would be read as fields in their order.
        let object = serde_json::from_slice::<Value>(message).ok().filter(Value::is_object);
        let Some(Ok(raw)) = object.map(Raw::deserialize) else { return Self::Nonsense };
        let is_long = |word: &String| word.len() > MAX_WORD_BYTES;
        if [&raw.request_id, &raw.mime_type].into_iter().any(is_long) {
            return Self::Nonsense;
        }
        match raw.r#type.as_str() {
            "ready" => Self::Ready,
            "started" => Self::Started,
            "error" => {
                let message = if raw.error.is_empty() { raw.message } else { raw.error };
                Self::Refused { code: raw.code, message }
            }
            "pong" => Self::Pong,
            "restarting" => Self::Restarting { request_id: raw.request_id },
            "create_channels" => {
                let (inbound, outbound) = match raw.direction.to_ascii_lowercase().as_str() {
                    "in" => (true, false),
                    "out" => (false, true),
                    "bidirectional" => (true, true),
                    _ => return Self::Nonsense,
                };
                let mime = if raw.mime_type.is_empty() { MEDIA.into() } else { raw.mime_type };
                Self::Create { request_id: raw.request_id, mime, inbound, outbound }
            }
            "close_channels" => Self::Close(raw.channels),
            _ => Self::Unknown,
        }
    }
}

/// A channel that was made for the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Where.
    pub url: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// What it carries.
    pub mime: String,
}

/// An answer to what a runner wants, with the channels that it gets.
pub fn response(request_id: &str, channels: Option<&[Made]>) -> String {
    let row = |made: &Made| json!({ "url": made.url, "direction": made.direction, "mime_type": made.mime });
    let channels = channels.map(|channels| channels.iter().map(row).collect::<Vec<_>>());
    json!({ "type": "response", "request_id": request_id, "channels": channels }).to_string()
}

/// Whether it is there.
pub fn ping(now_ms: i64) -> String {
    let id = format!("ping-{}", i128::from(now_ms) * 1_000_000);
    json!({ "type": "ping", "request_id": id, "timestamp": now_ms }).to_string()
}

/// It will be over soon.
pub fn closing() -> String {
    let why = "scope session timeout reached; terminating shortly";
    json!({ "type": "closing", "message": why }).to_string()
}

/// A runner's no, in the reference's words.
pub fn refusal(code: &str, message: &str) -> RunnerError {
    let mut words = "serverless handshake failed".to_owned();
    if !code.is_empty() {
        words = format!("{words} ({code})");
    }
    if !message.is_empty() {
        words = format!("{words}: {message}");
    }
    let status = if code == "ACCESS_DENIED" { 401 } else { 500 };
    RunnerError::Status { status, message: words }
}

/// Who a request says that it is for.
pub fn user(request: &Value) -> &str {
    let user = request.pointer("/params/daydream_user_id").and_then(Value::as_str);
    let is_word = |user: &&str| {
        (1..=MAX_WORD_BYTES).contains(&user.len()) && user.bytes().all(|b| b.is_ascii_graphic())
    };
    user.filter(is_word).unwrap_or(NOBODY)
}

/// The URL that a request wants instead of the operator's, if it may choose one: that which begins with `prefix`.
/// It is taken out of the request.
pub fn chosen(request: &mut Value, prefix: Option<&str>) -> Result<Option<Url>, RunnerError> {
    let refused = |why: &str| RunnerError::Status { status: 400, message: why.to_owned() };
    let params = request.get_mut("params").and_then(Value::as_object_mut);
    let (Some(prefix), Some(params)) = (prefix, params) else { return Ok(None) };
    let Some(wanted) = params.remove("ws_url") else { return Ok(None) };
    let Value::String(wanted) = wanted else {
        return Err(refused("invalid params.ws_url: must be a string"));
    };
    if wanted.is_empty() {
        return Ok(None);
    }
    let wanted = wanted.to_lowercase();
    if !wanted.starts_with(prefix) {
        return Err(refused("unacceptable params.ws_url"));
    }
    let url = Url::parse(&wanted).ok().and_then(dialled);
    url.map(Some).ok_or_else(|| refused("invalid params.ws_url"))
}

/// The URL to ask for a socket: `ws` and `wss` are `http` and `https`. `None` for whatever is neither, or has no
/// host.
pub fn dialled(url: Url) -> Option<Url> {
    let rest = url.as_str().strip_prefix("ws").filter(|_| url.has_host())?;
    let secure = rest.starts_with("s://") || rest.starts_with("://");
    secure.then(|| Url::parse(&format!("http{rest}")).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runner_says() {
        let said = |value: Value| Said::read(value.to_string().as_bytes());
        assert_eq!(said(json!({ "type": "ready", "more": 1 })), Said::Ready);
        assert_eq!(said(json!({ "type": "pong" })), Said::Pong);
        assert_eq!(said(json!({ "type": "dance" })), Said::Unknown);
        assert_eq!(said(json!({})), Said::Unknown);
        for nonsense in [&b"not JSON"[..], b"[]", br#"{"type":7}"#] {
            assert_eq!(Said::read(nonsense), Said::Nonsense);
        }
        let refused = Said::Refused { code: "C".into(), message: "no".into() };
        assert_eq!(
            said(json!({ "type": "error", "code": "C", "error": "no", "message": "x" })),
            refused
        );
        assert_eq!(said(json!({ "type": "error", "code": "C", "message": "no" })), refused);
        let create = |direction: &str, mime: &str| {
            said(
                json!({ "type": "create_channels", "request_id": "r", "direction": direction, "mime_type": mime }),
            )
        };
        let wanted = |mime: &str, inbound, outbound| Said::Create {
            request_id: "r".into(),
            mime: mime.into(),
            inbound,
            outbound,
        };
        assert_eq!(create("in", ""), wanted(MEDIA, true, false));
        assert_eq!(create("OUT", "a/b"), wanted("a/b", false, true));
        assert_eq!(create("bidirectional", ""), wanted(MEDIA, true, true));
        assert_eq!(create("up", ""), Said::Nonsense);
        assert_eq!(create("in", &"x".repeat(300)), Said::Nonsense);
        let close = said(json!({ "type": "close_channels", "channels": ["a", "b"] }));
        assert_eq!(close, Said::Close(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn what_it_is_told() {
        let made = Made { url: "https://o/c-1-in".into(), direction: "in", mime: "a/b".into() };
        let told: Value = serde_json::from_str(&response("r", Some(&[made]))).unwrap();
        let row = json!({ "url": "https://o/c-1-in", "direction": "in", "mime_type": "a/b" });
        assert_eq!(told, json!({ "type": "response", "request_id": "r", "channels": [row] }));
        let told: Value = serde_json::from_str(&ping(12)).unwrap();
        assert_eq!(told, json!({ "type": "ping", "request_id": "ping-12000000", "timestamp": 12 }));
        let status = |code| match refusal(code, "no") {
            RunnerError::Status { status, message } => (status, message),
            other => panic!("{other}"),
        };
        let denied = "serverless handshake failed (ACCESS_DENIED): no";
        assert_eq!(status("ACCESS_DENIED"), (401, denied.to_owned()));
        assert_eq!(status(""), (500, "serverless handshake failed: no".to_owned()));
    }

    #[test]
    fn what_a_request_chooses() {
        let prefix = Some("wss://fal.example/");
        let choose = |wanted: Value, prefix| {
            let mut request = json!({ "params": { "ws_url": wanted, "a": 1 } });
            let chosen = chosen(&mut request, prefix).map(|url| url.map(|url| url.to_string()));
            (chosen.map_err(|error| error.to_string()), request["params"]["ws_url"].is_null())
        };
        let https = Some("https://fal.example/x".to_owned());
        assert_eq!(choose(json!("WSS://fal.example/X"), prefix), (Ok(https), true));
        assert_eq!(choose(json!(""), prefix), (Ok(None), true));
        assert_eq!(choose(json!("wss://fal.example/x"), None), (Ok(None), false), "it may not");
        for (bad, why) in [
            (json!(7), "must be a string"),
            (json!("wss://fal.example.evil/"), "unacceptable"),
            (json!("wss://evil.example/"), "unacceptable"),
        ] {
            let (refused, _) = choose(bad, prefix);
            assert!(refused.unwrap_err().contains(why));
        }
        assert_eq!(chosen(&mut json!({}), prefix), Ok(None));
        let user = |id: Value| user(&json!({ "params": { "daydream_user_id": id } })).to_owned();
        assert_eq!((user(json!("me")), user(json!(""))), ("me".into(), NOBODY.into()));
        assert_eq!((user(json!(7)), user(json!("a\r\nb"))), (NOBODY.into(), NOBODY.into()));
        for none in ["http://x/", "ftp://x/", "wsx://x/"] {
            assert_eq!(dialled(none.parse().unwrap()), None, "{none}");
        }
    }
}
