//! The hardware report, in the shape in which the network's runners give theirs (ai-pipelines.md
//! section 8.1): `/hardware/info` for what a card is, `/hardware/stats` for what it does.

use super::{Card, Inventory, monitor::Monitor};
use crate::{
    ai::pool::{Live, State},
    video::{devices::Devices, encoder::Device},
};
use axum::{Json, Router, routing::get};
use penstock_wire::hardware::Gpu;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// What a worker that serves several models says where a runner names its one.
const ALL: &str = "";

/// `GET /hardware/info`, `GET /hardware/stats`.
pub fn routes(monitor: Monitor, devices: Option<Arc<Devices>>) -> Router {
    let (watched, known) = (monitor.clone(), devices.clone());
    let info = move || async move { Json(info(&watched.now(), known.as_deref())) };
    let stats = move || async move { Json(stats(&monitor.now())) };
    Router::new().route("/hardware/info", get(info)).route("/hardware/stats", get(stats))
}

/// `{pipeline, model_id, gpu_info: {"0": {id, name, memory_total, memory_free, major, minor}}}`, and
/// beside that what a runner does not know: the driver, and what segments are transcoded on.
pub fn info(inventory: &Inventory, devices: Option<&Devices>) -> Value {
    let cards = by_index(inventory, |card| {
        json!({
            "id": card.uuid, "name": card.name,
            "memory_total": card.memory_total, "memory_free": card.memory_free,
            "major": card.compute.0, "minor": card.compute.1,
        })
    });
    let devices: Vec<Value> = devices.map(Devices::list).unwrap_or_default().iter().map(|d| {
        json!({"device": d.name, "engines": d.engines, "usable": d.trouble.is_none(), "reason": d.trouble, "sessions": d.sessions})
    }).collect();
    json!({
        "pipeline": ALL, "model_id": ALL, "gpu_info": cards,
        "driver": inventory.driver, "transcoding": devices,
    })
}

/// Names of the cards that segments are transcoded on.
pub fn transcoding_cards(inventory: &Inventory, devices: &Devices) -> Vec<String> {
    let name = |device| match device {
        Device::Nvidia(index) => inventory.card(index).map(|card| card.name.clone()),
        Device::Netint(_) => Some("Netint".to_owned()),
    };
    devices.working().into_iter().filter_map(name).collect()
}

/// `{pipeline, model_id, gpu_stats: {"0": {id, name, memory_…, utilization_…, …}}}`.
pub fn stats(inventory: &Inventory) -> Value {
    let cards = by_index(inventory, |card| {
        let now = card.use_now;
        json!({
            "id": card.uuid, "name": card.name,
            "memory_total": card.memory_total, "memory_free": card.memory_free,
            "utilization_compute": now.compute.unwrap_or(0),
            "utilization_memory": now.memory.unwrap_or(0),
            "utilization_encoder": now.encoder, "utilization_decoder": now.decoder,
            "temperature_celsius": now.temperature.unwrap_or(0), "fan_speed": now.fan.unwrap_or(0),
        })
    });
    json!({"pipeline": ALL, "model_id": ALL, "gpu_stats": cards})
}

fn by_index(inventory: &Inventory, describe: impl Fn(&Card) -> Value) -> Value {
    let cards = inventory.cards.iter().map(|card| (card.index.to_string(), describe(card)));
    Value::Object(cards.collect::<Map<_, _>>())
}

/// A runner of our own that runs on a card and does not say so itself (it has no `nvidia-smi`) is told
/// to the orchestrator with the card as we know it.
pub fn with_card(state: State, inventory: &Inventory, index: u32) -> State {
    let told = |live: Arc<Live>| match live.gpus.is_empty() {
        false => live,
        true => Arc::new(Live {
            endpoint: live.endpoint.clone(),
            version: live.version.clone(),
            gpus: for_registration(inventory, index),
        }),
    };
    match state {
        State::Live(live) => State::Live(told(live)),
        State::Restarting(live) => State::Restarting(told(live)),
        other => other,
    }
}

/// One card for a registration with an orchestrator, under the number that the driver gives it.
fn for_registration(inventory: &Inventory, index: u32) -> BTreeMap<String, Gpu> {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let card = inventory.card(index).filter(|card| !card.uuid.is_empty());
    let gpu = card.map(|card| Gpu {
        id: card.uuid.clone(),
        name: card.name.clone(),
        major: card.compute.0,
        minor: card.compute.1,
        memory_free: bytes(card.memory_free),
        memory_total: bytes(card.memory_total),
    });
    gpu.map(|gpu| (index.to_string(), gpu)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ai::client::Endpoint,
        gpu::{Use, monitor::tests::card},
    };

    #[test]
    fn the_networks_shape() {
        let one = Card {
            memory_total: 24,
            memory_free: 20,
            compute: (8, 9),
            use_now: Use { compute: Some(30), encoder: Some(55), ..Use::default() },
            ..card(1)
        };
        let inventory = Inventory { driver: Some("550.1".into()), cards: vec![one], trouble: None };
        assert_eq!(
            info(&inventory, None),
            json!({"pipeline": "", "model_id": "", "driver": "550.1", "transcoding": [], "gpu_info": {"1":
                {"id": "GPU-1", "name": "Made Up", "memory_total": 24, "memory_free": 20, "major": 8, "minor": 9}}})
        );
        assert_eq!(
            stats(&inventory)["gpu_stats"]["1"],
            json!({"id": "GPU-1", "name": "Made Up", "memory_total": 24, "memory_free": 20,
                "utilization_compute": 30, "utilization_memory": 0, "utilization_encoder": 55,
                "utilization_decoder": null, "temperature_celsius": 0, "fan_speed": 0})
        );
    }

    #[test]
    fn a_runner_that_says_nothing_is_told_with_its_card() {
        let one = Card { memory_total: 24, ..card(1) };
        let inventory = Inventory { cards: vec![one], ..Inventory::default() };
        let runner = |gpus| {
            let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
            State::Live(Arc::new(Live { endpoint, version: "1".into(), gpus }))
        };
        let told = |state, index| match with_card(state, &inventory, index) {
            State::Live(live) => live.gpus.clone(),
            other => panic!("{other:?}"),
        };
        let filled = told(runner(BTreeMap::new()), 1);
        assert_eq!((filled["1"].name.as_str(), filled["1"].memory_total), ("Made Up", 24));
        assert!(told(runner(BTreeMap::new()), 0).is_empty());
        let own = BTreeMap::from([("0".to_owned(), Gpu::default())]);
        assert_eq!(told(runner(own.clone()), 1), own);
    }
}
