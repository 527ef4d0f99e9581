//! How much credit the jobs of this replica are waiting for, by session: whoever gets the lease buys
//! for all of them, instead of each buying in turn. A hint only; losing it costs a payment more.

use penstock_store::SessionKey;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Units waited for.
#[derive(Debug, Default)]
pub struct Demand(Mutex<HashMap<SessionKey, u64>>);

impl Demand {
    /// Counts a job in until the guard is dropped.
    pub fn wait<'a>(&'a self, key: &SessionKey, units: u64) -> Waiting<'a> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = all.entry(key.clone()).or_default();
        *sum = sum.saturating_add(units);
        Waiting { demand: self, key: key.clone(), units }
    }

    /// What all waiting jobs of a session need together.
    pub fn of(&self, key: &SessionKey) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(0)
    }
}

/// A job that waits.
#[derive(Debug)]
pub struct Waiting<'a> {
    demand: &'a Demand,
    key: SessionKey,
    units: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.demand.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = all.get_mut(&self.key) {
            *sum = sum.saturating_sub(self.units);
            if *sum == 0 {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_who_waits() {
        let (demand, key) =
            (Demand::default(), SessionKey { scope: "s".into(), orchestrator: "o".into() });
        let first = demand.wait(&key, 5);
        let second = demand.wait(&key, 7);
        assert_eq!(demand.of(&key), 12);
        drop(first);
        assert_eq!(demand.of(&key), 7);
        drop(second);
        assert_eq!(demand.of(&key), 0);
        assert!(demand.0.lock().unwrap().is_empty());
    }
}
