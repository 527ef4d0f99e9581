//! The order of the layers, outermost last, with the reason for each place.

use crate::{error::SignerError, settings::Settings};
use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use penstock_http_kit::{
    admin,
    layers::{Layers, Next},
    stack, traced,
};
use penstock_telemetry::trace;
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tracing::Instrument;

/// Largest body read. A payment request carries one `OrchestratorInfo`, a state and capabilities,
/// a few kilobytes in all.
pub const BODY_BYTES: usize = 64 * 1024;

/// What gateways reach.
pub fn public(router: Router, settings: &Settings) -> Router {
    let slots = Arc::new(Semaphore::new(settings.max_in_flight));
    let limit = settings.request_timeout;
    // One layer: the router clones each of its layers for every request.
    let router = router.layer(Layers::default().then(move |request, next| {
        let slots = Arc::clone(&slots);
        async move { around(slots, limit, request, next).await }
    }));
    stack::common(router, BODY_BYTES)
}

/// What happens around each request of a gateway.
async fn around(slots: Arc<Semaphore>, limit: Duration, request: Request, next: Next) -> Response {
    // Inside the request's own span: the job's trace id is on every line of it.
    let path = known_path(&request);
    let span = match path {
        "other" => tracing::Span::none(),
        path => trace::accept(path.trim_start_matches('/'), traced::caller(request.headers())),
    };
    // Authentication is an extractor of the handlers that need it, before they read a body.
    // Inside the slots, so that a slow body holds one no longer than this.
    let answer = in_time(limit, request, next);
    // Outside the timeout: a refused request costs nothing and waits for nothing.
    let answer = in_slot(&slots, answer);
    // Outside everything that answers, so that every answer is counted.
    let answer = counted(path, answer).instrument(span.clone()).await;
    span.record("status", answer.status().as_u16());
    answer
}

/// What the operator reaches.
pub fn operators(router: Router, token: Option<String>) -> Router {
    stack::common(admin::require_token(router, token), BODY_BYTES)
}

/// What the metrics collector reaches.
pub fn observed(router: Router) -> Router {
    stack::common(router, BODY_BYTES)
}

async fn in_time(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            SignerError::TimedOut(ms).into_response()
        }
    }
}

async fn in_slot(slots: &Semaphore, answer: impl Future<Output = Response>) -> Response {
    match slots.try_acquire() {
        Ok(_slot) => answer.await,
        Err(_) => SignerError::Overloaded.into_response(),
    }
}

/// Only known paths become label values: strangers must not make series.
fn known_path(request: &Request) -> &'static str {
    match request.uri().path() {
        "/generate-live-payment" => "/generate-live-payment",
        "/sign-orchestrator-info" => "/sign-orchestrator-info",
        "/sign-segment-credentials" => "/sign-segment-credentials",
        "/sign-byoc-job" => "/sign-byoc-job",
        "/discover-orchestrators" => "/discover-orchestrators",
        _ => "other",
    }
}

async fn counted(path: &'static str, answer: impl Future<Output = Response>) -> Response {
    let started = std::time::Instant::now();
    let response = answer.await;
    let status = match response.status() {
        StatusCode::OK => Cow::Borrowed("200"),
        other => Cow::Owned(other.as_u16().to_string()),
    };
    metrics::counter!("signer_http_requests_total", "path" => path, "status" => status)
        .increment(1);
    metrics::histogram!("signer_http_request_duration_seconds", "path" => path)
        .record(started.elapsed().as_secs_f64());
    response
}
