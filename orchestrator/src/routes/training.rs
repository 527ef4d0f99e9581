//! `/process/train/…`, `/process/job/…` (byoc.md section 9.1).

use crate::{byoc::training::Outcome, error::JobError, node::Node};
use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use penstock_telemetry::trace::carried;
use penstock_wire::json::BALANCE_HEADER;
use std::sync::Arc;

/// Begins a training job.
pub async fn begin(
    State(node): State<Arc<Node>>,
    Path(capability): Path<String>,
    request: Request,
) -> Result<Response, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    let running = node.jobs.token();
    // In a task of its own, to its end: a client that hangs up in the middle leaves a job that ends at once.
    let job = tokio::spawn(carried(async move {
        let outcome = node.begin_training(&capability, &parts.headers, body).await;
        drop(running);
        outcome
    }));
    let (mut response, balance) = match job.await.map_err(|_| JobError::Storage)?? {
        Outcome::Begun(begun) => {
            let (answer, balance) = begun.heard();
            ((StatusCode::ACCEPTED, Json(answer)).into_response(), balance)
        }
        Outcome::Refused(status, body, balance) => ((status, body).into_response(), balance),
    };
    if let Some(balance) = balance.and_then(|wei| HeaderValue::from_str(&wei).ok()) {
        response.headers_mut().insert(BALANCE_HEADER, balance);
    }
    Ok(response)
}

/// How one stands.
pub async fn status(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
) -> Result<Response, JobError> {
    Ok(Json(node.training_status(&id).await?).into_response())
}

/// Pays for one.
pub async fn payment(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let job = tokio::spawn(carried(async move { node.pay_training(&id, &headers).await }));
    Ok(Json(job.await.map_err(|_| JobError::Storage)??).into_response())
}
