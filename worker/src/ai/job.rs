//! From the orchestrator's notice to a call of a runner. Pure.

use super::client::{Call, CallBody};
use bytes::Bytes;
use penstock_domain::Capability;
use penstock_wire::{
    ai::{AiRequest, Pipeline},
    net,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

/// An AI job.
#[derive(Debug, Clone, PartialEq)]
pub struct AiJob {
    /// Echoed with the result.
    pub task_id: i64,
    /// The model.
    pub model_id: String,
    /// Where the input file is; `None` for pipelines that take none.
    pub input_url: Option<String>,
    /// What is asked.
    pub request: AiRequest,
}

/// Why a notice is no job; the texts are the reference's (ai-pipelines.md section 7.2).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadJob {
    /// Not the JSON envelope.
    #[error("{0}")]
    Envelope(String),
    /// The request cannot be run.
    #[error("AI request validation failed for {pipeline} pipeline err={reason}")]
    Request {
        /// The pipeline, as sent.
        pipeline: String,
        /// Why.
        reason: String,
    },
}

impl BadJob {
    /// A request that cannot be run.
    pub fn request(pipeline: &str, reason: impl ToString) -> Self {
        let pipeline = pipeline.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::Request { pipeline, reason: reason.to_string() }
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    input_url: String,
    #[serde(default)]
    request: Map<String, Value>,
}

/// Reads a notice. Fields that the pipeline does not have are left out, the emptied file among them.
pub fn read(notice: &net::NotifyAiJob) -> Result<AiJob, BadJob> {
    let data = notice.ai_job_data.clone().unwrap_or_default();
    let envelope: Envelope =
        serde_json::from_slice(&data.request_data).map_err(|e| BadJob::Envelope(e.to_string()))?;
    let bad = |reason: String| BadJob::request(&data.pipeline, reason);
    let pipeline = Capability::from_pipeline(&data.pipeline)
        .and_then(Pipeline::of)
        .ok_or_else(|| bad("AI request pipeline type not supported".to_owned()))?;
    let request = AiRequest::read_object(pipeline, &envelope.request)
        .map_err(|error| bad(error.to_string()))?;
    let model_id = request
        .model
        .clone()
        .ok_or_else(|| bad(format!("{} is missing", pipeline.model_field())))?;
    let input_url = pipeline.file_field().map(|_| envelope.input_url);
    if input_url.as_ref().is_some_and(String::is_empty) {
        return Err(bad("input_url is missing".to_owned()));
    }
    Ok(AiJob { task_id: notice.task_id, model_id, input_url, request })
}

impl AiJob {
    /// The pipeline.
    pub fn pipeline(&self) -> Pipeline {
        self.request.pipeline
    }

    /// The call of a runner, with the downloaded file of a pipeline that takes one.
    pub fn call(&self, file: Bytes) -> Call {
        let pipeline = self.pipeline();
        let body = match pipeline.file_field() {
            None => CallBody::Json(self.request.to_json(&self.model_id)),
            Some(file_field) => {
                CallBody::Form { file_field, file, fields: self.request.to_form(&self.model_id) }
            }
        };
        Call { pipeline, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice(pipeline: &str, data: &str) -> net::NotifyAiJob {
        let job =
            net::AiJobData { pipeline: pipeline.into(), request_data: data.as_bytes().to_vec() };
        net::NotifyAiJob { ai_job_data: Some(job), task_id: 5, ..Default::default() }
    }

    const GOOD: &str = r#"{"input_url":"https://o/stream/x.tempfile","request":{"audio":null,"model_id":"m/1","metadata":"{\"duration\":\"7\"}","return_timestamps":"word","seed":3,"none":null}}"#;

    #[test]
    fn a_job_with_a_file_becomes_a_form() {
        let job = read(&notice("audio-to-text", GOOD)).unwrap();
        assert_eq!((job.task_id, job.model_id.as_str()), (5, "m/1"));
        let CallBody::Form { file_field, file, fields } = job.call(Bytes::from_static(b"wav")).body
        else {
            panic!()
        };
        assert_eq!((file_field, &file[..]), ("audio", &b"wav"[..]));
        let fields: Vec<_> = fields.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let expected = ["model_id=m/1", "return_timestamps=word", "metadata={\"duration\":\"7\"}"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_job_without_a_file_becomes_json() {
        let request = r#"{"input_url":"","request":{"model":"m","stream":true,"max_tokens":9,
            "messages":[{"role":"user","content":"hi"}]}}"#;
        let job = read(&notice("llm", request)).unwrap();
        assert!(job.request.wants_stream() && job.input_url.is_none());
        let CallBody::Json(body) = job.call(Bytes::new()).body else { panic!() };
        let sent: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(sent["messages"][0]["content"], "hi");
        assert_eq!((&sent["model"], &sent["max_tokens"]), (&"m".into(), &9.into()));
    }

    #[test]
    fn texts_of_bad_jobs() {
        let text =
            |pipeline: &str, data: &str| read(&notice(pipeline, data)).unwrap_err().to_string();
        assert!(text("audio-to-text", "{").contains("EOF"));
        for unknown in ["dance", "live-video-to-video", ""] {
            let expected = format!(
                "AI request validation failed for {unknown} pipeline err=AI request pipeline type not supported"
            );
            assert_eq!(text(unknown, GOOD), expected);
        }
        let no_model = r#"{"input_url":"u","request":{"model_id":""}}"#;
        assert!(text("audio-to-text", no_model).ends_with("err=model_id is missing"));
        assert!(text("llm", no_model).ends_with("err=model is missing"));
        assert!(text("upscale", r#"{"request":{"model_id":"m"}}"#).contains("input_url"));
        let odd = r#"{"request":{"model_id":"m","width":"wide"}}"#;
        assert!(text("text-to-image", odd).contains("width must be a whole number"));
        assert!(read(&net::NotifyAiJob::default()).is_err());
    }

    const PIECES: &[&str] = &[
        "{",
        "}",
        "\"input_url\":",
        "\"u\"",
        ",",
        "\"request\":",
        "{\"model_id\":\"m\"}",
        "null",
        "[",
        "]",
        "1e999",
        "\"\\ud800\"",
        "\"audio\":{}",
        "true",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn nothing_panics(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12), into in any::<bool>()) {
            let soup = pieces.concat();
            let data = if into { GOOD.replacen("null", &soup, 1) } else { soup };
            let _ = read(&notice("audio-to-text", &data));
        }
    }
}
