//! What operators see: balances, winners, workers, sums. On the admin address only.

use crate::{
    chain_view::Snapshot,
    node::Node,
    service::put_off::{Why, waits_for},
};
use axum::{
    Json, Router,
    extract::{Query, State},
    routing::{get, post},
};
use penstock_domain::address_lower;
use penstock_http_kit::ApiError;
use penstock_ledger::orchestrator::{
    Account, LedgerError, OrchestratorLedger, StoredWinner, Totals,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// Rows shown when nothing is asked for, and at most.
const DEFAULT_ROWS: u32 = 100;
const MAX_ROWS: u32 = 10_000;

#[derive(Debug, Deserialize)]
pub(super) struct Limit {
    pub(super) limit: Option<u32>,
}

impl Limit {
    pub(super) fn rows(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS)
    }
}

/// The routes.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/accounts", get(accounts))
        .route("/v1/invoices/{*session}", get(super::invoices::of_session))
        .route("/v1/prices", get(super::prices::view))
        .route("/v1/prices/reload", post(super::prices::reload))
        .route("/setPriceForBroadcaster", get(super::prices::set).post(super::prices::set))
        .route("/v1/winners", get(winners))
        .route("/v1/stake", get(super::stake::show))
        .route("/v1/stake/proposals/{id}", get(super::stake::proposal))
        .route("/v1/stake/polls/{poll}", get(super::stake::poll))
        .route("/v1/stake/ballots", get(super::stake::ballots))
        .route("/v1/stake/preview", post(super::stake::preview))
        .route("/v1/stake/act", post(super::stake::act))
        .route("/v1/summary", get(summary))
        .route("/v1/workers", get(workers))
        .route("/v1/capabilities", get(capabilities))
        .route("/v1/byoc-streams", get(byoc_streams))
        .route("/v1/live-sessions", get(live_sessions))
        .route("/v1/live-runners", get(live_runners))
        .route("/v1/runners", get(runners))
        .route("/v1/runner-sessions", get(runner_sessions))
        .route("/registerLiveRunners", post(super::runners::upsert))
        .fallback(penstock_http_kit::stack::not_found)
        .method_not_allowed_fallback(penstock_http_kit::stack::method_not_allowed)
        .merge(penstock_http_kit::log_level::router())
        .with_state(node)
}

#[allow(clippy::result_large_err, reason = "the error is the answer, made at most once")]
pub(super) fn ledger(node: &Node) -> Result<&Arc<dyn OrchestratorLedger>, ApiError> {
    node.cashier.as_ref().map(|cashier| &cashier.ledger).ok_or_else(|| {
        ApiError::not_found("there are no payments with --network offchain").with_code("offchain")
    })
}

pub(super) fn failed(error: LedgerError) -> ApiError {
    tracing::error!(%error, "the ledger does not answer");
    ApiError::unavailable("the ledger is not available", 1).with_code("ledger_unavailable")
}

async fn accounts(
    State(node): State<Arc<Node>>,
    Query(limit): Query<Limit>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let rows = ledger(&node)?.accounts(limit.rows()).await.map_err(failed)?;
    Ok(Json(rows.iter().map(account).collect()))
}

fn account(a: &Account) -> Value {
    json!({
        "sender": address_lower(&a.key.sender()),
        "session_id": a.key.session(),
        "credited_wei": a.credited,
        "debited_wei": a.debited,
        "balance_wei": a.balance(),
        "tickets": a.tickets,
        "fixed_price_wei_per_unit": a.pinned(),
    })
}

async fn winners(
    State(node): State<Arc<Node>>,
    Query(limit): Query<Limit>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let rows = ledger(&node)?.winners(limit.rows()).await.map_err(failed)?;
    let seen = node.cashier.as_ref().and_then(|cashier| cashier.chain.latest());
    Ok(Json(rows.iter().map(|row| winner(row, seen.as_ref())).collect()))
}

/// A winner, and what it waits for by what was `seen` of the chain last.
pub(super) fn winner(w: &StoredWinner, seen: Option<&Snapshot>) -> Value {
    let waits = seen.and_then(|seen| waits_for(w, &seen.queue_view(), seen.active));
    let (why, text) = waits.unzip();
    json!({
        "ticket_hash": format!("{:#x}", w.winner.ticket_hash),
        "sender": address_lower(&w.winner.ticket.sender),
        "session_id": w.session,
        "face_value_wei": w.winner.ticket.face_value,
        "creation_round": w.winner.ticket.expiration_params.creation_round,
        "status": w.status.as_str(),
        "attempts": w.attempts,
        "tx_hash": w.tx_hash.map(|hash| format!("{hash:#x}")),
        "reason": w.reason,
        "waits_for": why.map(Why::label),
        "waits_for_text": text,
    })
}

async fn summary(State(node): State<Arc<Node>>) -> Result<Json<Value>, ApiError> {
    Ok(Json(summary_of(&ledger(&node)?.totals().await.map_err(failed)?)))
}

pub(super) fn summary_of(totals: &Totals) -> Value {
    json!({
        "tickets": totals.tickets,
        "credited_wei": totals.credited,
        "debited_wei": totals.debited,
        "balance_wei": totals.balance(),
        "winners": totals.winners,
        "handed_over": totals.handed_over,
        "redeemed": totals.redeemed,
        "redeemed_face_value_wei": totals.redeemed_face_value,
    })
}

async fn workers(State(node): State<Arc<Node>>) -> Json<Value> {
    let mut all = node.transcoders.view();
    all.extend(node.ai_workers.view());
    Json(json!(all))
}

async fn byoc_streams(State(node): State<Arc<Node>>) -> Json<Vec<Value>> {
    Json(node.byoc_streams.view())
}

async fn live_sessions(State(node): State<Arc<Node>>) -> Json<Vec<Value>> {
    Json(node.live.sessions.view())
}

async fn live_runners(State(node): State<Arc<Node>>) -> Json<Vec<Value>> {
    Json(node.live.runners.view())
}

async fn runners(State(node): State<Arc<Node>>) -> Json<Vec<Value>> {
    Json(node.runners.iter().flat_map(|r| r.registry.view_runners(Instant::now())).collect())
}

async fn runner_sessions(State(node): State<Arc<Node>>) -> Json<Vec<Value>> {
    Json(node.runners.iter().flat_map(|r| r.registry.view_sessions()).collect())
}

async fn capabilities(State(node): State<Arc<Node>>) -> Json<Vec<Value>> {
    Json(node.byoc.view())
}
