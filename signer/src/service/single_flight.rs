//! One at a time per key: the second request with one payment state waits for the first one's
//! answer instead of signing tickets that would be thrown away. A courtesy only: the ledger's
//! compare-and-swap is what makes it safe, also across processes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::OwnedMutexGuard;

type Slot = tokio::sync::Mutex<()>;

/// Locks by name. A name costs memory only while somebody holds or waits for it.
#[derive(Default)]
pub struct SingleFlight(Mutex<HashMap<String, Weak<Slot>>>);

/// How many forgotten names may pile up before they are swept.
const SWEEP_AT: usize = 1024;

impl SingleFlight {
    /// Waits for the turn.
    pub async fn enter(&self, name: String) -> OwnedMutexGuard<()> {
        self.slot(name).lock_owned().await
    }

    fn slot(&self, name: String) -> Arc<Slot> {
        // The map is whole after a panic elsewhere: every change to it is one call.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SWEEP_AT {
            slots.retain(|_, slot| slot.strong_count() > 0);
        }
        if let Some(slot) = slots.get(&name).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Arc::new(Slot::new(()));
        slots.insert(name, Arc::downgrade(&slot));
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn excludes_per_name_and_forgets() {
        let flights = SingleFlight::default();
        let a = flights.enter("a".into()).await;
        let _b = flights.enter("b".into()).await;
        assert!(flights.slot("a".into()).try_lock().is_err());
        drop(a);
        assert!(flights.slot("a".into()).try_lock().is_ok());
        for n in 0..3 * SWEEP_AT {
            drop(flights.slot(n.to_string()));
        }
        assert!(flights.0.lock().unwrap().len() <= SWEEP_AT);
    }
}
