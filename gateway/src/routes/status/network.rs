//! `/getNetworkCapabilities`: what every orchestrator says of itself, its price list and hardware too.

use super::Shared;
use crate::{error::GatewayError, openapi::ErrorBody};
use axum::{Json, extract::State};
use penstock_domain::{Capabilities, Capability, PriceInfo};
use penstock_wire::{OrchestratorOffer, hardware::Hardware};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Everything that orchestrators offer
///
/// As they tell whoever names no job, at most half a minute old. What is 0 or empty is left out, as in
/// the Go node.
#[utoipa::path(
    get, path = "/getNetworkCapabilities", tag = "go",
    responses(
        (status = 200, description = "As the Go node writes it", body = Value),
        (status = 503, description = "Signer or store are away", body = ErrorBody),
    )
)]
pub(super) async fn network(State(gateway): State<Shared>) -> Result<Json<Value>, GatewayError> {
    let names: Map<_, _> =
        Capability::ALL.iter().map(|c| (c.number().to_string(), json!(c.name()))).collect();
    let menus = gateway.full_menus().await?;
    // By address, so that two questions are answered in the same order.
    let members: BTreeMap<String, Vec<u8>> =
        menus.entries.into_iter().map(|entry| (entry.transcoder, entry.info)).collect();
    let orchestrators: Vec<_> = members
        .into_iter()
        .filter_map(|(uri, info)| Some(orchestrator(&uri, &OrchestratorOffer::decode(&info).ok()?)))
        .collect();
    Ok(Json(json!({ "capabilities_names": names, "orchestrators": orchestrators })))
}

fn orchestrator(uri: &str, offer: &OrchestratorOffer) -> Value {
    let lower = |a: penstock_domain::Address| a.to_checksum(None).to_lowercase();
    let prices: Vec<_> = offer
        .capabilities_prices
        .iter()
        .map(|p| price(p.price, Some((p.capability, &p.constraint))))
        .collect();
    json!({
        "address": offer.ticket_params.as_ref().map(|t| lower(t.recipient)),
        "local_address": offer.address.map(lower),
        "orch_uri": uri,
        "capabilities": offer.capabilities.as_ref().map(capabilities),
        "price_info": offer.price.map(|p| price(p, None)),
        "capabilities_prices": prices,
        "hardware": offer.hardware.iter().map(hardware).collect::<Vec<_>>(),
    })
}

fn capabilities(all: &Capabilities) -> Value {
    let per_capability: Map<_, _> = all
        .models
        .iter()
        .map(|(number, models)| {
            let models: Map<_, _> = models
                .iter()
                .map(|(name, c)| {
                    let constraint = present([
                        ("warm", json!(c.warm)),
                        ("capacity", json!(c.capacity)),
                        ("runnerVersion", json!(c.runner_version)),
                        ("capacityInUse", json!(c.capacity_in_use)),
                    ]);
                    (name.clone(), constraint)
                })
                .collect();
            (number.to_string(), json!({ "models": models }))
        })
        .collect();
    let constraints = present([
        ("minVersion", json!(all.min_version)),
        ("PerCapability", Value::Object(per_capability)),
    ]);
    present([
        ("bitstring", json!(all.set.words())),
        ("mandatories", json!(all.mandatories.words())),
        ("capacities", json!(all.capacities)),
        ("version", json!(all.version)),
        ("constraints", constraints),
    ])
}

fn price(price: PriceInfo, of: Option<(u32, &String)>) -> Value {
    present([
        ("pricePerUnit", json!(price.price_per_unit())),
        ("pixelsPerUnit", json!(price.pixels_per_unit())),
        ("capability", json!(of.map(|(capability, _)| capability))),
        ("constraint", json!(of.map(|(_, constraint)| constraint))),
    ])
}

fn hardware(of: &Hardware) -> Value {
    let gpus: Map<_, _> = of
        .gpus
        .iter()
        .map(|(key, gpu)| {
            let gpu = present([
                ("id", json!(gpu.id)),
                ("name", json!(gpu.name)),
                ("major", json!(gpu.major)),
                ("minor", json!(gpu.minor)),
                ("memory_free", json!(gpu.memory_free)),
                ("memory_total", json!(gpu.memory_total)),
            ]);
            (key.clone(), gpu)
        })
        .collect();
    present([
        ("pipeline", json!(of.pipeline)),
        ("model_id", json!(of.model_id)),
        ("gpu_info", Value::Object(gpus)),
    ])
}

/// An object of what is neither 0, false nor empty: how Go's `omitempty` writes it.
fn present<const N: usize>(members: [(&str, Value); N]) -> Value {
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    };
    let members = members.into_iter().filter(|(_, value)| is_something(value));
    Value::Object(members.map(|(name, value)| (name.to_owned(), value)).collect())
}
