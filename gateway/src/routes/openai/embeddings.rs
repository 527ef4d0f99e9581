//! `POST /v1/embeddings`: the network has no such pipeline, so a brought capability serves it
//! (`--embeddings-capability`): a worker that speaks OpenAI's embeddings itself.

use super::{OpenAiError, OpenAiRefusal, Shared, answers::Embeddings, object};
use crate::{
    error::GatewayError,
    front::caller::CallerExt,
    routes::to_the_end,
    service::{
        byoc::{BroughtBody, BroughtJob, ByocError, Search},
        error::JobError,
    },
    trace,
};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use penstock_wire::json::ByocJobRequest;
use serde_json::{Value, json};
use std::time::Duration;
use utoipa::ToSchema;

/// Seconds that a request may take, and is paid for at most.
const TIMEOUT_S: u32 = 60;
/// Longest look for an orchestrator; and for more of them, once there is one.
const SEARCH: Duration = Duration::from_secs(10);
const FURTHER: Duration = Duration::from_millis(200);

/// Texts to be embedded.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct EmbeddingRequest {
    /// The worker's model.
    model: String,
    /// A text or a list of them.
    input: Value,
}

/// Whether an answer is a list, as OpenAI's clients read it.
fn is_list(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body)
        .is_ok_and(|said| said.get("data").is_some_and(Value::is_array))
}

/// Texts as vectors
///
/// The request goes to the worker of `--embeddings-capability` as it is, and its answer comes back.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai",
    request_body(content = EmbeddingRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "The worker's answer", body = Embeddings),
        (status = "4XX", description = "Refused by the worker, with its own status", body = OpenAiError),
        OpenAiRefusal,
    )
)]
pub(super) async fn create(
    State(gateway): State<Shared>,
    CallerExt(caller): CallerExt,
    request: Request,
) -> Result<Response, GatewayError> {
    let capability = gateway.settings.ai.embeddings_capability.clone();
    let capability = capability.ok_or(GatewayError::NotFound)?;
    let (head, body) = request.into_parts();
    let asked = object(&gateway, &caller, &head, body).await?;
    let name = asked.required("model")?;
    if asked.get("input").is_none() {
        return Err(super::wrong("input", "is required"));
    }
    let job = BroughtJob {
        request: ByocJobRequest {
            id: uuid::Uuid::new_v4().simple().to_string(),
            request: json!({ "model": name }).to_string(),
            parameters: "{}".to_owned(),
            capability,
            // A job may not take longer than any may here.
            timeout_seconds: u32::try_from(gateway.settings.ai.job_timeout_ms / 1_000)
                .map_or(TIMEOUT_S, |most| TIMEOUT_S.min(most).max(1)),
            include: Vec::new(),
            exclude: Vec::new(),
        },
        path: "v1/embeddings".to_owned(),
        content_type: Some(HeaderValue::from_static("application/json")),
        body: asked.held.0.data.clone(),
        search: Search { whole: SEARCH, each: SEARCH, further: FURTHER, known_only: true },
    };
    let (jobs, trace) = (gateway.jobs.clone(), trace::of(&head.headers));
    let begun = to_the_end(&jobs, trace, async move {
        let begun = gateway.brought(&caller, &job).await;
        drop(asked);
        Ok(begun.map_err(|error| match error {
            // As for every other model that nobody has.
            ByocError::Nobody(name) => JobError::NoOrchestrators(name).into(),
            other => other,
        })?)
    });
    match begun.await?.body {
        BroughtBody::Whole(body) if is_list(&body) => {
            Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
        }
        _ => Err(JobError::Exhausted("the worker made no embeddings".to_owned()).into()),
    }
}
