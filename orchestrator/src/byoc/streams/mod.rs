//! Streams of brought capabilities: a worker that works for as long as it is paid, and the channels between
//! it and the gateway (byoc.md section 8).
//!
//! [`start`] is the order of a start, [`channels`] what it makes, [`life`] what ends it; [`requests`] are
//! the gateway's words to a running one. Here: which ones there are.

mod channels;
pub mod error;
mod life;
mod requests;
mod start;

pub use requests::Relayed;
pub use start::Outcome;

use super::registry::Brought;
use crate::signs::LastSign;
use error::StreamError;
use penstock_domain::{Address, Rational, address_lower};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use tokio_util::sync::CancellationToken;

/// What is known of a stream.
pub struct Entry {
    /// Who pays; zero off-chain.
    pub sender: Address,
    /// Whose worker it is at.
    pub brought: Arc<Brought>,
    /// Wei a second.
    pub price: Rational,
    /// Unix ms of its begin.
    pub begun_ms: i64,
    /// Seconds that it was charged for.
    pub seconds: Arc<AtomicU64>,
    /// The gateway wants its end.
    pub stopped: CancellationToken,
    /// The worker has heard of that, and said yes.
    pub is_told: AtomicBool,
    /// When the worker last answered anything about it with yes.
    pub answered: LastSign,
}

/// All streams, by their gateways' ids: workers know them by these.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<String, Arc<Entry>>>);

/// A stream's place among them; given back when dropped.
pub struct Place {
    streams: Arc<Streams>,
    id: String,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more. How many there may be is the capabilities' room.
    pub fn enter(self: &Arc<Self>, id: &str, entry: Arc<Entry>) -> Result<Place, StreamError> {
        let mut all = self.lock();
        if all.contains_key(id) {
            return Err(StreamError::Exists(id.to_owned()));
        }
        all.insert(id.to_owned(), entry);
        gauge(all.len());
        Ok(Place { streams: Arc::clone(self), id: id.to_owned() })
    }

    /// A sender's stream of that id. Another's is none.
    pub fn get(&self, sender: Address, id: &str) -> Option<Arc<Entry>> {
        self.lock().get(id).filter(|entry| entry.sender == sender).cloned()
    }

    /// Whether there is one of that id, whosever.
    pub fn exists(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// For the operator.
    pub fn view(&self) -> Vec<Value> {
        let row = |(id, entry): (&String, &Arc<Entry>)| {
            json!({
                "id": id,
                "capability": entry.brought.name,
                "sender": address_lower(&entry.sender),
                "begun_ms": entry.begun_ms,
                "seconds_charged": entry.seconds.load(Relaxed),
            })
        };
        self.lock().iter().map(row).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.streams.lock();
        all.remove(&self.id);
        gauge(all.len());
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(streams: usize) {
    metrics::gauge!("orchestrator_byoc_streams").set(streams as f64);
}
