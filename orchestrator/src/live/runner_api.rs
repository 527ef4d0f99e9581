//! A live video runner, over HTTP, behind its worker's line or hosted behind a socket: its health, and the start of a session
//! (ai-pipelines.md section 8.1, live-video.md section 6).

use super::{
    error::{NO_CONNECTION, RunnerError},
    line::Line,
    serverless::Hosted,
};
use crate::private_places::scrubbed;
use penstock_clients::{BuildError, HttpOptions, http};
use penstock_config::Secret;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use url::Url;

/// For a question after its health (ai-pipelines.md section 8.2).
const HEALTH_TIME: Duration = Duration::from_secs(5);
/// The same while a start waits for the answer: who does not answer at once has no time for a session.
const HEALTH_AT_START_TIME: Duration = Duration::from_secs(2);
/// For the start of a session. Gateways wait for 5 s, so what takes longer is in vain.
const START_TIME: Duration = Duration::from_secs(10);
/// Most characters of a runner's words that are passed on.
const MAX_MESSAGE_CHARS: usize = 512;

/// Cards of one runner, and bytes of a card's name, that are read.
const MAX_CARDS: usize = 64;
const MAX_CARD_BYTES: usize = 64;

/// A runner's word on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// It works, or could.
    Ok,
    /// It has no session.
    Idle,
    /// Not yet.
    Loading,
    /// Broken for good.
    Error,
}

/// One runner.
#[derive(Clone)]
pub struct RunnerApi(Way);

/// Where an operator has one, and how much of its answers is read.
#[derive(Clone)]
struct Place {
    http: reqwest::Client,
    base: Url,
    token: Option<Arc<Secret>>,
    answer_bytes: usize,
}

/// How it is reached.
#[derive(Clone)]
enum Way {
    /// At an operator's URL.
    Http(Place),
    /// By its worker, under a number of its own there.
    Worker { line: Arc<Line>, worker_id: String, runner_id: u64 },
    /// By a socket for each session.
    Hosted(Arc<Hosted>),
}

/// The client for all runners.
pub fn client() -> Result<reqwest::Client, BuildError> {
    http(&HttpOptions { total_timeout: Some(START_TIME), ..HttpOptions::default() })
}

impl RunnerApi {
    /// A runner at an operator's URL, of whose answers at most `answer_bytes` are read.
    pub fn new(
        http: reqwest::Client,
        base: Url,
        token: Option<Secret>,
        answer_bytes: usize,
    ) -> Self {
        Self(Way::Http(Place { http, base, token: token.map(Arc::new), answer_bytes }))
    }

    /// A runner that a worker has brought.
    pub fn at_worker(line: Arc<Line>, worker_id: &str, runner_id: u64) -> Self {
        Self(Way::Worker { line, worker_id: worker_id.to_owned(), runner_id })
    }

    /// A runner that somebody hosts.
    pub fn hosted(hosted: Hosted) -> Self {
        Self(Way::Hosted(Arc::new(hosted)))
    }

    /// Where it is: for the operator only. `worker:ID/NUMBER` if a worker knows that.
    pub fn place(&self) -> String {
        match &self.0 {
            Way::Http(place) => place.base.to_string(),
            Way::Worker { worker_id, runner_id, .. } => format!("worker:{worker_id}/{runner_id}"),
            Way::Hosted(hosted) => hosted.place(),
        }
    }

    /// Whether a worker has brought it: it has a name for one life then.
    pub fn is_workers(&self) -> bool {
        matches!(self.0, Way::Worker { .. })
    }

    /// Whether somebody hosts it.
    pub fn is_hosted(&self) -> bool {
        matches!(self.0, Way::Hosted(_))
    }

    /// Whether its worker was given up.
    pub fn is_over(&self) -> bool {
        matches!(&self.0, Way::Worker { line, .. } if line.is_over())
    }

    /// The line that calls share, if they share one.
    pub fn line(&self) -> Option<&Arc<Line>> {
        match &self.0 {
            Way::Http(_) | Way::Hosted(_) => None,
            Way::Worker { line, .. } => Some(line),
        }
    }

    /// `GET /health`.
    pub async fn health(&self) -> Result<Health, RunnerError> {
        self.health_within(HEALTH_TIME).await
    }

    /// The same, while a start waits.
    pub async fn health_at_start(&self) -> Result<Health, RunnerError> {
        self.health_within(HEALTH_AT_START_TIME).await
    }

