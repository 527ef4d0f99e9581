//! `/v1/stake…`: the orchestrator's own stake, terms and name on the chain, and what changes them.

use crate::{
    node::Node,
    service::stake::{Stake, StakeError},
};
use axum::{
    Json,
    extract::{Path, State},
};
use http::{HeaderMap, StatusCode};
use penstock_chain::{ChainError, StakeAction};
use penstock_domain::parse_address;
use penstock_http_kit::ApiError;
use penstock_ledger::operations::OperationError;
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest idempotency key.
const KEY_BYTES: usize = 128;

#[allow(clippy::result_large_err, reason = "the error is the answer, made at most once")]
fn stake(node: &Node) -> Result<&Stake, ApiError> {
    let missing = "there is no stake here: it is on --chain ethereum:URL";
    node.stake.as_ref().ok_or_else(|| ApiError::not_found(missing).with_code("no_stake"))
}

fn of_chain(error: &ChainError) -> ApiError {
    if error.revert().is_none() && error.is_retryable() {
        tracing::warn!(%error, "the chain did not answer an operator");
        return ApiError::unavailable(error.to_string(), 1).with_code("chain_unavailable");
    }
    ApiError::new(StatusCode::CONFLICT, error.to_string()).with_code("refused")
}

impl From<StakeError> for ApiError {
    fn from(error: StakeError) -> Self {
        match error {
            StakeError::Forbidden => {
                Self::new(StatusCode::FORBIDDEN, error.to_string()).with_code("forbidden")
            }
            StakeError::BadField(reason) => Self::bad_request(reason),
            StakeError::Operation(OperationError::Chain(error)) => of_chain(&error),
            StakeError::Operation(OperationError::Ledger(error)) => {
                tracing::error!(%error, "the ledger does not answer");
                Self::unavailable("the ledger is not available", 1).with_code("ledger_unavailable")
            }
            StakeError::Operation(error) => {
                Self::new(StatusCode::CONFLICT, error.to_string()).with_code("conflict")
            }
            StakeError::Task => Self::internal(),
        }
    }
}

/// How it stands, as the chain says it now.
pub async fn show(State(node): State<Arc<Node>>) -> Result<Json<Value>, ApiError> {
    let stake = stake(&node)?;
    let standing = stake.standing().await.map_err(|error| of_chain(&error))?;
    let mut said = json!(standing);
    if let Some(said) = said.as_object_mut() {
        said.insert("address".to_owned(), json!(stake.account()));
        said.insert("transactions".to_owned(), json!(stake.is_allowed()));
        said.insert("own_service_uri".to_owned(), json!(node.service_uri()));
    }
    Ok(Json(said))
}

/// How a proposal for the treasury stands.
pub async fn proposal(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = id.parse().map_err(|_| {
        ApiError::bad_request(format!("{id} is no proposal: a number, decimal or after 0x"))
    })?;
    let standing = stake(&node)?.proposal(id).await.map_err(|error| of_chain(&error))?;
    Ok(Json(json!(standing)))
}

/// What is voted on now.
pub async fn ballots(State(node): State<Arc<Node>>) -> Result<Json<Value>, ApiError> {
    let ballots = stake(&node)?.ballots().await.map_err(|error| of_chain(&error))?;
    Ok(Json(json!(ballots)))
}

/// How a poll stands.
pub async fn poll(
    State(node): State<Arc<Node>>,
    Path(poll): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let poll = parse_address(&poll)
        .ok_or_else(|| ApiError::bad_request(format!("{poll} is no contract's address")))?;
    let standing = stake(&node)?.poll(poll).await.map_err(|error| of_chain(&error))?;
    Ok(Json(json!(standing)))
}

/// What stands in the way of an action; nothing is sent.
pub async fn preview(
    State(node): State<Arc<Node>>,
    action: Result<Json<StakeAction>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(action) = action.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let obstacle = stake(&node)?.obstacle(&action).await.map_err(|error| of_chain(&error))?;
    Ok(Json(json!({ "obstacle": obstacle })))
}

/// Does it, once for an `Idempotency-Key`; answers when it is on the chain.
pub async fn act(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    action: Result<Json<StakeAction>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(action) = action.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let stake = stake(&node)?;
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    if !(1..=KEY_BYTES).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
        let reason = "Idempotency-Key is missing or wrong: 1 to 128 printable ASCII characters without spaces";
        return Err(ApiError::bad_request(reason));
    }
    let receipt = stake.act(key.to_owned(), action).await?;
    Ok(Json(json!({
        "tx_hash": format!("{:#x}", receipt.tx_hash),
        "l1_block": receipt.l1_block,
    })))
}
