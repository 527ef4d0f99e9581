//! What the Go node's CLI server tells about a gateway (operator.md section 4), on the admin listener,
//! for tools that ask it: same paths, same field names. It reads; what the Go node lets set here are
//! settings of the process, because a replica keeps none of its own.

use super::Shared;
use crate::{clock, error::GatewayError, front::caller::Caller, service::error::JobError};
use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::any,
};
use http::StatusCode;
use penstock_domain::{Capability, VideoProfile};
use penstock_store::{PoolEntry, PoolKey, Standing, UnixMs};
use penstock_wire::OrchestratorOffer;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use url::Url;

/// Asked of the chain, which this gateway does not know: the signer does.
const OF_THE_CHAIN: [&str; 38] = [
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
];

/// Settings of the process here, by the flag that is meant.
const SETTINGS: [(&str, &str); 5] = [
    ("/setBroadcastConfig", "--max-price, --transcoding-options"),
    ("/setMaxPriceForCapability", "--max-price-per-capability"),
    ("/setMaxSessions", "--video-max-in-flight, --ai-max-in-flight"),
    ("/setLogLevel", "--log-level"),
    ("/registerLiveRunners", "the orchestrator's live runners"),
];

/// The routes.
pub fn router() -> Router<Shared> {
    let mut router = Router::new()
        .route("/status", any(status))
        .route("/streamID", any(newest_stream))
        .route("/manifestID", any(newest_stream))
        .route("/localStreams", any(|| async { Json(json!([])) }))
        .route("/EthChainID", any(|| async { "0" }))
        .route("/IsOrchestrator", any(|| async { "false" }))
        .route("/IsRedeemer", any(|| async { "false" }))
        .route("/ethAddr", any(payer))
        .route("/getBroadcastConfig", any(broadcast_config))
        .route("/getAvailableTranscodingOptions", any(presets))
        .route("/getAISessionPoolsInfo", any(ai_pools))
        .route("/getNetworkCapabilities", any(network))
        .route("/getLogLevel", any(log_level));
    for path in OF_THE_CHAIN {
        router = router.route(path, any(no_chain));
    }
    for (path, flag) in SETTINGS {
        router = router.route(path, any(move || async move { not_here(flag) }));
    }
    router
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

async fn status(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let streams = gateway.streams().await?;
    let names = || streams.iter().map(|(id, _)| id.to_string());
    let manifests: Map<_, _> = names().map(|id| (id, json!({ "Variants": null }))).collect();
    let mut members = BTreeMap::new();
    for (_, _, entries, _) in pools(&gateway).await? {
        for entry in entries {
            members.insert(entry.transcoder, (entry.score, entry.latency_ms));
        }
    }
    let infos: Vec<_> = members
        .iter()
        .map(|(uri, (score, latency_ms))| {
            json!({
                "Url": go_url(uri),
                "Score": score,
                // A Go duration: nanoseconds.
                "Latency": latency_ms.saturating_mul(1_000_000),
            })
        })
        .collect();
    Ok(Json(json!({
        "Manifests": manifests,
        "InternalManifests": {},
        "StreamInfo": {},
        "OrchestratorPool": members.keys().collect::<Vec<_>>(),
        "OrchestratorPoolInfos": infos,
        "Version": env!("CARGO_PKG_VERSION"),
        "GolangRuntimeVersion": "",
        "GOArch": std::env::consts::ARCH,
        "GOOS": std::env::consts::OS,
        "RegisteredTranscodersNumber": 0,
        "RegisteredTranscoders": [],
        "LocalTranscoding": false,
        "BroadcasterPrices": {},
    })))
}

/// A Go `url.URL` as its JSON.
fn go_url(uri: &str) -> Value {
    let url = Url::parse(uri).ok();
    let host = url.as_ref().and_then(|u| {
        let port = u.port().map(|p| format!(":{p}")).unwrap_or_default();
        Some(format!("{}{port}", u.host_str()?))
    });
    json!({
        "Scheme": url.as_ref().map(Url::scheme).unwrap_or_default(),
        "Opaque": "",
        "User": null,
        "Host": host.unwrap_or_default(),
        "Path": url.as_ref().map(Url::path).filter(|p| *p != "/").unwrap_or_default(),
        "RawPath": "",
        "OmitHost": false,
        "ForceQuery": false,
        "RawQuery": "",
        "Fragment": "",
        "RawFragment": "",
    })
}

async fn newest_stream(State(gateway): State<Shared>) -> Result<String, GatewayError> {
    let newest = gateway.streams().await?.into_iter().next();
    Ok(newest.map(|(id, _)| id.to_string()).unwrap_or_default())
}

async fn payer(State(gateway): State<Shared>) -> Response {
    match gateway.identity.payer(&gateway.signer).await {
        Ok(payer) => payer.address.to_checksum(None).into_response(),
        Err(_) => no_chain().await,
    }
}

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

async fn presets() -> Json<Value> {
    Json(VideoProfile::preset_names().collect())
}

async fn ai_pools(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let now = clock::now();
    let mut all = Map::new();
    for (key, refreshed_at, entries, standings) in pools(&gateway).await? {
        let Some(name) = key.0.strip_prefix("ai:") else { continue };
        let suspended: Map<_, _> = standings
            .iter()
            .filter(|(_, s)| s.suspended_until.is_some_and(|until| until > now))
            .map(|(uri, _)| (uri.clone(), json!(1)))
            .collect();
        let orchestrators: Vec<_> = entries
            .iter()
            .map(|entry| {
                let score = standings.get(&entry.transcoder).and_then(|s| s.latency_score);
                json!({ "url": entry.transcoder, "latency_score": score.unwrap_or(0.0), "in_flight": 0 })
            })
            .collect();
        let empty = json!({ "size": 0, "in_use": 0, "orchestrators": [] });
        all.insert(
            name.to_owned(),
            json!({
                "cold": empty,
                // What is warm is in the offers; the pool is one.
                "warm": { "size": entries.len(), "in_use": 0, "orchestrators": orchestrators },
                "last_refresh": refreshed_at.0,
                "suspended": { "current_count": suspended.len(), "list": suspended },
            }),
        );
    }
    Ok(Json(Value::Object(all)))
}

async fn network(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let names: Map<_, _> =
        Capability::ALL.iter().map(|c| (c.number().to_string(), json!(c.name()))).collect();
    let mut members = BTreeMap::new();
    for (_, _, entries, _) in pools(&gateway).await? {
        members.extend(entries.into_iter().map(|entry| (entry.transcoder, entry.info)));
    }
    let orchestrators: Vec<_> = members
        .into_iter()
        .map(|(uri, info)| {
            let offer = OrchestratorOffer::decode(&info).ok();
            let recipient = offer.as_ref().and_then(|o| Some(o.ticket_params.as_ref()?.recipient));
            let able = offer.as_ref().and_then(|o| o.capabilities.as_ref());
            let able = able.map(|c| {
                json!({
                    "bitstring": c.set.words(),
                    "capacities": c.capacities,
                    "version": c.version,
                })
            });
            let price = offer.as_ref().and_then(|o| o.price).map(|price| {
                json!({
                    "pricePerUnit": price.price_per_unit(),
                    "pixelsPerUnit": price.pixels_per_unit(),
                })
            });
            json!({
                "address": recipient.map(|a| a.to_checksum(None).to_lowercase()),
                "local_address": offer.as_ref().and_then(|o| o.address).map(|a| a.to_checksum(None).to_lowercase()),
                "orch_uri": uri,
                "capabilities": able,
                "price_info": price,
            })
        })
        .collect();
    Ok(Json(json!({ "capabilities_names": names, "orchestrators": orchestrators })))
}

async fn log_level(State(gateway): State<Shared>) -> String {
    gateway.settings.args.common.log_level.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        assert_eq!(go_rational("3"), "3/1");
        assert_eq!(go_rational("1/3"), "1/3");
        let url = go_url("https://o.example:8935");
        assert_eq!(url["Scheme"], "https");
        assert_eq!(
            (url["Host"].as_str(), url["Path"].as_str()),
            (Some("o.example:8935"), Some(""))
        );
    }
}
