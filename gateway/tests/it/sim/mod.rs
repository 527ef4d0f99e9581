//! The gateway's peers as small real servers that speak the real wire: a signer that signs real
//! tickets and an orchestrator that verifies them. Each can be told to misbehave, once per order.

pub mod orchestrator;
pub mod server;
pub mod signer;

use penstock_keys::{LocalKey, TypedSigner};
use std::{collections::VecDeque, sync::Arc, sync::Mutex};

/// A fresh account.
pub fn account() -> TypedSigner {
    TypedSigner::new(Arc::new(LocalKey::random().unwrap()))
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
    pub fn next(&self) -> Option<T> {
        self.0.lock().unwrap().pop_front()
    }
}
