//! Peers as small real servers that speak the real wire, each on a port of its own: orchestrators
//! that verify tickets, a signer that signs them, a runner, a live runner, a chain, a receiver of events. Any
//! number fit in one process. Each can be told how to behave while it runs.
//!
//! | peer | start at | misbehaves by |
//! | --- | --- | --- |
//! | orchestrator | [`SimOrchestrator::start`] | [`orchestrator::Order`]s, refused offers, [`Faults`] |
//! | signer | [`SimSigner::start`] | [`signer::Order`]s, [`Faults`] |
//! | runner | [`SimRunner::start`] | [`runner::Order`]s, its health, [`Faults`] |
//! | live runner | [`SimLiveRunner::start`] | [`live_runner::Order`]s, its health, [`Faults`] |
//! | chain | [`SimChain::start`] | [`Faults`] |
//! | event receiver | [`SimSink::start`] | [`Faults`] |

pub mod chain;
pub mod faults;
pub mod form;
pub mod line;
pub mod live_runner;
pub mod orchestrator;
pub mod runner;
pub mod runner_api;
pub mod server;
pub mod signer;
pub mod sink;

pub use chain::SimChain;
pub use faults::Faults;
pub use live_runner::SimLiveRunner;
pub use orchestrator::SimOrchestrator;
pub use runner::SimRunner;
pub use server::{Running, Server, nobody};
pub use signer::SimSigner;
pub use sink::SimSink;

use penstock_keys::{LocalKey, TypedSigner};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

/// A fresh account.
pub fn account() -> TypedSigner {
    TypedSigner::new(Arc::new(LocalKey::random().unwrap()))
}

/// Unix seconds.
pub fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Orders to misbehave, each carried out once, in order.
#[derive(Debug)]
pub struct Script<T>(Mutex<VecDeque<T>>);

impl<T> Default for Script<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Script<T> {
    /// Adds orders.
    pub fn then(&self, orders: impl IntoIterator<Item = T>) {
        self.0.lock().unwrap().extend(orders);
    }

    /// The next order, if any.
    #[allow(clippy::should_implement_trait, reason = "orders are taken, not iterated over")]
    pub fn next(&self) -> Option<T> {
        self.0.lock().unwrap().pop_front()
    }
}
