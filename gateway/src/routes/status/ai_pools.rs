//! `/getAISessionPoolsInfo`: who has which model, warm or cold, and how busy this replica keeps them.

use super::{Shared, pools};
use crate::{clock, error::GatewayError, openapi::ErrorBody};
use axum::{Json, extract::State};
use penstock_store::PoolEntry;
use penstock_wire::OrchestratorOffer;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Orchestrators by capability and model
///
/// `{capability}_{model}` of each model that this replica looks after: those that have it loaded
/// (`warm`) and those that would have to load it (`cold`), with latency score and this replica's jobs
/// there now; and who is suspended. There is no penalty as in the Go node, only an end: each one listed
/// counts 1.
#[utoipa::path(
    get, path = "/getAISessionPoolsInfo", tag = "go",
    responses(
        (status = 200, description = "As the Go node writes it", body = Value),
        (status = 503, description = "The store is away", body = ErrorBody),
    )
)]
pub(super) async fn ai_pools(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let now = clock::now();
    let mut all = Map::new();
    for (key, refreshed_at, entries, standings) in pools(&gateway).await? {
        let Some(name) = key.0.strip_prefix("ai:") else { continue };
        let suspended: Map<_, _> = standings
            .iter()
            .filter(|(_, s)| s.suspended_until.is_some_and(|until| until > now))
            .map(|(uri, _)| (uri.clone(), json!(1)))
            .collect();
        let (warm, cold): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| is_warm(name, entry));
        let pool = |entries: Vec<&PoolEntry>| {
            let mut in_use = 0;
            let orchestrators: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let score = standings.get(&entry.transcoder).and_then(|s| s.latency_score);
                    let in_flight = gateway.at_work.count(&entry.transcoder, name);
                    in_use += usize::from(in_flight > 0);
                    json!({
                        "url": entry.transcoder,
                        "latency_score": score.unwrap_or(0.0),
                        "in_flight": in_flight,
                    })
                })
                .collect();
            json!({ "size": entries.len(), "in_use": in_use, "orchestrators": orchestrators })
        };
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(refreshed_at.0) * 1_000_000);
        let last_refresh = at.ok().and_then(|at| at.format(&Rfc3339).ok());
        all.insert(
            name.to_owned(),
            json!({
                "cold": pool(cold),
                "warm": pool(warm),
                "last_refresh": last_refresh,
                "suspended": { "current_count": suspended.len(), "list": suspended },
            }),
        );
    }
    Ok(Json(Value::Object(all)))
}

/// Whether a member has the model of `{capability}_{model}` loaded, by its offer.
fn is_warm(name: &str, entry: &PoolEntry) -> bool {
    let Some((number, model)) = name.split_once('_') else { return false };
    let offer = OrchestratorOffer::decode(&entry.info).ok();
    let constraint = offer.as_ref().and_then(|offer| {
        let models = offer.capabilities.as_ref()?.models.get(&number.parse().ok()?)?;
        models.get(model)
    });
    constraint.is_some_and(|c| c.warm)
}
