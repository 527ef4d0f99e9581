//! The batch AI routes (ai-pipelines.md section 6): one handler for all nine.

use crate::{ai::job::AiJob, error::JobError, node::Node, service::credentials::Work};
use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use penstock_telemetry::trace::carried;
use penstock_wire::ai::Pipeline;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves a job. The headers are checked before the body is read: refusing costs nothing then. (The
/// reference reads the body first.)
pub async fn job(node: Arc<Node>, pipeline: Pipeline, request: Request) -> Response {
    serve(&node, pipeline, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn serve(
    node: &Arc<Node>,
    pipeline: Pipeline,
    request: Request,
) -> Result<Response, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let admission = node.admit_served(&parts.headers, Work::Ai).await?;
    let most = match pipeline.file_field() {
        Some(_) => node.max_ai_body_bytes as u64,
        None => node.limits.ai_json_bytes.min(node.max_ai_body_bytes as u64),
    };
    let held = node.bodies.read(body, most).await?;
    let job = AiJob::read(pipeline, &parts.headers, held.data.clone(), &node.limits).await?;
    let (node, running) = (Arc::clone(node), node.jobs.token());
    // Goes with this future, which is dropped when the gateway hangs up.
    let unheard = CancellationToken::new();
    let _heard = unheard.clone().drop_guard();
    // In a task of its own: a gateway that hangs up does not stop work that is paid for.
    let job = tokio::spawn(carried(async move {
        let answer = node.serve_ai(admission, job, running, unheard).await;
        drop(held);
        answer
    }));
    job.await.map_err(|_| JobError::Storage)?
}
