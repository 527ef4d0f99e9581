//! Winners and sums of the books, for the operator of whichever program keeps them.

use super::admin::{Limit, failed, summary_of, winner};
use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use penstock_http_kit::ApiError;
use penstock_ledger::orchestrator::OrchestratorLedger;
use serde_json::Value;
use std::sync::Arc;

type Books = Arc<dyn OrchestratorLedger>;

/// What a redeemer shows on its admin address.
pub fn router(ledger: Books) -> Router {
    Router::new()
        .route("/v1/winners", get(winners))
        .route("/v1/summary", get(summary))
        .fallback(penstock_http_kit::stack::not_found)
        .method_not_allowed_fallback(penstock_http_kit::stack::method_not_allowed)
        .with_state(ledger)
}

async fn winners(
    State(ledger): State<Books>,
    Query(limit): Query<Limit>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let rows = ledger.winners(limit.rows()).await.map_err(failed)?;
    Ok(Json(rows.iter().map(winner).collect()))
}

async fn summary(State(ledger): State<Books>) -> Result<Json<Value>, ApiError> {
    Ok(Json(summary_of(&ledger.totals().await.map_err(failed)?)))
}
