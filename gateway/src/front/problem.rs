//! Problem details (RFC 9457): who asks for `application/problem+json` gets errors in that form
//! instead of the Go node's envelope. Status, code and text are the same.

use super::catalogue;
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use http::{HeaderValue, header};
use penstock_http_kit::{layers::Next, stack::REQUEST_ID};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What is asked for.
pub(super) const PROBLEM: &str = "application/problem+json";
/// Longest envelope read.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// An error as problem details, for who accepts `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:penstock:error:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// What the code means.
    title: &'static str,
    /// That of the answer.
    status: u16,
    /// What went wrong, for people.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// For programs: a stable word in snake case.
    code: String,
    /// To be named to the operator.
    request_id: Option<String>,
}

/// The layer, outside of everything that answers with errors.
pub async fn layer(request: Request, next: Next) -> Response {
    let wanted = wants(&request);
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if !wanted || !is_envelope(&response) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(text) = to_bytes(body, ENVELOPE_BYTES).await else {
        // Our own errors are far shorter.
        return Response::from_parts(head, Body::empty());
    };
    let envelope: Value = serde_json::from_slice(&text).unwrap_or_default();
    let id = head.headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let problem = problem(&envelope, head.status.as_u16(), &path, id);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    head.headers.remove(header::CONTENT_LENGTH);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    Response::from_parts(head, Body::from(body))
}

/// Only who names the type: `*/*` gets what the Go node answers.
fn wants(request: &Request) -> bool {
    let accepts = request.headers().get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    accepts
        .flat_map(|list| list.split(','))
        .any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(PROBLEM))
}

fn is_envelope(response: &Response) -> bool {
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    failed && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

fn problem(envelope: &Value, status: u16, path: &str, request_id: Option<&str>) -> Problem {
    let text = |key| envelope.pointer(key).and_then(Value::as_str);
    let code = text("/error/code").unwrap_or("error");
    let title = catalogue::of(code).map_or("An error without a code", |entry| entry.meaning);
    Problem {
        kind: format!("urn:penstock:error:{code}"),
        title,
        status,
        detail: text("/error/message").unwrap_or_default().to_owned(),
        instance: path.to_owned(),
        code: code.to_owned(),
        request_id: request_id.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_who_asks_gets_it() {
        let wants = |accept: &str| {
            wants(&Request::get("/").header("accept", accept).body(Body::empty()).unwrap())
        };
        assert!(wants("application/problem+json"));
        assert!(wants("text/html, Application/Problem+JSON;q=0.9"));
        assert!(!wants("*/*") && !wants("application/json") && !wants("multipart/mixed"));
    }

    #[test]
    fn the_same_said_otherwise() {
        let envelope = json!({"error": {"message": "too many", "code": "busy"}});
        let said = problem(&envelope, 503, "/llm", Some("r1"));
        let said = serde_json::to_value(said).unwrap();
        assert_eq!(said["type"], "urn:penstock:error:busy");
        assert_eq!(
            (said["status"].as_u64(), said["detail"].as_str()),
            (Some(503), Some("too many"))
        );
        assert_eq!(problem(&json!({}), 500, "/", None).code, "error");
    }
}
