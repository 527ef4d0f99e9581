//! A receiver of a signer's events by webhook. It keeps what it took, in order, and how often each
//! event came: deliveries are at least once.

use super::{Faults, Running, server::Server};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// A simulated event receiver.
#[derive(Debug, Default)]
pub struct SimSink {
    /// Slowness, refusals, silence.
    pub faults: Arc<Faults>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    events: Vec<Value>,
    ids: BTreeSet<String>,
    deliveries: u64,
    headers: Vec<HeaderMap>,
    malformed: u64,
}

impl SimSink {
    /// Takes everything that is posted to `/`.
    pub async fn start() -> Running<Self> {
        let sim = Arc::<Self>::default();
        let router = Router::new()
            .route("/", post(take))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&sim));
        let server = Server::clear(sim.faults.over(router)).await;
        Running { sim, server }
    }

    /// Each event once, in the order of its first arrival.
    pub fn events(&self) -> Vec<Value> {
        self.taken.lock().unwrap().events.clone()
    }

    /// How many different events came.
    pub fn count(&self) -> usize {
        self.taken.lock().unwrap().events.len()
    }

    /// How many events came, repetitions included.
    pub fn deliveries(&self) -> u64 {
        self.taken.lock().unwrap().deliveries
    }

    /// Bodies that were no events.
    pub fn malformed(&self) -> u64 {
        self.taken.lock().unwrap().malformed
    }

    /// Headers of each request that was taken.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.taken.lock().unwrap().headers.clone()
    }

    /// Sequence numbers of each session in the order in which they first came.
    pub fn sequences(&self) -> BTreeMap<String, Vec<u64>> {
        let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in &self.taken.lock().unwrap().events {
            let data = &event["data"];
            let session = data["session_id"].as_str().unwrap_or_default().to_owned();
            let number = data["sequence_number"].as_u64().unwrap_or_default();
            sequences.entry(session).or_default().push(number);
        }
        sequences
    }
}

async fn take(State(sim): State<Arc<SimSink>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // One event, or a list of them.
    let parsed = serde_json::from_slice::<Value>(&body);
    let mut taken = sim.taken.lock().unwrap();
    let events = match parsed {
        Ok(Value::Array(events)) => events,
        Ok(event @ Value::Object(_)) => vec![event],
        _ => {
            taken.malformed += 1;
            return StatusCode::BAD_REQUEST;
        }
    };
    taken.headers.push(headers);
    for event in events {
        let Some(id) = event["id"].as_str().map(str::to_owned) else {
            taken.malformed += 1;
            return StatusCode::BAD_REQUEST;
        };
        taken.deliveries += 1;
        if taken.ids.insert(id) {
            taken.events.push(event);
        }
    }
    StatusCode::OK
}
