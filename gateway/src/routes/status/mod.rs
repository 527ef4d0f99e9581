//! What the Go node's CLI server tells about a gateway (operator.md section 4), on the admin listener,
//! for tools that ask it: same paths, same field names. It reads; what the Go node lets set here are
//! settings of the process, because a replica keeps none of its own. Only how much is logged may be
//! changed while it runs, and the fleet's ceilings.

mod ai_pools;
mod log_level;
mod max_price;
mod network;
mod node;

use super::Shared;
use crate::{clock, error::GatewayError, front::caller::Caller, service::error::JobError};
use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use penstock_domain::VideoProfile;
use penstock_store::{PoolEntry, PoolKey, Standing, UnixMs};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::{
    HttpMethod, OpenApi, PathItem, ResponseBuilder,
    path::{Operation, OperationBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Asked of the chain, which this gateway does not know: the signer does.
const OF_THE_CHAIN: [&str; 40] = [
    "/currentBlock",
    "/orchestratorInfo",
    "/currentRound",
    "/roundInitialized",
    "/initializeRound",
    "/activateOrchestrator",
    "/setOrchestratorConfig",
    "/setMaxFaceValue",
    "/setPriceForBroadcaster",
    "/bond",
    "/rebond",
    "/unbond",
    "/withdrawStake",
    "/unbondingLocks",
    "/withdrawFees",
    "/claimEarnings",
    "/delegatorInfo",
    "/orchestratorEarningPoolsForRound",
    "/registeredOrchestrators",
    "/reward",
    "/protocolParameters",
    "/contractAddresses",
    "/tokenBalance",
    "/ethBalance",
    "/transferTokens",
    "/requestTokens",
    "/vote",
    "/voteOnProposal",
    "/setMaxGasPrice",
    "/setMinGasPrice",
    "/maxGasPrice",
    "/minGasPrice",
    "/fundDeposit",
    "/fundDepositAndReserve",
    "/unlock",
    "/cancelUnlock",
    "/withdraw",
    "/senderInfo",
    "/ticketBrokerParams",
    // By the account's key, which only the signer has.
    "/signMessage",
];

/// Settings of the process here, by the flag that is meant.
const SETTINGS: [(&str, &str); 3] = [
    ("/setBroadcastConfig", "--max-price, --transcoding-options"),
    ("/setMaxSessions", "--video-max-in-flight, --ai-max-in-flight"),
    ("/registerLiveRunners", "the orchestrator's live runners"),
];

/// The routes that have an answer of their own.
pub fn documented() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(node::status))
        .routes(routes!(node::debug))
        .routes(routes!(stream_id))
        .routes(routes!(manifest_id))
        .routes(routes!(local_streams))
        .routes(routes!(chain_id))
        .routes(routes!(is_orchestrator))
        .routes(routes!(is_redeemer))
        .routes(routes!(payer))
        .routes(routes!(broadcast_config))
        .routes(routes!(presets))
        .routes(routes!(ai_pools::ai_pools))
        .routes(routes!(network::network))
        .routes(routes!(log_level::read))
        .routes(routes!(log_level::set_by_query))
        .routes(routes!(log_level::set))
        .routes(routes!(max_price::set_by_query))
        .routes(routes!(max_price::set))
}

/// The others: each path has one answer.
pub fn refused() -> Router<Shared> {
    let mut router = Router::new();
    for path in OF_THE_CHAIN {
        router = router.route(path, get(no_chain).post(no_chain));
    }
    for (path, flag) in SETTINGS {
        let answer = move || async move { not_here(flag) };
        router = router.route(path, get(answer).post(answer));
    }
    router
}

/// Adds what [`refused`] answers to a document.
pub fn describe(document: &mut OpenApi) {
    let all =
        OF_THE_CHAIN.map(|path| (path, "500", "missing ETH client: the signer knows the chain"));
    let settings = SETTINGS.map(|(path, _)| (path, "400", "A setting of the process: says which"));
    for (path, status, said) in all.into_iter().chain(settings) {
        let name = path.trim_start_matches('/');
        let mut item = PathItem::new(HttpMethod::Get, refusal(name, "get", status, said));
        item.post = Some(refusal(name, "post", status, said));
        document.paths.paths.insert(path.to_owned(), item);
    }
}

fn refusal(name: &str, method: &str, status: &str, said: &str) -> Operation {
    let response = ResponseBuilder::new().description(said).content(
        "text/plain",
        utoipa::openapi::ContentBuilder::new()
            .schema(Some(utoipa::openapi::schema::Object::with_type(
                utoipa::openapi::schema::Type::String,
            )))
            .build(),
    );
    OperationBuilder::new()
        .operation_id(Some(format!("{method}_{name}")))
        .tag("refused")
        .response(status, response)
        .build()
}

