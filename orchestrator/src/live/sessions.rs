//! All live video sessions of a process: how many, whose, and what for.

use super::{billing::Units, error::LiveError};
use crate::release::{Kind, Reason, Taken};
use penstock_domain::{Address, Capabilities, address_lower};
use penstock_ledger::orchestrator::AccountKey;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is known of a session.
pub struct Entry {
    /// Who pays; zero off-chain.
    pub sender: Address,
    /// The model.
    pub model: String,
    /// What its price is for.
    pub work: Capabilities,
    /// The gateway's names, for the operator.
    pub gateway_request_id: String,
    /// The same.
    pub stream_id: String,
    /// Unix ms of its begin.
    pub begun_ms: i64,
    /// What it was charged for.
    pub units: Arc<Units>,
}

/// All sessions, by name.
pub struct Sessions {
    max: usize,
    all: Mutex<HashMap<String, Entry>>,
}

/// A session's place among them; given back when dropped.
pub struct Place {
    sessions: Arc<Sessions>,
    name: String,
    taken: Taken,
}

impl Place {
    /// Should it be given back now, this is why.
    pub fn because(&mut self, why: Reason) {
        self.taken.because(why);
    }
}

impl Sessions {
    /// At most `max` at once.
    pub fn new(max: usize) -> Self {
        Self { max, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may begin.
    pub fn has_room(&self) -> bool {
        self.lock().len() < self.max
    }

    /// One more.
    pub fn enter(self: &Arc<Self>, name: &str, entry: Entry) -> Result<Place, LiveError> {
        let mut all = self.lock();
        if all.len() >= self.max {
            return Err(LiveError::Capacity);
        }
        if all.contains_key(name) {
            return Err(LiveError::Running);
        }
        all.insert(name.to_owned(), entry);
        gauge(all.len());
        let (sessions, taken) = (Arc::clone(self), Taken::by(Kind::LiveVideo));
        Ok(Place { sessions, name: name.to_owned(), taken })
    }

    /// What the account of a session pays for; `None` if it is no session's.
    pub fn work_of(&self, account: &AccountKey) -> Option<Capabilities> {
        let all = self.lock();
        let entry = all.get(account.session()).filter(|entry| entry.sender == account.sender())?;
        Some(entry.work.clone())
    }

    /// For the operator.
    pub fn view(&self) -> Vec<Value> {
        let row = |(name, entry): (&String, &Entry)| {
            json!({
                "manifest_id": name,
                "sender": address_lower(&entry.sender),
                "model": entry.model,
                "gateway_request_id": entry.gateway_request_id,
                "stream_id": entry.stream_id,
                "begun_ms": entry.begun_ms,
                "units_charged": entry.units.charged(),
            })
        };
        self.lock().iter().map(row).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.sessions.lock();
        all.remove(&self.name);
        gauge(all.len());
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(sessions: usize) {
    metrics::gauge!("orchestrator_live_sessions").set(sessions as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_accounts_are_known() {
        let sessions = Arc::new(Sessions::new(1));
        let entry = |n: u8| Entry {
            sender: Address::repeat_byte(n),
            model: "noop".to_owned(),
            work: Capabilities::default(),
            gateway_request_id: String::new(),
            stream_id: String::new(),
            begun_ms: 0,
            units: Arc::default(),
        };
        let place = sessions.enter("a", entry(1)).unwrap();
        assert_eq!(sessions.enter("b", entry(1)).err(), Some(LiveError::Capacity));
        let two = Arc::new(Sessions::new(2));
        let _first = two.enter("a", entry(1)).unwrap();
        assert_eq!(two.enter("a", entry(2)).err(), Some(LiveError::Running));
        let account = |n: u8, name: &str| AccountKey::new(Address::repeat_byte(n), name).unwrap();
        assert!(sessions.work_of(&account(1, "a")).is_some());
        assert!(sessions.work_of(&account(2, "a")).is_none(), "another sender's");
        assert!(sessions.work_of(&account(1, "b")).is_none());
        drop(place);
        assert!(sessions.has_room() && sessions.view().is_empty());
    }
}
