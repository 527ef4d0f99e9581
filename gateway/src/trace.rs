//! One trace per job (architecture.md rule 8): the W3C `traceparent` of a request, kept beside its task
//! and sent along with every call that the job makes.
//!
//! A request without one has the trace that its `x-request-id` names, so that whoever has an answer can ask
//! about its job.

use crate::front::access;
use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_http_kit::stack::REQUEST_ID;
use sha2::{Digest, Sha256};

tokio::task_local! {
    static CURRENT: String;
}

/// The header.
pub const TRACEPARENT: &str = "traceparent";
/// What an answer calls its job's trace.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// Longest id of a request.
const REQUEST_ID_BYTES: usize = 64;

/// The layer: gives each request that can cost something its trace, and says it in the answer.
pub async fn layer(mut request: Request, next: Next) -> Response {
    if !access::costs(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let traceparent = of(request.headers());
    let id = id_of(&traceparent).and_then(|id| HeaderValue::from_str(id).ok());
    if let Ok(value) = HeaderValue::from_str(&traceparent) {
        request.headers_mut().insert(TRACEPARENT, value);
    }
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(TRACE_ID, id);
    }
    response
}

/// The trace id of a `traceparent`.
pub fn id_of(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1)
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

/// Runs `work` as part of a trace.
pub async fn scope<T>(traceparent: String, work: impl Future<Output = T>) -> T {
    CURRENT.scope(traceparent, work).await
}

/// The trace of the job at hand; `None` outside of one (discovery).
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Our own step in the caller's trace, or the beginning of one.
pub fn of(headers: &HeaderMap) -> String {
    let given = headers.get(TRACEPARENT).and_then(|v| v.to_str().ok());
    let named = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok()).and_then(of_request);
    let named = named.and_then(|id| u128::from_str_radix(&id, 16).ok());
    step(given, named.unwrap_or_else(rand::random), rand::random())
}

/// Whether the trace is being recorded by whoever began it (the `sampled` flag). One that began here is
/// not.
pub fn is_sampled(traceparent: &str) -> bool {
    let flags = traceparent.rsplit('-').next().and_then(|flags| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

/// `span` becomes the parent of what follows; `trace` is used when none was given.
fn step(given: Option<&str>, trace: u128, span: u64) -> String {
    let (trace, flags) = match given.and_then(parse) {
        Some((trace, flags)) => (trace.to_owned(), flags.to_owned()),
        None => (format!("{:032x}", trace.max(1)), "00".to_owned()),
    };
    format!("00-{trace}-{:016x}-{flags}", span.max(1))
}

/// Trace id and flags of a version 00 header; all zeros are not allowed.
fn parse(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |t: &str, len: usize| {
        t.len() == len && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |t: &str| t.bytes().any(|b| b != b'0');
    let whole = parts.next().is_none() && version == "00";
    let valid = hex(trace, 32) && some(trace) && hex(parent, 16) && some(parent) && hex(flags, 2);
    (whole && valid).then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_continued_or_begun() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            step(Some(given), 5, 7),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01"
        );
        for bad in
            [None, Some(""), Some("00-0-0-0"), Some(&given[1..]), Some(&given.to_uppercase())]
        {
            assert_eq!(step(bad, 5, 0), "00-00000000000000000000000000000005-0000000000000001-00");
        }
    }

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
        assert_eq!(id_of(&of(&headers)), Some(other.as_str()));
    }

    #[test]
    fn who_records_says_so() {
        assert!(is_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(!is_sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        assert!(!is_sampled(&step(None, 5, 7)) && !is_sampled(""));
    }

    #[tokio::test]
    async fn beside_the_task() {
        assert_eq!(current(), None);
        assert_eq!(scope("t".into(), async { current() }).await.as_deref(), Some("t"));
    }
}