async fn no_chain() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "missing ETH client\n").into_response()
}

fn not_here(flag: &str) -> Response {
    let text = format!("set by {flag} when the process starts: all replicas have the same\n");
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// All pools that this replica keeps fresh, with what is thought of their members.
type Pools = Vec<(PoolKey, UnixMs, Vec<PoolEntry>, BTreeMap<String, Standing>)>;

async fn pools(gateway: &Shared) -> Result<Pools, GatewayError> {
    let now = clock::now();
    let mut all = Vec::new();
    for key in gateway.discovered.pools() {
        let pool = gateway.store.pool(&key, now).await.map_err(JobError::from)?.unwrap_or_default();
        let standings = gateway.store.standings(&key.0, now).await.map_err(JobError::from)?;
        all.push((key, pool.refreshed_at, pool.entries, standings));
    }
    Ok(all)
}

/// The newest stream
#[utoipa::path(get, path = "/streamID", tag = "go",
    responses((status = 200, description = "Its id; empty if there is none", body = String),
              (status = 503, description = "The store is away", body = crate::openapi::ErrorBody)))]
async fn stream_id(state: State<Shared>) -> Result<String, GatewayError> {
    newest_stream(state).await
}

/// The newest stream
#[utoipa::path(get, path = "/manifestID", tag = "go",
    responses((status = 200, description = "Its id; empty if there is none", body = String),
              (status = 503, description = "The store is away", body = crate::openapi::ErrorBody)))]
async fn manifest_id(state: State<Shared>) -> Result<String, GatewayError> {
    newest_stream(state).await
}

async fn newest_stream(State(gateway): State<Shared>) -> Result<String, GatewayError> {
    let newest = gateway.streams().await?.into_iter().next();
    Ok(newest.map(|(id, _)| id.to_string()).unwrap_or_default())
}

/// Always empty, as in the Go node
#[utoipa::path(get, path = "/localStreams", tag = "go",
    responses((status = 200, description = "An empty list", body = Vec<String>)))]
async fn local_streams() -> Json<Value> {
    Json(json!([]))
}

/// The chain's id
#[utoipa::path(get, path = "/EthChainID", tag = "go",
    responses((status = 200, description = "0: the gateway knows no chain", body = String)))]
async fn chain_id() -> &'static str {
    "0"
}

/// Whether this is an orchestrator
#[utoipa::path(get, path = "/IsOrchestrator", tag = "go",
    responses((status = 200, description = "`false`", body = String)))]
async fn is_orchestrator() -> &'static str {
    "false"
}

/// Whether this is a redeemer
#[utoipa::path(get, path = "/IsRedeemer", tag = "go",
    responses((status = 200, description = "`false`", body = String)))]
async fn is_redeemer() -> &'static str {
    "false"
}

/// Who pays
#[utoipa::path(get, path = "/ethAddr", tag = "go",
    responses((status = 200, description = "The signer's account", body = String),
              (status = 500, description = "The signer cannot be asked", body = String)))]
async fn payer(State(gateway): State<Shared>) -> Response {
    match gateway.identity.payer(&gateway.signer).await {
        Ok(payer) => payer.address.to_checksum(None).into_response(),
        Err(_) => no_chain().await,
    }
}

/// Price ceiling and renditions
#[utoipa::path(get, path = "/getBroadcastConfig", tag = "go",
    responses((status = 200, description = "`MaxPrice` in wei per pixel as `a/b`, null without one or while nobody knows what dollars are worth; `TranscodingOptions`: names", body = Value)))]
async fn broadcast_config(State(gateway): State<Shared>) -> Json<Value> {
    let names: Vec<_> = gateway.settings.video.profiles.iter().map(|p| p.name.as_str()).collect();
    // In wei, whatever it is set in; nothing while nobody can tell.
    let everybody = Caller::of_settings(&gateway.settings);
    let price = gateway.price_ceiling(&everybody, &[]).ok().flatten();
    Json(json!({
        // As Go writes a rational: always with its denominator.
        "MaxPrice": price.map(|p| go_rational(&p.to_string())),
        "TranscodingOptions": names.join(","),
    }))
}

fn go_rational(text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { format!("{text}/1") }
}

/// Names of renditions
#[utoipa::path(get, path = "/getAvailableTranscodingOptions", tag = "go",
    responses((status = 200, description = "Presets", body = Vec<String>)))]
async fn presets() -> Json<Value> {
    Json(VideoProfile::preset_names().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        assert_eq!(go_rational("3"), "3/1");
        assert_eq!(go_rational("1/3"), "1/3");
    }
}
