//! The OpenAPI document: made from the handlers, committed as `openapi/gateway.json`, compared by a
//! test. `penstock-gateway openapi > openapi/gateway.json` brings the committed one up to date.

use crate::routes::{
    Shared, ai, byoc, capabilities, hls, live, openai, recordings, selection, streams,
};
use serde::Serialize;
use utoipa::{IntoResponses, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

/// Every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For people.
    pub message: String,
    /// For programs: a stable word in snake case.
    pub code: Option<String>,
}

/// One of a stream of server-sent events. Documentation only.
#[derive(ToSchema)]
#[allow(dead_code)]
pub struct Event {
    /// Absent, or `error`: the answer broke off.
    event: Option<String>,
    /// A piece of the answer, JSON; of OpenAI's paths the last one is `[DONE]`.
    data: String,
}

/// What an AI job may be answered instead of its result. Documentation only.
#[derive(IntoResponses)]
#[allow(dead_code)]
pub enum JobRefusal {
    /// 400.
    #[response(status = 400, description = "A bad or unsupported field, or refused by the model")]
    Field(ErrorBody),
    /// 403.
    #[response(status = 403, description = "The caller may not use this model")]
    Model(ErrorBody),
    /// 405.
    #[response(status = 405, description = "Not POST")]
    Method(ErrorBody),
    /// 413.
    #[response(status = 413, description = "The body is too large")]
    Size(ErrorBody),
    /// 429.
    #[response(status = 429, description = "Too many jobs of this caller")]
    Often(ErrorBody),
    /// 500.
    #[response(status = 500, description = "Internal Server Error")]
    Bug(ErrorBody),
    /// 503.
    #[response(status = 503, description = "No orchestrator, signer or store available now")]
    Later(ErrorBody),
}

/// The gateway can do its work, or what is missing.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyBody {
    /// Whether a paid job can run now.
    pub ready: bool,
    /// What keeps it from running.
    pub missing: Option<Vec<Missing>>,
}

/// A dependency that keeps the gateway from working.
#[derive(Debug, Serialize, ToSchema)]
pub struct Missing {
    /// `draining`, `signer`, `orchestrators`, `session-store`, `segment-store`.
    pub dependency: String,
    /// Why, and which setting to look at.
    pub reason: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Penstock gateway",
        description = "Video transcoding and AI jobs on the Livepeer network, paid by the gateway's signer.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "video", description = "Pushing live video, segment by segment"),
        (name = "ai", description = "AI jobs"),
        (name = "openai", description = "The same jobs in OpenAI's form"),
        (name = "playback", description = "Playing live video, and looking at streams"),
        (name = "health", description = "Whether the gateway lives and can work"),
    ),
    paths(healthz, readyz),
    components(schemas(ErrorBody, ErrorDetail, crate::front::problem::Problem))
)]
struct Document;

/// Alive
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "The process is alive")))]
#[allow(dead_code)]
fn healthz() {}

/// Ready
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "A paid job can run now", body = ReadyBody),
        (status = 503, description = "Something is missing", body = ReadyBody),
    )
)]
#[allow(dead_code)]
fn readyz() {}

/// The documented routes.
pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(live::router())
        .merge(ai::router())
        .merge(byoc::router())
        .merge(capabilities::router())
        .merge(openai::router())
        .merge(hls::router())
        .merge(recordings::router())
        .merge(streams::router())
        .merge(selection::router())
}

/// The document, as committed.
pub fn json() -> String {
    let (_, mut document) = router().split_for_parts();
    crate::front::document::describe(&mut document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    /// Fails when handlers and the committed document differ.
    #[test]
    fn the_committed_document_is_up_to_date() {
        let committed = include_str!("../../openapi/gateway.json");
        assert!(
            committed == super::json(),
            "openapi/gateway.json is out of date: cargo run -p penstock-gateway -- openapi > openapi/gateway.json"
        );
    }
}
