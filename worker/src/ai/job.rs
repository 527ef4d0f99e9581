//! From the orchestrator's notice to a call of a runner, and from its answer to the result. Pure.

use super::client::Call;
use bytes::Bytes;
use penstock_domain::Capability;
use penstock_wire::net;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

const MAX_FIELDS: usize = 64;
const MAX_NAME_BYTES: usize = 64;

/// An AI job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AiJob {
    /// Echoed with the result.
    pub task_id: i64,
    /// The pipeline.
    pub capability: Capability,
    /// The model.
    pub model_id: String,
    /// Where the input file is.
    pub input_url: String,
    file_field: &'static str,
    fields: Vec<(String, String)>,
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

/// Reads a notice.
pub fn read(notice: &net::NotifyAiJob) -> Result<AiJob, BadJob> {
    let data = notice.ai_job_data.clone().unwrap_or_default();
    let envelope: Envelope =
        serde_json::from_slice(&data.request_data).map_err(|e| BadJob::Envelope(e.to_string()))?;
    let bad = |reason: &str| BadJob::request(&data.pipeline, reason);
    let (capability, file_field) = match Capability::from_pipeline(&data.pipeline) {
        Some(c @ Capability::AudioToText) => (c, "audio"),
        Some(c @ (Capability::ImageToText | Capability::SegmentAnything2)) => (c, "image"),
        _ => return Err(bad("AI request pipeline type not supported")),
    };
    let model_id = match envelope.request.get("model_id").and_then(Value::as_str) {
        Some(model) if !model.is_empty() => model.to_owned(),
        _ => return Err(bad("model_id is missing")),
    };
    if envelope.input_url.is_empty() {
        return Err(bad("input_url is missing"));
    }
    let fields = form_fields(&envelope.request, file_field).ok_or_else(|| bad("invalid field"))?;
    Ok(AiJob {
        task_id: notice.task_id,
        capability,
        model_id,
        input_url: envelope.input_url,
        file_field,
        fields,
    })
}

/// The request's scalars as form fields. The file's own field is an empty object and left out.
fn form_fields(request: &Map<String, Value>, file_field: &str) -> Option<Vec<(String, String)>> {
    let scalars = request.iter().filter(|(name, _)| name.as_str() != file_field);
    let fields = scalars.filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((name.clone(), text))
    });
    let fields: Vec<_> = fields.collect();
    let plain = |name: &str| {
        (1..=MAX_NAME_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    (fields.len() <= MAX_FIELDS && fields.iter().all(|(name, _)| plain(name))).then_some(fields)
}

impl AiJob {
    /// The call of a runner, with the downloaded file.
    pub fn call(&self, file: Bytes) -> Call {
        Call {
            capability: self.capability,
            file_field: self.file_field,
            file,
            fields: self.fields.clone(),
        }
    }

    /// The answer in the shape that orchestrators read, or `None` if the runner's is not.
    pub fn result(&self, answer: Value) -> Option<String> {
        let text_of = |name: &str| answer.get(name).and_then(Value::as_str);
        let result = match self.capability {
            Capability::AudioToText => {
                let chunks = answer.get("chunks").filter(|c| c.is_array()).cloned();
                json!({ "text": text_of("text")?, "chunks": chunks.unwrap_or_else(|| json!([])) })
            }
            Capability::ImageToText => json!({ "text": text_of("text")? }),
            _ => json!({
                "masks": text_of("masks")?, "scores": text_of("scores")?, "logits": text_of("logits")?,
            }),
        };
        Some(result.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice(pipeline: &str, data: &str) -> net::NotifyAiJob {
        let job =
            net::AiJobData { pipeline: pipeline.into(), request_data: data.as_bytes().to_vec() };
        net::NotifyAiJob { ai_job_data: Some(job), task_id: 5 }
    }

    const GOOD: &str = r#"{"input_url":"https://o/stream/x.tempfile","request":{"audio":{},"model_id":"m/1","metadata":"{\"duration\":\"7\"}","return_timestamps":"word","seed":3,"safe":true,"none":null}}"#;

    #[test]
    fn a_job_and_its_call() {
        let job = read(&notice("audio-to-text", GOOD)).unwrap();
        assert_eq!((job.task_id, job.model_id.as_str()), (5, "m/1"));
        let call = job.call(Bytes::from_static(b"wav"));
        assert_eq!(call.file_field, "audio");
        let fields: Vec<_> = call.fields.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            fields,
            [
                "metadata={\"duration\":\"7\"}",
                "model_id=m/1",
                "return_timestamps=word",
                "safe=true",
                "seed=3"
            ]
        );
    }

    #[test]
    fn texts_of_bad_jobs() {
        let text =
            |pipeline: &str, data: &str| read(&notice(pipeline, data)).unwrap_err().to_string();
        assert!(text("audio-to-text", "{").contains("EOF"));
        assert_eq!(
            text("dance", GOOD),
            "AI request validation failed for dance pipeline err=AI request pipeline type not supported"
        );
        let no_model = r#"{"input_url":"u","request":{"model_id":""}}"#;
        assert!(text("audio-to-text", no_model).ends_with("err=model_id is missing"));
        assert!(text("audio-to-text", r#"{"request":{"model_id":"m"}}"#).contains("input_url"));
        let odd = r#"{"input_url":"u","request":{"model_id":"m","a\r\nb":"x"}}"#;
        assert!(text("audio-to-text", odd).contains("invalid field"));
        assert!(read(&net::NotifyAiJob::default()).is_err());
    }

    #[test]
    fn results_have_the_networks_shape() {
        let job = read(&notice("audio-to-text", GOOD)).unwrap();
        let answer = json!({"text":"hi","chunks":[{"timestamp":[0.0,1.5],"text":" hi"}],"extra":1});
        assert_eq!(
            job.result(answer).unwrap(),
            r#"{"chunks":[{"text":" hi","timestamp":[0.0,1.5]}],"text":"hi"}"#
        );
        assert_eq!(job.result(json!({"text":""})).unwrap(), r#"{"chunks":[],"text":""}"#);
        for bad in [json!({}), json!({"text":3}), json!([]), json!(null)] {
            assert_eq!(job.result(bad), None);
        }
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
