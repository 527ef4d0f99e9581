//! The batch AI routes (ai-pipelines.md section 6).

use crate::{
    error::JobError,
    node::Node,
    service::{
        ai_job::{AudioRequest, DEFAULT_AUDIO_MODEL},
        credentials::Work,
    },
    workers::ai::AiError,
};
use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use multer::Multipart;
use penstock_wire::limits;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Pipelines that are known and served by no worker yet.
pub const OTHER_PIPELINES: [&str; 8] = [
    "text-to-image",
    "image-to-image",
    "image-to-video",
    "upscale",
    "segment-anything-2",
    "llm",
    "image-to-text",
    "text-to-speech",
];

/// Most fields of a form, and longest text of one.
const MAX_FIELDS: usize = 32;
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// Transcribes a file. The headers are checked before the body is read: refusing costs nothing
/// then. (The reference reads the body first.)
pub async fn audio_to_text(State(node): State<Arc<Node>>, request: Request) -> Response {
    match serve(&node, request).await {
        Ok(answer) => {
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], answer).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn serve(node: &Arc<Node>, request: Request) -> Result<Bytes, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let admission = node.admit(&parts.headers, Work::Ai)?;
    let held = node.bodies.read(body, node.max_ai_body_bytes as u64).await?;
    let request = form(&parts.headers, held.data.clone()).await?;
    let (node, running) = (Arc::clone(node), node.jobs.token());
    // In a task of its own: a gateway that hangs up does not stop work that is paid for.
    let job = tokio::spawn(async move {
        let answer = node.audio_to_text(admission, request).await;
        drop((held, running));
        answer
    });
    job.await.map_err(|_| JobError::Storage)?
}

/// A pipeline without workers: the headers still have to be in order.
pub async fn no_worker(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    node.admit(&headers, Work::Ai)?;
    Err(JobError::Ai(AiError::Capacity))
}

/// The multipart form: one file `audio`, and texts.
async fn form(headers: &HeaderMap, body: Bytes) -> Result<AudioRequest, JobError> {
    let bad = |why: String| JobError::BadRequest(why);
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .ok_or_else(|| bad("request Content-Type isn't multipart/form-data".into()))?;
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| bad("request Content-Type isn't multipart/form-data".into()))?;
    let stream = futures::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut parts = Multipart::new(stream, boundary);
    let (mut audio, mut fields) = (None, Map::new());
    while let Some(part) = parts.next_field().await.map_err(|e| bad(e.to_string()))? {
        let name = part.name().unwrap_or_default().to_owned();
        let data = part.bytes().await.map_err(|e| bad(e.to_string()))?;
        if name == "audio" {
            audio = Some(data);
            continue;
        }
        if fields.len() >= MAX_FIELDS || name.len() > 64 || data.len() > MAX_FIELD_BYTES {
            return Err(bad("too many or too long form fields".into()));
        }
        let text =
            String::from_utf8(data.to_vec()).map_err(|_| bad("a form field is not text".into()))?;
        fields.insert(name, Value::String(text));
    }
    let model = match fields.remove("model_id") {
        Some(Value::String(model)) if !model.is_empty() => model,
        _ => DEFAULT_AUDIO_MODEL.to_owned(),
    };
    let printable = model.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if model.len() > limits::NAME_BYTES.min(160) || !printable {
        return Err(bad("invalid model_id".into()));
    }
    let audio = audio.filter(|a| !a.is_empty()).ok_or_else(|| bad("missing audio".into()))?;
    Ok(AudioRequest { audio, model, fields })
}
