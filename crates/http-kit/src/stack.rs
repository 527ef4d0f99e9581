//! The layers that surround every router, in one order with the reason for each place.

use crate::{
    ApiError,
    layers::{Layers, Next},
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue};
use std::{any::Any, time::Instant};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

/// The header that names a request in the logs; a caller's own value is kept when it is sane.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The common outer layers. `body_limit_bytes` bounds what the buffering extractors will read;
/// routes that stream their body enforce their own limit.
pub fn common<S>(router: Router<S>, body_limit_bytes: usize) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    common_within(router, Layers::default(), body_limit_bytes)
}

/// The same inside of further layers.
pub fn common_within<S>(router: Router<S>, outer: Layers, body_limit_bytes: usize) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    // One layer to the router, which makes each of its own a boxed service that is cloned, with all
    // inside it, for every request.
    let layers = ServiceBuilder::new()
        // Outermost of ours: every answer, also a refused one, has an id and one log line.
        .layer(outer.then(identify_and_log))
        // Inside the log layer, so that a panic is logged as the 500 that it becomes.
        .layer(CatchPanicLayer::custom(panicked))
        // Innermost: a handler that extracts a body is bounded whatever else happens.
        .layer(DefaultBodyLimit::max(body_limit_bytes));
    router.layer(layers)
}

/// An unknown path, in the envelope.
pub async fn not_found() -> ApiError {
    ApiError::not_found("not found").with_code("not_found")
}

/// A known path with a wrong method, in the envelope.
pub async fn method_not_allowed() -> ApiError {
    ApiError::new(http::StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        .with_code("method_not_allowed")
}

fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(panic = text, "a handler panicked: this is a bug");
    ApiError::internal().into_response()
}

async fn identify_and_log(mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    // For whoever inside names things by it.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let started = Instant::now();
    let span = tracing::info_span!("request", request_id = %id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        if status >= 500 {
            tracing::warn!(%method, path, status, duration_ms, "answered");
        } else {
            tracing::debug!(%method, path, status, duration_ms, "answered");
        }
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(request: &Request) -> HeaderValue {
    let sane = |v: &&HeaderValue| {
        let b = v.as_bytes();
        !b.is_empty() && b.len() <= 64 && b.iter().all(u8::is_ascii_graphic)
    };
    match request.headers().get(REQUEST_ID).filter(sane) {
        Some(given) => given.clone(),
        None => HeaderValue::from_str(&uuid::Uuid::new_v4().simple().to_string())
            .unwrap_or(HeaderValue::from_static("unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    async fn explodes() -> &'static str {
        panic!("boom")
    }

    #[tokio::test]
    async fn a_panic_is_a_500_with_an_id() {
        let app = common(Router::new().route("/", get(explodes)).fallback(not_found), 10);
        let get =
            |path: &str| app.clone().oneshot(http::Request::get(path).body(Body::empty()).unwrap());
        let response = get("/").await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()[REQUEST_ID].len(), 32);
        assert_eq!(get("/nowhere").await.unwrap().status(), 404);
    }
}
