//! Operator endpoints, on the admin listener: which orchestrators are known and what is thought of
//! them.

use super::Shared;
use crate::{clock, error::GatewayError, service::error::JobError};
use axum::{Json, Router, extract::State, routing::get};
use penstock_wire::OrchestratorOffer;
use serde_json::{Value, json};

/// The routes.
pub fn router() -> Router<Shared> {
    Router::new().route("/v1/orchestrators", get(orchestrators))
}

async fn orchestrators(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let now = clock::now();
    let mut pools = Vec::new();
    for key in gateway.discovered.pools() {
        let pool = gateway.store.pool(&key, now).await.map_err(JobError::from)?.unwrap_or_default();
        let standings = gateway.store.standings(&key.0, now).await.map_err(JobError::from)?;
        let members: Vec<_> = pool
            .entries
            .iter()
            .map(|entry| {
                let offer = OrchestratorOffer::decode(&entry.info).ok();
                let standing = standings.get(&entry.transcoder);
                json!({
                    "transcoder": entry.transcoder,
                    "score": entry.score,
                    "latency_ms": entry.latency_ms,
                    "last_seen_ms": entry.last_seen.0,
                    "price_wei_per_unit": offer.and_then(|o| o.price).map(|p| p.rational().to_string()),
                    "latency_score": standing.and_then(|s| s.latency_score),
                    "suspended_until_ms": standing.and_then(|s| s.suspended_until).map(|t| t.0),
                    "suspended_because": standing.and_then(|s| s.suspended_because.clone()),
                })
            })
            .collect();
        pools.push(
            json!({ "pool": key.0, "refreshed_ms": pool.refreshed_at.0, "orchestrators": members }),
        );
    }
    Ok(Json(json!({ "pools": pools })))
}
