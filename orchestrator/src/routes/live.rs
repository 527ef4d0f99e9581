//! `POST /live-video-to-video` and `POST /scope` (live-video.md sections 6 and 13).

use crate::{error::JobError, live::scope::Asked, node::Node};
use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use penstock_telemetry::trace::carried;
use penstock_wire::json::LiveVideoStart;
use std::sync::Arc;

/// Begins a session of live video.
pub async fn start(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    let (start, headers) = read(&node, request).await?;
    // In a task of its own, to its end: a gateway that hangs up in the middle leaves a session that
    // ends at once, and no runner that was started for nobody.
    let running = node.jobs.token();
    let job = tokio::spawn(carried(async move {
        let started = node.start_live(start, &headers).await;
        drop(running);
        started
    }));
    let started = job.await.map_err(|_| JobError::Storage)??;
    Ok(Json(started.heard()).into_response())
}

/// Begins a session of `/scope`, or says what has to be paid for it.
pub async fn scope(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    let (start, headers) = read(&node, request).await?;
    let running = node.jobs.token();
    let job = tokio::spawn(carried(async move {
        let asked = node.start_scope(start, &headers).await;
        drop(running);
        asked
    }));
    Ok(match job.await.map_err(|_| JobError::Storage)?? {
        Asked::Challenge(body) => (StatusCode::PAYMENT_REQUIRED, Json(body)).into_response(),
        Asked::Started(started) => Json(started.heard()).into_response(),
    })
}

/// What is asked for. The body's names win over the headers of older gateways.
async fn read(node: &Node, request: Request) -> Result<(LiveVideoStart, HeaderMap), JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let held = node.bodies.read(body, node.limits.live_start_bytes).await?;
    let mut start = LiveVideoStart::parse(&held.data)
        .map_err(|error| JobError::BadRequest(error.to_string()))?;
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    for (name, old) in
        [(&mut start.stream_id, "streamID"), (&mut start.gateway_request_id, "requestID")]
    {
        if name.is_empty() {
            *name = header(old).chars().take(256).collect();
        }
    }
    Ok((start, parts.headers))
}
