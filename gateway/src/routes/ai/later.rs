//! `Prefer: respond-async` and `/image-to-video/result` (ai-pipelines.md section 2.2).

use super::{Shared, json, public_base, take};
use crate::{
    error::GatewayError,
    front::caller::CallerExt,
    routes::{body, to_the_end},
    service::ai::{Pipeline, later::Standing, media::RESULTS_PATH},
    trace,
};
use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use penstock_wire::json::{AiResult, ImageAnswer};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// A poll's body: a name. It is not counted in the memory for bodies.
const MAX_POLL_BYTES: usize = 4 * 1024;
/// A result's document: addresses of at most 64 films.
const MAX_RESULT_BYTES: usize = 1 << 20;

/// A job that goes on without its client.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct Begun {
    /// Names the job.
    #[schema(example = "3f1c0b5c7d8e4e0f9a1b2c3d4e5f6071")]
    pub(super) request_id: String,
}

/// Which job.
#[derive(ToSchema)]
#[allow(dead_code)]
struct Asked {
    /// As answered when it was begun.
    request_id: String,
}

/// How a job stands.
#[derive(ToSchema)]
#[allow(dead_code)]
struct Later {
    /// `processing` or `complete`.
    status: String,
    /// When complete: the images, or an error.
    result: Option<Value>,
}

/// Whether the client does not want to wait: the header exactly as the reference reads it.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    headers.get("prefer").is_some_and(|value| value.as_bytes() == b"respond-async")
}

pub(super) async fn begin(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    let taken = take(&gateway, &caller, Pipeline::ImageToVideo, &head, body).await?;
    let jobs = gateway.jobs.clone();
    let id = to_the_end(&jobs, trace::of(&head.headers), async move {
        Ok(gateway.begin_later(&caller, taken.request, taken.held).await?)
    });
    let begun = json!({ "request_id": id.await? });
    Ok((StatusCode::ACCEPTED, Json(begun)).into_response())
}

/// The result of an asynchronous image-to-video job
///
/// Any replica answers. A job whose replica has died is begun again, once, by whoever asks; one that failed for the moment is tried again.
#[utoipa::path(
    post, path = "/image-to-video/result", tag = "ai",
    request_body(content = Asked, content_type = "application/json"),
    responses(
        (status = 200, description = "It is done, or has failed", body = Later),
        (status = 202, description = "Not yet", body = Later),
        (status = 400, description = "No such job", body = crate::openapi::ErrorBody),
        (status = 405, description = "Not POST", body = crate::openapi::ErrorBody),
        (status = 413, description = "The body is too large", body = crate::openapi::ErrorBody),
        (status = 503, description = "The store is not available now", body = crate::openapi::ErrorBody),
    )
)]
pub(super) async fn result(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let (head, body) = request.into_parts();
    // No place is taken: a result that is there is given also while jobs are turned away.
    let said = body::said_length(&head.headers);
    let data = body::read_small(said, body, MAX_POLL_BYTES).await?;
    let asked: Value = serde_json::from_slice(&data)
        .map_err(|e| GatewayError::Form(format!("invalid JSON: {e}")))?;
    let id = asked.get("request_id").and_then(Value::as_str).unwrap_or_default();
    let (status, answer) = match gateway.later(&caller, id).await? {
        Standing::Unknown => return Err(GatewayError::Form("invalid request ID".to_owned())),
        Standing::Processing => (StatusCode::ACCEPTED, json!({ "status": "processing" })),
        Standing::Complete(result) => {
            let base = public_base(&gateway, &head.headers);
            let result =
                addressed(&result, &base).unwrap_or_else(|| failed("Internal Server Error"));
            (StatusCode::OK, json!({ "status": "complete", "result": result }))
        }
        Standing::Failed => {
            let result = failed("Internal Server Error");
            (StatusCode::OK, json!({ "status": "complete", "result": result }))
        }
    };
    let mut response = json(answer.to_string().into());
    *response.status_mut() = status;
    Ok(response)
}

fn failed(message: &str) -> Value {
    json!({ "error": { "message": message } })
}

/// A stored result with addresses that this client can call.
fn addressed(result: &[u8], base: &str) -> Option<Value> {
    let mut answer = ImageAnswer::parse(result, MAX_RESULT_BYTES).ok()?;
    for image in &mut answer.images {
        if image.url.starts_with(RESULTS_PATH) {
            image.url.insert_str(0, base);
        }
    }
    serde_json::to_value(answer).ok()
}
