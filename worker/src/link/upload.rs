//! Results go back by HTTP POST on the orchestrator's port (video-transcode-worker.md section 3,
//! ai-pipelines.md section 7.3).

use super::{backoff::Backoff, multipart::Mixed};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use penstock_config::Secret;
use penstock_telemetry::trace;
use penstock_wire::worker_upload as wire;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;
use url::Url;

/// Tries of one upload; the same result twice does no harm.
const TRIES: u32 = 4;
/// Kept of an error answer.
const MAX_ANSWER_CHARS: usize = 200;

/// A result did not arrive.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The orchestrator refused it; the same again would be refused again.
    #[error("the orchestrator answered {0}: {1}")]
    Refused(u16, String),
    /// No connection, or it broke, each time.
    #[error("the orchestrator cannot be reached: {0}")]
    Transport(String),
    /// Too late for the orchestrator to want it.
    #[error("the time for the result is over")]
    TooLate,
}

/// What is told to an orchestrator.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The result.
    Done(Mixed),
    /// The error's text.
    Failed(String),
}

/// Where results go.
#[derive(Debug, Clone)]
pub struct Uploader {
    client: reqwest::Client,
    /// For uploads that take as long as their work does.
    streams: reqwest::Client,
    base: Url,
    secret: Secret,
}

impl Uploader {
    /// Results go to `base`, with `secret` as credential.
    pub fn new(
        client: reqwest::Client,
        streams: reqwest::Client,
        base: Url,
        secret: Secret,
    ) -> Self {
        Self { client, streams, base, secret }
    }

    /// A transcoding result. `decoded_pixels` is 0 on error.
    pub async fn transcoded(
        &self,
        task_id: i64,
        decoded_pixels: u64,
        outcome: &Outcome,
        deadline: Instant,
    ) -> Result<(), UploadError> {
        let mut headers = self.headers(wire::TRANSCODER_AUTHORIZATION, task_id);
        put(&mut headers, wire::PIXELS, HeaderValue::from(decoded_pixels));
        self.post("transcodeResults", headers, wire::TRANSCODING_ERROR, outcome, deadline).await
    }

    /// An AI result.
    pub async fn ai(
        &self,
        task_id: i64,
        pipeline: &str,
        outcome: &Outcome,
        deadline: Instant,
    ) -> Result<(), UploadError> {
        let mut headers = self.headers(wire::AI_WORKER_AUTHORIZATION, task_id);
        put(&mut headers, wire::PIPELINE, pipeline_header(pipeline));
        self.post("aiResults", headers, wire::AI_WORKER_ERROR, outcome, deadline).await
    }

    /// An AI result in pieces, sent as they come. It cannot be repeated: a stream that broke off is lost.
    pub async fn ai_stream(
        &self,
        task_id: i64,
        pipeline: &str,
        body: reqwest::Body,
        deadline: Instant,
    ) -> Result<(), UploadError> {
        let mut headers = self.headers(wire::AI_WORKER_AUTHORIZATION, task_id);
        put(&mut headers, wire::PIPELINE, pipeline_header(pipeline));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let mut url = self.base.clone();
        url.set_path("aiResults");
        let request = self.streams.post(url).headers(headers).body(body).send();
        let answer = tokio::time::timeout_at(deadline, request)
            .await
            .map_err(|_| UploadError::TooLate)?
            .map_err(|error| UploadError::Transport(without_url(error)))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status().as_u16();
        let text = tokio::time::timeout_at(deadline, start_of(answer)).await;
        Err(UploadError::Refused(status, text.unwrap_or_default()))
    }

    fn headers(&self, authorization: &'static str, task_id: i64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(authorization));
        // A secret with characters that no header may hold cannot be right.
        if let Ok(mut secret) = HeaderValue::from_str(self.secret.expose()) {
            secret.set_sensitive(true);
            put(&mut headers, wire::CREDENTIALS, secret);
        }
        put(&mut headers, wire::TASK_ID, HeaderValue::from(task_id));
        // The Go node does not look at it.
        if let Some(at) = trace::outgoing()
            && let Ok(at) = HeaderValue::from_str(&at.to_string())
        {
            put(&mut headers, trace::TRACEPARENT, at);
        }
        headers
    }

    async fn post(
        &self,
        path: &str,
        mut headers: HeaderMap,
        error_type: &'static str,
        outcome: &Outcome,
        deadline: Instant,
    ) -> Result<(), UploadError> {
        let content_type = match outcome {
            Outcome::Done(mixed) => HeaderValue::from_str(&mixed.content_type())
                .unwrap_or(HeaderValue::from_static("multipart/mixed")),
            Outcome::Failed(_) => HeaderValue::from_static(error_type),
        };
        headers.insert(header::CONTENT_TYPE, content_type);
        let mut url = self.base.clone();
        url.set_path(path);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut tries = 0;
        loop {
            let body = match outcome {
                Outcome::Done(mixed) => mixed.body(),
                Outcome::Failed(text) => text.clone().into(),
            };
            let request = self.client.post(url.clone()).headers(headers.clone()).body(body);
            let answer = tokio::time::timeout_at(deadline, request.send())
                .await
                .map_err(|_| UploadError::TooLate)?;
            tries += 1;
            match answer {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let text = tokio::time::timeout_at(deadline, start_of(answer)).await;
                    return Err(UploadError::Refused(status, text.unwrap_or_default()));
                }
                Err(error) if tries == TRIES => {
                    return Err(UploadError::Transport(without_url(error)));
                }
                Err(error) => {
                    tracing::debug!(error = without_url(error), "upload failed, trying again");
                    tokio::time::sleep(backoff.next(rand::random())).await;
                }
            }
        }
    }
}

fn pipeline_header(pipeline: &str) -> HeaderValue {
    HeaderValue::from_str(pipeline).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The network writes header names with capitals; HTTP does not care.
fn put(headers: &mut HeaderMap, name: &'static str, value: HeaderValue) {
    if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
        headers.insert(name, value);
    }
}

/// The first characters of an error answer.
async fn start_of(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER_CHARS
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&bytes).trim().chars().take(MAX_ANSWER_CHARS).collect()
}

/// reqwest's own text plus what it hides, without the address that every log line has anyway.
pub fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
