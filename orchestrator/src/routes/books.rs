//! Winners and sums of the books, for the operator of whichever program keeps them.

use super::admin::{Limit, failed, summary_of, winner};
use crate::service::funds::Funds;
use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use penstock_http_kit::ApiError;
use serde_json::Value;

/// What a redeemer shows on its admin address.
pub fn router(funds: Funds) -> Router {
    Router::new()
        .route("/v1/winners", get(winners))
        .route("/v1/summary", get(summary))
        .fallback(penstock_http_kit::stack::not_found)
        .method_not_allowed_fallback(penstock_http_kit::stack::method_not_allowed)
        .with_state(funds)
}

async fn winners(
    State(funds): State<Funds>,
    Query(limit): Query<Limit>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let rows = funds.ledger.winners(limit.rows()).await.map_err(failed)?;
    Ok(Json(rows.iter().map(|row| winner(row, funds.chain.latest().as_ref())).collect()))
}

async fn summary(State(funds): State<Funds>) -> Result<Json<Value>, ApiError> {
    Ok(Json(summary_of(&funds.ledger.totals().await.map_err(failed)?)))
}
