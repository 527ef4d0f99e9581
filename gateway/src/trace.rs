//! One trace per job (architecture.md rule 8): the W3C `traceparent` of a request, kept beside its task
//! and sent along with every call that the job makes.
//!
//! A request without one has the trace that its `x-request-id` names, so that whoever has an answer can ask
//! about its job.

use crate::front::access;
use axum::{extract::Request, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_http_kit::{layers::Next, stack::REQUEST_ID, traced::caller};
use penstock_telemetry::trace::{self, TRACEPARENT};
use penstock_wire::ai::Pipeline;
use sha2::{Digest, Sha256};
use tracing::Instrument;

pub use penstock_telemetry::trace::{Traceparent, scope, scoped as current};

/// What an answer calls its job's trace.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// Longest id of a request.
const REQUEST_ID_BYTES: usize = 64;

/// Paths that are not a pipeline's, and what is asked for there.
const OPERATIONS: [(&str, &str); 8] = [
    ("/live/", "segment"),
    ("/v1/chat/", "chat"),
    ("/v1/embeddings", "embeddings"),
    ("/v1/images/", "images"),
    ("/v1/audio/", "audio"),
    ("/process/", "byoc"),
    ("/ai/", "ai"),
    ("/stream/", "stream"),
];

/// The layer: gives each request that can cost something its trace, and says it in the answer.
pub async fn layer(mut request: Request, next: Next) -> Response {
    if !access::costs(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let operation = operation(request.uri().path());
    let (span, at) = match caller(request.headers()) {
        Some(caller) => (trace::accept(operation, Some(caller)), caller),
        None => {
            let at = Traceparent { trace_id: named(request.headers()), span_id: 0, flags: 0 };
            (trace::begun(operation, at.trace_id), at)
        }
    };
    // Ours in the caller's trace. Whether he records it is his word, and stays it.
    let span_id = trace::of(&span).map_or_else(rand::random, |ours| ours.span_id).max(1);
    let at = Traceparent { span_id, ..at };
    if let Ok(value) = HeaderValue::from_str(&at.to_string()) {
        request.headers_mut().insert(TRACEPARENT, value);
    }
    let mut response = next.run(request).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&at.trace_id_hex()) {
        response.headers_mut().insert(TRACE_ID, id);
    }
    response
}

/// What is asked for, in one of a few words.
fn operation(path: &str) -> &'static str {
    let pipeline = Pipeline::ALL.iter().find(|p| path.strip_prefix('/') == Some(p.name()));
    match pipeline {
        Some(pipeline) => pipeline.name(),
        None => OPERATIONS
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix))
            .map_or("request", |(_, operation)| operation),
    }
}

/// The trace id of a request that has no `traceparent`.
fn named(headers: &HeaderMap) -> u128 {
    let named = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok()).and_then(of_request);
    let named = named.and_then(|id| u128::from_str_radix(&id, 16).ok());
    named.unwrap_or_else(rand::random).max(1)
}

/// The trace of a request with this id that named none itself: the id, if it has the form of one.
pub fn of_request(id: &str) -> Option<String> {
    let is_sane =
        (1..=REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    if !is_sane {
        return None;
    }
    if let Some(plain) = trace_id(&id.to_ascii_lowercase()) {
        return Some(plain.to_owned());
    }
    let hash = Sha256::digest(id.as_bytes());
    Some(hex::encode(hash.get(..16)?))
}

fn trace_id(text: &str) -> Option<&str> {
    let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    (is_hex && text.bytes().any(|b| b != b'0')).then_some(text)
}

/// Of a request that went through [`layer`]; others are not traced.
pub fn of(headers: &HeaderMap) -> Traceparent {
    caller(headers).unwrap_or_else(|| Traceparent {
        trace_id: named(headers),
        span_id: rand::random::<u64>().max(1),
        flags: 0,
    })
}

/// Runs `work`, which nobody asked for over HTTP, in a trace of its own.
pub async fn of_its_own<T>(operation: &'static str, work: impl Future<Output = T>) -> T {
    let at = Traceparent {
        trace_id: rand::random::<u128>().max(1),
        span_id: rand::random::<u64>().max(1),
        flags: 0,
    };
    let span = trace::begun(operation, at.trace_id);
    scope(at, work).instrument(span).await
}

/// What a call that is made now says of its trace.
pub fn outgoing() -> Option<String> {
    trace::outgoing().map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_trace() {
        let id = "0AF7651916cd43dd8448eb211c80319c";
        assert_eq!(of_request(id).unwrap(), id.to_ascii_lowercase());
        let other = of_request("my-request/7").unwrap();
        assert!(trace_id(&other).is_some() && other != of_request("my-request/8").unwrap());
        for bad in ["", "a b", &"x".repeat(65)] {
            assert_eq!(of_request(bad), None, "{bad}");
        }
        let headers = HeaderMap::from_iter([(REQUEST_ID, "my-request/7".parse().unwrap())]);
        assert_eq!(of(&headers).trace_id_hex(), other);
        assert!(!of(&headers).is_sampled(), "nobody asked");
    }

    #[test]
    fn a_few_words_for_all_paths() {
        assert_eq!(operation("/text-to-image"), "text-to-image");
        assert_eq!(operation("/live/key/0.ts"), "segment");
        assert_eq!(operation("/v1/chat/completions"), "chat");
        assert_eq!(operation("/text-to-image/x"), "request");
    }
}