    async fn health_within(&self, time: Duration) -> Result<Health, RunnerError> {
        #[derive(Deserialize)]
        struct Answer {
            status: Health,
        }
        let body = match &self.0 {
            Way::Http(place) => {
                place.call(place.request(Method::GET, "health").timeout(time)).await?
            }
            Way::Worker { line, runner_id, .. } => {
                of_200(line.call(*runner_id, Vec::new(), time).await?, None)?
            }
            Way::Hosted(hosted) => return Ok(hosted.health()),
        };
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| RunnerError::Malformed)?;
        Ok(answer.status)
    }

    /// `GET /hardware/info`: the names of its cards, in lower case; none of one that does not say.
    pub async fn cards(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Answer {
            gpu_info: BTreeMap<String, Card>,
        }
        #[derive(Deserialize)]
        struct Card {
            name: String,
        }
        let Way::Http(place) = &self.0 else { return Vec::new() };
        let request = place.request(Method::GET, "hardware/info").timeout(HEALTH_TIME);
        let Ok(body) = place.call(request).await else { return Vec::new() };
        let Ok(answer) = serde_json::from_slice::<Answer>(&body) else { return Vec::new() };
        let names = answer.gpu_info.into_values().take(MAX_CARDS).map(|card| card.name);
        names.filter(|name| name.len() <= MAX_CARD_BYTES).map(|name| name.to_lowercase()).collect()
    }

    /// `POST /live-video-to-video`. What a 200 says is not used.
    pub async fn start(&self, request: &Value) -> Result<(), RunnerError> {
        match &self.0 {
            Way::Http(place) => {
                let post = place.request(Method::POST, "live-video-to-video");
                place.call(post.json(request)).await.map(drop)
            }
            Way::Worker { line, runner_id, .. } => {
                let start = request.to_string().into_bytes();
                of_200(line.call(*runner_id, start, START_TIME).await?, None).map(drop)
            }
            Way::Hosted(hosted) => hosted.start(request).await,
        }
    }
}

/// What is a runner's answer only if its status is 200.
fn of_200((status, body): (u16, Vec<u8>), runner: Option<&Url>) -> Result<Vec<u8>, RunnerError> {
    match status {
        200 => Ok(body),
        status => Err(RunnerError::Status { status, message: message(&body, runner) }),
    }
}

impl Place {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let base = self.base.as_str().trim_end_matches('/');
        let request = self.http.request(method, format!("{base}/{path}"));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, RunnerError> {
        let unreachable = |error: reqwest::Error| RunnerError::Unreachable(kind(&error).to_owned());
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > self.answer_bytes {
                return Err(RunnerError::Malformed);
            }
            body.extend_from_slice(&chunk);
        }
        of_200((status, body), Some(&self.base))
    }
}

/// Nothing of the runner's address: these words go to gateways.
fn kind(error: &reqwest::Error) -> &'static str {
    match () {
        () if error.is_timeout() => "it took too long",
        () if error.is_connect() => NO_CONNECTION,
        () => "the connection broke",
    }
}

/// The message of `{"detail":{"msg":…}}`; a validation list, or anything else, as it is. Without places: it goes
/// to gateways.
fn message(body: &[u8], runner: Option<&Url>) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => match json.pointer("/detail/msg").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => json.to_string(),
        },
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    message_of(&text, runner)
}

/// A runner's words as clients may read them.
pub(super) fn message_of(text: &str, runner: Option<&Url>) -> String {
    let text = scrubbed(text, runner);
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let runner = Url::parse("http://gpu-1:8000").unwrap();
        let message = |body: &[u8]| super::message(body, Some(&runner));
        assert_eq!(
            message(b"no answer of http://gpu-1:8000/x, nor of 10.0.0.7"),
            "no answer of [address], nor of [address]"
        );
        assert_eq!(message(br#"{"detail":{"msg":"no GPU"}}"#), "no GPU");
        assert_eq!(message(br#"{"detail":[{"msg":"x"}]}"#), r#"{"detail":[{"msg":"x"}]}"#);
        assert_eq!(message(b" bad\r\ngateway "), "badgateway");
        assert_eq!(message(&[b'x'; 9999]).len(), MAX_MESSAGE_CHARS);
        let health = |word: &str| serde_json::from_str::<Health>(&format!("\"{word}\"")).ok();
        assert_eq!(health("IDLE"), Some(Health::Idle));
        assert_eq!(health("OK"), Some(Health::Ok));
        assert_eq!(health("LOADING"), Some(Health::Loading));
        assert_eq!(health("ERROR"), Some(Health::Error));
        assert_eq!(health("ok"), None);
    }
}
