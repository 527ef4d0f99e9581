//! The paths that OpenAI's clients call, over the same jobs: chat, transcriptions, speech, images,
//! embeddings, models. Errors have OpenAI's form. What the network's pipelines cannot do is refused with
//! `unsupported_parameter` and not silently left out, unless leaving it out changes nothing essential.

mod answers;
mod audio;
mod chat;
mod embeddings;
mod images;
mod models;

use super::{Shared, ai, body};
use crate::{
    error::GatewayError,
    front::{
        caller::Caller,
        workload::{Permit, Workload},
    },
};
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header, request::Parts};
use penstock_http_kit::layers::Next;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(chat::completions))
        .routes(routes!(audio::transcriptions))
        .routes(routes!(audio::speech))
        .routes(routes!(images::generations))
        .routes(routes!(embeddings::create))
        .routes(routes!(models::list))
        .routes(routes!(models::one))
}

/// An error as OpenAI's clients read it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    /// What went wrong.
    error: OpenAiErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct OpenAiErrorDetail {
    /// For people.
    message: String,
    /// The class.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    kind: &'static str,
    /// Always null.
    param: Option<String>,
    /// For programs.
    code: Option<String>,
}

/// What a job may be answered instead of its result. Documentation only.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub(crate) enum OpenAiRefusal {
    /// 400.
    #[response(status = 400, description = "A bad or unsupported field, or refused by the model")]
    Field(OpenAiError),
    /// 403.
    #[response(status = 403, description = "The caller may not use this model")]
    Model(OpenAiError),
    /// 405.
    #[response(status = 405, description = "Not POST")]
    Method(OpenAiError),
    /// 413.
    #[response(status = 413, description = "The body is too large")]
    Size(OpenAiError),
    /// 429.
    #[response(status = 429, description = "Too many jobs of this caller")]
    Often(OpenAiError),
    /// 500.
    #[response(status = 500, description = "Internal Server Error")]
    Bug(OpenAiError),
    /// 503.
    #[response(status = 503, description = "No orchestrator, signer or store available now")]
    Later(OpenAiError),
}

/// Most bytes of an error that is written anew; ours are short.
const ERROR_BYTES: usize = 64 * 1024;

/// The paths of OpenAI's interface; others below `/v1/` are the gateway's own.
const PATHS: [&str; 5] = ["/v1/chat/", "/v1/audio/", "/v1/images/", "/v1/embeddings", "/v1/models"];

/// Whether a path, or its template, is OpenAI's.
pub fn owns(path: &str) -> bool {
    PATHS.iter().any(|prefix| path.starts_with(prefix))
}

/// The layer that gives errors OpenAI's form on its paths, whoever refused: the route, the front
/// door or the router. Our envelope has `message` and `code` already; OpenAI's adds a class.
pub async fn errors(request: Request, next: Next) -> Response {
    let theirs = owns(request.uri().path());
    let response = next.run(request).await;
    let status = response.status();
    if !theirs || !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, ERROR_BYTES).await.unwrap_or_default();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| Some(said.get("error")?.get(name)?.as_str()?.to_owned());
    let error = OpenAiErrorDetail {
        message: text("message").unwrap_or_else(|| status.to_string()),
        kind: class(status),
        param: None,
        code: text("code"),
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.remove(header::CONTENT_TYPE);
    (head, axum::Json(OpenAiError { error })).into_response()
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// A JSON object with the place that its job has.
struct Asked {
    object: Map<String, Value>,
    held: (body::Held, Permit),
}

/// Reads a JSON request.
async fn object(
    gateway: &Shared,
    caller: &Caller,
    head: &Parts,
    body: Body,
) -> Result<Asked, GatewayError> {
    let said = body::said_length(&head.headers);
    let place = gateway.workloads.enter(Workload::Ai, caller).await?;
    let held = body::read(&place, said, body, gateway.settings.ai.max_json_bytes).await?;
    let object = serde_json::from_slice(&held.data)
        .map_err(|e| GatewayError::Form(format!("invalid JSON: {e}")))?;
    Ok(Asked { object, held: (held, place) })
}

impl Asked {
    /// What is said of a field; null is nothing.
    fn get(&self, name: &str) -> Option<&Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, GatewayError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(name, "must be a string")),
        }
    }

    fn required(&self, name: &'static str) -> Result<String, GatewayError> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| wrong(name, "is required"))
    }

    fn int(&self, name: &'static str) -> Result<Option<i64>, GatewayError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_i64().map(Some).ok_or_else(|| wrong(name, "must be a whole number"))
            }
        }
    }

    fn flag(&self, name: &'static str) -> Result<bool, GatewayError> {
        match self.get(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| wrong(name, "must be true or false")),
        }
    }

    /// Refuses fields that would be ignored although the answer depends on them.
    fn refuse(&self, names: &[&'static str]) -> Result<(), GatewayError> {
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        let said = names.iter().find(|name| self.get(name).is_some_and(|v| !empty(v)));
        said.map_or(Ok(()), |name| Err(unsupported(name)))
    }
}

/// A field that is not what it must be.
fn wrong(name: &str, what: &str) -> GatewayError {
    GatewayError::Form(format!("{name} {what}"))
}

/// A wish that the network's pipelines cannot fulfil.
fn unsupported(name: &str) -> GatewayError {
    GatewayError::Form(format!("unsupported_parameter: {name}"))
}

/// The model that a name stands for.
fn model(gateway: &Shared, name: Option<String>) -> Option<String> {
    let name = name?;
    Some(gateway.settings.ai.aliases.get(&name).cloned().unwrap_or(name))
}

fn unix_seconds() -> u64 {
    crate::clock::now().0 / 1_000
}

fn answer(document: &impl Serialize) -> Response {
    // Texts and numbers: writing them cannot fail.
    ai::json(serde_json::to_vec(document).unwrap_or_default().into())
}

/// The first words of a stream's end.
fn done() -> String {
    "data: [DONE]\n\n".to_owned()
}

fn data(document: &Value) -> String {
    format!("data: {document}\n\n")
}

fn stream_error(message: &str) -> String {
    data(&json!({ "error": {
        "message": message, "type": "server_error", "param": null, "code": "broken_off",
    }}))
}
