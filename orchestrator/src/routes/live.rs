//! `POST /live-video-to-video` (live-video.md section 6).

use crate::{error::JobError, node::Node};
use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use penstock_wire::json::{LiveVideoStart, MAX_START_BYTES};
use std::sync::Arc;

/// Begins a session of live video.
pub async fn start(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let held = node.bodies.read(body, MAX_START_BYTES as u64).await?;
    let mut start = LiveVideoStart::parse(&held.data)
        .map_err(|error| JobError::BadRequest(error.to_string()))?;
    drop(held);
    // The body's names win over the headers of older gateways.
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    for (name, old) in
        [(&mut start.stream_id, "streamID"), (&mut start.gateway_request_id, "requestID")]
    {
        if name.is_empty() {
            *name = header(old).chars().take(256).collect();
        }
    }
    // In a task of its own, to its end: a gateway that hangs up in the middle leaves a session that
    // ends at once, and no runner that was started for nobody.
    let running = node.jobs.token();
    let job = tokio::spawn(async move {
        let started = node.start_live(start, &parts.headers).await;
        drop(running);
        started
    });
    let started = job.await.map_err(|_| JobError::Storage)??;
    Ok(Json(started.heard()).into_response())
}
