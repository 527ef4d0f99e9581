//! Client of the ai-runner HTTP interface (ai-pipelines.md section 8.1).

use super::timing;
use crate::link::upload::without_url;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use penstock_clients::{BuildError, HttpOptions};
use penstock_config::Secret;
use penstock_telemetry::trace;
use penstock_wire::{ai::Pipeline, hardware::Gpu, live_worker};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use thiserror::Error;
use url::Url;

/// For the small calls.
const QUICK: Duration = Duration::from_secs(5);
/// No job takes longer: orchestrators wait 15 min (ai-pipelines.md section 7.4).
pub const LONGEST_JOB: Duration = Duration::from_secs(15 * 60);
/// Kept of a runner's error text.
const MAX_ERROR_CHARS: usize = 500;

/// Where a runner is.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Base address.
    pub url: Url,
    /// Bearer token.
    pub token: Option<Secret>,
}

/// A runner's own word on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Health {
    /// Takes jobs.
    #[serde(rename = "OK", alias = "IDLE")]
    Ready,
    /// Not yet.
    #[serde(rename = "LOADING")]
    Loading,
    /// Broken for good.
    #[serde(rename = "ERROR")]
    Broken,
}

/// A call gave no result. The texts are those that gateways know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunnerError {
    /// The runner said no.
    #[error("{name} container returned {status}: {message}")]
    Status {
        /// Pipeline, as it is called in error texts.
        name: String,
        /// HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// No connection, or it broke. Another process may do better.
    #[error("{name} container cannot be reached: {reason}")]
    Unreachable {
        /// Pipeline.
        name: String,
        /// Why.
        reason: String,
    },
    /// The runner said no to a stream.
    #[error("unexpected status code: {0}")]
    StreamStatus(u16),
    /// The answer is not what the interface says.
    #[error("{name} container gave a malformed answer")]
    Malformed {
        /// Pipeline.
        name: String,
    },
}

/// A live runner said nothing. No word says where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unheard {
    /// It was not spoken to at all.
    pub no_connection: bool,
    /// Why, in the orchestrator's words.
    pub why: &'static str,
}

impl From<reqwest::Error> for Unheard {
    fn from(error: reqwest::Error) -> Self {
        let why = match () {
            () if error.is_timeout() => "it took too long",
            () if error.is_connect() => "no connection",
            () => "the connection broke",
        };
        Self { no_connection: error.is_connect() && !error.is_timeout(), why }
    }
}

/// One job for a runner.
#[derive(Debug, Clone)]
pub struct Call {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// What is asked.
    pub body: CallBody,
}

/// A job as its pipeline takes it.
#[derive(Debug, Clone)]
pub enum CallBody {
    /// A document.
    Json(Bytes),
    /// A form: the file first (ai-pipelines.md section 3).
    Form {
        /// Field that holds the file.
        file_field: &'static str,
        /// The file.
        file: Bytes,
        /// Text fields, in order.
        fields: Vec<(&'static str, String)>,
    },
}

/// Connections to all runners.
#[derive(Debug, Clone)]
pub struct RunnerHttp {
    client: reqwest::Client,
    /// Longest answer that is read.
    answer_bytes: usize,
}

/// Talks to one runner.
#[derive(Debug, Clone)]
pub struct RunnerClient {
    http: RunnerHttp,
    endpoint: Endpoint,
}

impl RunnerClient {
    /// A client for the runner at `endpoint`, over the shared connection pool `http`.
    pub fn new(http: RunnerHttp, endpoint: Endpoint) -> Self {
        Self { http, endpoint }
    }

    /// Connections for all runners: no proxy, no redirects, and no longer answers than `answer_bytes`.
    pub fn pool(answer_bytes: usize) -> Result<RunnerHttp, BuildError> {
        let client = penstock_clients::http(&HttpOptions {
            connect_timeout: QUICK,
            // A job's answer comes when the job is done; the call says how long that may take.
            read_timeout: LONGEST_JOB,
            total_timeout: None,
            ..HttpOptions::default()
        })?;
        Ok(RunnerHttp { client, answer_bytes })
    }

