//! The span of each request that is worth one, as part of its caller's trace.

use crate::layers::Next;
use axum::{extract::Request, response::Response};
use http::HeaderMap;
use penstock_telemetry::trace::{self, TRACEPARENT, Traceparent};
use tracing::Instrument;

/// What a request asks for: one of a few names; `None`: nothing that is traced. Names are never made of
/// what a caller wrote, who could make as many as he likes.
pub type Operation = fn(&Request) -> Option<&'static str>;

/// The caller's trace.
pub fn caller(headers: &HeaderMap) -> Option<Traceparent> {
    Traceparent::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// The layer.
pub async fn layer(operation: Operation, request: Request, next: Next) -> Response {
    match operation(&request) {
        Some(operation) => run(operation, request, next).await,
        None => next.run(request).await,
    }
}

/// The same with a name that is known already.
pub async fn run(operation: &'static str, request: Request, next: Next) -> Response {
    let caller = caller(request.headers());
    let span = trace::accept(operation, caller);
    let response = trace::scope_if(caller, next.run(request)).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}
