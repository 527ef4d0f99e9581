//! Operator endpoints, on the admin listener: which orchestrators are known and what is thought of
//! them. Beside them the Go node's (module `status`) and the explanations of selection.

use super::{Shared, selection, status};
use crate::{clock, error::GatewayError, openapi::ErrorBody, service::error::JobError};
use axum::{Json, Router, extract::State};
use penstock_http_kit::stack;
use penstock_wire::OrchestratorOffer;
use serde::Serialize;
use utoipa::{
    OpenApi, ToSchema,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Penstock gateway, operator's side",
        description = "Served on the admin address: what the gateway knows, and what the Go node's CLI server tells of a gateway, for tools that ask it. Prices are wei, exact, as text: `n` or `n/d`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "operator", description = "Orchestrators, and why jobs went where they went"),
        (name = "go", description = "Paths of the Go node's CLI server"),
        (name = "refused", description = "Of these the gateway knows nothing, or does not let them be changed"),
    ),
    components(schemas(ErrorBody))
)]
struct Document;

/// The documented routes.
fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(orchestrators))
        .merge(selection::operator_router())
        .merge(status::documented())
}

/// The routes.
pub fn router() -> Router<Shared> {
    let (routes, _) = documented().split_for_parts();
    routes.merge(status::refused()).method_not_allowed_fallback(stack::method_not_allowed)
}

/// The document, as committed in `openapi/gateway-admin.json`.
pub fn json() -> String {
    let (_, mut document) = documented().split_for_parts();
    status::describe(&mut document);
    let components = document.components.get_or_insert_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("bearer", bearer);
    let guarded = || SecurityRequirement::new("bearer", Vec::<String>::new());
    document.security = Some(vec![SecurityRequirement::default(), guarded()]);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Everybody who is known.
#[derive(Debug, Serialize, ToSchema)]
struct PoolList {
    /// Those that this replica looks after.
    pools: Vec<PoolView>,
}

/// Orchestrators for one kind of job.
#[derive(Debug, Serialize, ToSchema)]
struct PoolView {
    /// `video`, or `ai:{capability}_{model}`.
    #[schema(example = "video")]
    pool: String,
    /// When they were last asked, milliseconds since 1970.
    refreshed_ms: u64,
    /// Lowest latency first.
    orchestrators: Vec<MemberView>,
}

/// An orchestrator.
#[derive(Debug, Serialize, ToSchema)]
struct MemberView {
    /// Its service URI.
    transcoder: String,
    /// What the list says of it: 1 and more is trusted.
    score: f64,
    /// What the list says is bonded to it, in units of 10^-18 LPT, a text of digits; `0` when it does not say.
    #[schema(example = "1000000000000000000")]
    stake_lptu: String,
    /// How long it took to answer.
    latency_ms: u64,
    /// When it last did, milliseconds since 1970.
    last_seen_ms: u64,
    /// What it asks.
    #[schema(example = "3/2")]
    price_wei_per_unit: Option<String>,
    /// Seconds of work per second of media, or per unit of the pipeline.
    latency_score: Option<f64>,
    /// Until when it is left alone, milliseconds since 1970.
    suspended_until_ms: Option<u64>,
    /// Why.
    suspended_because: Option<String>,
}

/// Orchestrators, and what is thought of them
#[utoipa::path(
    get, path = "/v1/orchestrators", tag = "operator",
    responses(
        (status = 200, description = "By pool", body = PoolList),
        (status = 401, description = "Not the admin token", body = ErrorBody),
        (status = 503, description = "The store is away", body = ErrorBody),
    )
)]
async fn orchestrators(State(gateway): State<Shared>) -> Result<Json<PoolList>, GatewayError> {
    let now = clock::now();
    let mut pools = Vec::new();
    for key in gateway.discovered.pools() {
        let pool = gateway.store.pool(&key, now).await.map_err(JobError::from)?.unwrap_or_default();
        let standings = gateway.store.standings(&key.0, now).await.map_err(JobError::from)?;
        let members = pool.entries.iter().map(|entry| {
            let offer = OrchestratorOffer::decode(&entry.info).ok();
            let standing = standings.get(&entry.transcoder);
            MemberView {
                transcoder: entry.transcoder.clone(),
                score: entry.score,
                stake_lptu: gateway.discovered.stake_lptu(&entry.asked_uri).to_string(),
                latency_ms: entry.latency_ms,
                last_seen_ms: entry.last_seen.0,
                price_wei_per_unit: offer.and_then(|o| o.price).map(|p| p.rational().to_string()),
                latency_score: standing.and_then(|s| s.latency_score),
                suspended_until_ms: standing.and_then(|s| s.suspended_until).map(|t| t.0),
                suspended_because: standing.and_then(|s| s.suspended_because.clone()),
            }
        });
        let orchestrators = members.collect();
        pools.push(PoolView { pool: key.0, refreshed_ms: pool.refreshed_at.0, orchestrators });
    }
    Ok(Json(PoolList { pools }))
}

#[cfg(test)]
mod tests {
    /// Fails when handlers and the committed document differ.
    #[test]
    fn the_committed_document_is_up_to_date() {
        let committed = include_str!("../../../openapi/gateway-admin.json");
        assert!(
            committed == super::json(),
            "openapi/gateway-admin.json is out of date: cargo xtask openapi"
        );
    }
}
