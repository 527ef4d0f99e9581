//! `/process/token`, `/process/request/…`, `/capability/register`, `/capability/unregister` (byoc.md
//! sections 2, 3 and 5), and `/capabilities` (section 9.1).

use crate::{
    byoc::{Answer, Incoming, error::ByocError},
    error::{JobError, RETRY_AFTER_S},
    node::Node,
    release::{RELEASE_REASON, Reason},
    routes::prices::{vary, who_asks},
};
use axum::{
    Json,
    extract::{Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use penstock_telemetry::trace::carried;
use penstock_wire::json::{BALANCE_HEADER, ByocRegistration, PAYMENT_BALANCE_HEADER};
use serde_json::json;
use std::sync::Arc;

const PREFIX: &str = "/process/request";

/// A worker brings a capability.
pub async fn register(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response, JobError> {
    let body = from_worker(&node, request).await?;
    let said = ByocRegistration::parse(&body)
        .map_err(|error| ByocError::Registration(error.to_string()))?;
    node.byoc.register(&said)?;
    Ok(ok())
}

/// It takes it away.
pub async fn unregister(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response, JobError> {
    let body = from_worker(&node, request).await?;
    node.byoc.unregister(&String::from_utf8_lossy(&body));
    Ok(ok())
}

async fn from_worker(node: &Node, request: Request) -> Result<bytes::Bytes, JobError> {
    let (parts, body) = request.into_parts();
    let secret = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    if !node.knows_secret(secret.unwrap_or_default()) {
        return Err(ByocError::Secret.into());
    }
    Ok(node.bodies.read(body, node.limits.worker_body_bytes).await?.data)
}

fn ok() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], "ok").into_response()
}

/// What there is, as the SDK lists it.
pub async fn capabilities(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let gateway = who_asks(&node, &headers)?;
    let prices = node.cashier.as_ref().map(|cashier| &*cashier.prices);
    let listed = json!({ "capabilities": node.byoc.listing(prices, gateway) });
    Ok((vary(), Json(listed)).into_response())
}

/// Terms for a sender and a capability.
pub async fn token(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    Ok(Json(node.byoc_terms(&headers).await?).into_response())
}

/// A job.
pub async fn job(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let rest = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let rest = rest.strip_prefix('/').unwrap_or(rest).to_owned();
    let job = node.check_byoc(&parts.headers)?;
    let incoming = Incoming { job, headers: parts.headers, rest, body };
    let running = node.jobs.token();
    // In a task of its own: what a worker has begun is finished and charged, whoever hangs up.
    let job = tokio::spawn(carried(async move {
        let answer = node.byoc_job(incoming).await;
        drop(running);
        answer
    }));
    Ok(response(job.await.map_err(|_| JobError::Storage)??))
}

fn response(answer: Answer) -> Response {
    let balance = answer.balance.and_then(|wei| HeaderValue::from_str(&wei).ok());
    let mut response = (answer.status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if answer.reason == Some(Reason::LedgerUnavailable) {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
    }
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        value.map(|value| headers.insert(name, value))
    };
    set(header::CONTENT_TYPE, answer.content_type);
    set(HeaderName::from_static("x-metadata"), answer.metadata);
    let reason = answer.reason.map(|reason| HeaderValue::from_static(reason.as_str()));
    set(RELEASE_REASON, reason);
    set(header::CONTENT_LENGTH, answer.length.map(HeaderValue::from));
    set(HeaderName::from_static(BALANCE_HEADER), balance.clone());
    if answer.is_events {
        set(header::CACHE_CONTROL, Some(HeaderValue::from_static("no-cache")));
        // The reference's name for it here; its own gateway looks for the other.
        set(HeaderName::from_static(PAYMENT_BALANCE_HEADER), balance);
    }
    response
}