    /// `GET /health`.
    pub async fn health(&self) -> Result<Health, RunnerError> {
        #[derive(Deserialize)]
        struct Answer {
            status: Health,
        }
        Ok(self.get::<Answer>("health").await?.status)
    }

    /// `GET /version`; `0.0.0` for a runner that has none.
    pub async fn version(&self) -> String {
        #[derive(Deserialize)]
        struct Answer {
            version: String,
        }
        let told = self.get::<Answer>("version").await.map(|a| a.version).ok();
        told.filter(|v| v.len() <= 64).unwrap_or_else(|| "0.0.0".to_owned())
    }

    /// `GET /hardware/info`; nothing for a runner that does not say.
    pub async fn gpus(&self) -> BTreeMap<String, Gpu> {
        #[derive(Deserialize)]
        struct Answer {
            gpu_info: BTreeMap<String, Info>,
        }
        #[derive(Deserialize)]
        struct Info {
            id: String,
            name: String,
            memory_total: i64,
            memory_free: i64,
            major: u32,
            minor: u32,
        }
        let Ok(answer) = self.get::<Answer>("hardware/info").await else { return BTreeMap::new() };
        let gpu = |i: Info| Gpu {
            id: i.id,
            name: i.name,
            major: i.major,
            minor: i.minor,
            memory_free: i.memory_free,
            memory_total: i.memory_total,
        };
        answer.gpu_info.into_iter().take(64).map(|(index, info)| (index, gpu(info))).collect()
    }

    /// `POST /{pipeline}`: the JSON answer.
    pub async fn run(&self, call: Call, limit: Duration) -> Result<Vec<u8>, RunnerError> {
        let (name, operation) = (error_name(call.pipeline), call.pipeline.name());
        let asked = SystemTime::now();
        let answer = self.post(call, limit).await;
        let took = answer.as_ref().ok().map(timing::of).unwrap_or_default();
        let (status, body) = read(&name, answer, self.http.answer_bytes).await?;
        penstock_telemetry::tell_of(operation, asked, &took);
        match status {
            200 => Ok(body),
            _ => Err(RunnerError::Status { name, status, message: error_message(status, &body) }),
        }
    }

    /// The same for an answer in pieces: its body as it comes, `limit` being for all of it.
    pub async fn stream(
        &self,
        call: Call,
        limit: Duration,
    ) -> Result<BoxStream<'static, Result<Bytes, RunnerError>>, RunnerError> {
        let name = error_name(call.pipeline);
        let answer = self.post(call, limit).await.map_err(|e| unreachable(&name, e))?;
        match answer.status().as_u16() {
            200 => Ok(answer.bytes_stream().map_err(move |e| unreachable(&name, e)).boxed()),
            status => Err(RunnerError::StreamStatus(status)),
        }
    }

