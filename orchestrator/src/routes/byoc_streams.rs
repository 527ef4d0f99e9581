//! `/ai/stream/start`, `/stop`, `/update`, `/payment` (byoc.md section 8).

use crate::{
    byoc::streams::{Outcome, Relayed},
    error::JobError,
    node::Node,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use penstock_telemetry::trace::carried;
use penstock_wire::json::BALANCE_HEADER;
use std::sync::Arc;

/// Begins a stream.
pub async fn start(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    if node.is_draining() {
        return Err(JobError::Draining);
    }
    let (parts, body) = request.into_parts();
    // In a task of its own, to its end: a gateway that hangs up in the middle leaves a stream that ends
    // at once, and no worker that was started for nobody.
    let running = node.jobs.token();
    let job = tokio::spawn(carried(async move {
        let outcome = node.start_stream(&parts.headers, body).await;
        drop(running);
        outcome
    }));
    Ok(match job.await.map_err(|_| JobError::Storage)?? {
        Outcome::Started(started) => {
            let (urls, balance) = started.heard();
            let mut response = with_balance(StatusCode::OK.into_response(), balance);
            for (name, url) in urls {
                if let Ok(url) = HeaderValue::from_str(&url) {
                    response.headers_mut().insert(name, url);
                }
            }
            response
        }
        Outcome::Refused(status, body, balance) => {
            with_balance((status, body).into_response(), balance)
        }
    })
}

/// Ends one.
pub async fn stop(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    let (parts, body) = request.into_parts();
    let job = tokio::spawn(carried(async move { node.stop_stream(&parts.headers, body).await }));
    Ok(relayed(job.await.map_err(|_| JobError::Storage)??))
}

/// Tells its worker something.
pub async fn update(State(node): State<Arc<Node>>, request: Request) -> Result<Response, JobError> {
    let (parts, body) = request.into_parts();
    Ok(relayed(node.update_stream(&parts.headers, body).await?))
}

/// Pays for it.
pub async fn payment(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    // What was taken is told, whoever hangs up.
    let job = tokio::spawn(carried(async move { node.pay_stream(&headers).await }));
    let balance = job.await.map_err(|_| JobError::Storage)??;
    Ok(with_balance(StatusCode::OK.into_response(), Some(balance)))
}

fn relayed(said: Relayed) -> Response {
    (said.status, said.body).into_response()
}

/// Nothing is said of a balance that is not known.
fn with_balance(mut response: Response, balance: Option<String>) -> Response {
    if let Some(balance) = balance.and_then(|wei| HeaderValue::from_str(&wei).ok()) {
        response.headers_mut().insert(BALANCE_HEADER, balance);
    }
    response
}
