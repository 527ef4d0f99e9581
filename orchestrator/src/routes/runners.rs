//! What live runners and who looks for them ask (live-runner.md sections 2 to 4).

use crate::{
    error::JobError,
    node::Node,
    routes::prices::{vary, who_asks},
    runners::error::RunnerError,
};
use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use penstock_wire::json::{MAX_STATIC_RUNNERS_BYTES, RunnerSaid};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// A runner says that it is there.
pub async fn heartbeat(
    State(node): State<Arc<Node>>,
    request: Request,
) -> Result<Response, JobError> {
    let runners = node.runners()?;
    let (parts, body) = request.into_parts();
    let held = node.bodies.read(body, node.limits.worker_body_bytes).await?;
    let said =
        RunnerSaid::parse(&held.data).map_err(|error| RunnerError::Senseless(error.to_string()))?;
    let auth = authorization(&parts.headers);
    let knows_secret = node.knows_secret(auth);
    let answer = runners.registry.heartbeat(said, auth, knows_secret, Instant::now())?;
    Ok(Json(answer).into_response())
}

/// It takes itself away.
pub async fn unregister(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, JobError> {
    node.runners()?.registry.unregister(&id, authorization(&headers), Instant::now())?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is there.
pub async fn discovery(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, JobError> {
    let gateway = who_asks(&node, &headers)?;
    let prices = node.cashier.as_ref().map(|cashier| &*cashier.prices);
    let scope = node.scope_row(gateway);
    let mut list = match (&scope, node.runners()) {
        (_, Ok(runners)) => runners.registry.listing(prices, gateway, Instant::now()),
        (Some(_), Err(_)) => json!([{ "address": node.service_uri() }]),
        (None, Err(off)) => return Err(off.into()),
    };
    if let (Some(scope), Some(entry)) = (scope, list.get_mut(0).and_then(Value::as_object_mut)) {
        let rows = entry.entry("runners").or_insert_with(|| json!([]));
        if let Some(rows) = rows.as_array_mut() {
            rows.push(scope);
        }
    }
    Ok((vary(), Json(list)).into_response())
}

/// The operator's own, on the admin address.
pub async fn upsert(State(node): State<Arc<Node>>, body: Body) -> Result<Response, JobError> {
    let runners = node.runners()?;
    let held = node.bodies.read(body, MAX_STATIC_RUNNERS_BYTES as u64).await?;
    Ok(Json(runners.upsert(&held.data).await?).into_response())
}

/// The secret itself, without a scheme before it.
fn authorization(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