    /// A question of the orchestrator to a live runner, passed on: status and body of its answer. `start` empty
    /// asks for its health.
    pub async fn live(&self, start: Vec<u8>, limit: Duration) -> Result<(u16, Vec<u8>), Unheard> {
        let request = match start.is_empty() {
            true => self.request(reqwest::Method::GET, "health"),
            false => self
                .request(reqwest::Method::POST, "live-video-to-video")
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(start),
        };
        let mut answer = request.timeout(limit).send().await.map_err(Unheard::from)?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(Unheard::from)? {
            if body.len() + chunk.len() > live_worker::MAX_ANSWER_BYTES {
                return Err(Unheard { no_connection: false, why: "its answer is too large" });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    /// Whether a live runner says that it has no session, or none that could go on.
    pub async fn is_idle(&self) -> Result<bool, Unheard> {
        let (status, body) = self.live(Vec::new(), QUICK).await?;
        let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let said = said.get("status").and_then(Value::as_str);
        Ok(status == 200 && matches!(said, Some("IDLE" | "ERROR")))
    }

    async fn post(&self, call: Call, limit: Duration) -> Result<reqwest::Response, reqwest::Error> {
        let request = self.request(reqwest::Method::POST, call.pipeline.name()).timeout(limit);
        let request = match trace::outgoing() {
            Some(at) => request.header(trace::TRACEPARENT, at.to_string()),
            None => request,
        };
        let request = match call.body {
            CallBody::Json(body) => {
                request.header(http::header::CONTENT_TYPE, "application/json").body(body)
            }
            CallBody::Form { file_field, file, fields } => {
                let length = file.len() as u64;
                let part = reqwest::multipart::Part::stream_with_length(file, length)
                    .file_name(file_field);
                let form = reqwest::multipart::Form::new().part(file_field, part);
                request.multipart(
                    fields.into_iter().fold(form, |f, (name, value)| f.text(name, value)),
                )
            }
        };
        request.send().await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RunnerError> {
        let name = "runner".to_owned();
        let answer = self.request(reqwest::Method::GET, path).timeout(QUICK).send().await;
        let (status, body) = read(&name, answer, self.http.answer_bytes).await?;
        match status {
            200 => serde_json::from_slice(&body).map_err(|_| RunnerError::Malformed { name }),
            _ => Err(RunnerError::Status { name, status, message: error_message(status, &body) }),
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let base = self.endpoint.url.as_str().trim_end_matches('/');
        let request = self.http.client.request(method, format!("{base}/{path}"));
        match &self.endpoint.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }
}

async fn read(
    name: &str,
    answer: Result<reqwest::Response, reqwest::Error>,
    most_bytes: usize,
) -> Result<(u16, Vec<u8>), RunnerError> {
    let answer = answer.map_err(|e| unreachable(name, e))?;
    let status = answer.status().as_u16();
    let mut chunks = answer.bytes_stream().map_err(|e| unreachable(name, e)).boxed();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        if body.len() + chunk.len() > most_bytes {
            return Err(RunnerError::Malformed { name: name.to_owned() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

fn unreachable(name: &str, error: reqwest::Error) -> RunnerError {
    RunnerError::Unreachable { name: name.to_owned(), reason: without_url(error) }
}

/// The pipeline's name in error texts.
pub fn error_name(pipeline: Pipeline) -> String {
    match pipeline {
        Pipeline::SegmentAnything2 => "segment anything 2".to_owned(),
        Pipeline::Llm => "LLM".to_owned(),
        other => other.name().to_owned(),
    }
}

/// The message of `{"detail":{"msg":…}}`; a validation list (422) as it is.
fn error_message(status: u16, body: &[u8]) -> String {
    if status == 413 {
        return "file too large; max file size is 50MB".to_owned();
    }
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => match json.get("detail").and_then(|d| d.get("msg")).and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => json.to_string(),
        },
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts() {
        let message = |status, body: &str| error_message(status, body.as_bytes());
        assert_eq!(message(400, r#"{"detail":{"msg":"no"}}"#), "no");
        assert_eq!(message(413, "whatever"), "file too large; max file size is 50MB");
        assert_eq!(message(422, r#"{"detail":[{"loc":["a"]}]}"#), r#"{"detail":[{"loc":["a"]}]}"#);
        assert_eq!(message(502, " bad\ngateway "), "badgateway");
        assert_eq!(message(500, &"x".repeat(9999)).len(), MAX_ERROR_CHARS);
        assert_eq!(error_name(Pipeline::SegmentAnything2), "segment anything 2");
        let error = RunnerError::Status {
            name: error_name(Pipeline::AudioToText),
            status: 400,
            message: "x".into(),
        };
        assert_eq!(error.to_string(), "audio-to-text container returned 400: x");
    }

    #[test]
    fn health_words() {
        let health = |word: &str| serde_json::from_str::<Health>(&format!("\"{word}\"")).ok();
        assert_eq!(health("OK"), Some(Health::Ready));
        assert_eq!(health("IDLE"), Some(Health::Ready));
        assert_eq!(health("LOADING"), Some(Health::Loading));
        assert_eq!(health("ERROR"), Some(Health::Broken));
        assert_eq!(health("ok"), None);
    }
}
