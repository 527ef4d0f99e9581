//! What this replica's discovery last saw, and which pools it keeps warm.

use super::{keys::Keys, round::Places};
use penstock_clients::ListedOrchestrator;
use penstock_domain::{Capabilities, U256};
use penstock_store::{PoolKey, UnixMs};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// AI pools that this replica keeps warm beyond the default models.
const MAX_WARM_POOLS: usize = 64;
/// How long nobody is asked again for a model that nobody has, and how many such names are kept.
const ABSENT_MS: u64 = 5_000;
const MAX_ABSENT: usize = 1_024;

/// What this replica's discovery last saw. Harmless when stale.
#[derive(Debug, Default)]
pub struct Discovered {
    inner: Mutex<Seen>,
    /// A job's own search stopped at the first answers: the others are to be asked soon.
    pub(super) wake: Notify,
    /// Questions under way.
    pub(super) places: Places,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) source: Vec<ListedOrchestrator>,
    /// When the operator's list was last fetched.
    pub(super) list_at: Option<Instant>,
    pub(super) trouble: Option<String>,
    /// Pools to keep fresh, with what to ask for.
    pub(super) pools: BTreeMap<PoolKey, Capabilities>,
    /// Pools that clients asked for and that were empty, with when. Clients choose the names.
    absent: BTreeMap<PoolKey, UnixMs>,
    pub(super) signer_trouble: Option<String>,
    /// Under which addresses orchestrators worked.
    pub(super) keys: Keys,
}

impl Seen {
    pub(super) fn keep_warm(&mut self, key: PoolKey, job: Capabilities) {
        if self.pools.len() < MAX_WARM_POOLS || self.pools.contains_key(&key) {
            self.pools.insert(key, job);
        }
    }

    pub(super) fn note_absent(&mut self, key: &PoolKey, now: UnixMs) {
        self.absent.retain(|_, at| now.since_ms(*at) < ABSENT_MS);
        if self.absent.len() < MAX_ABSENT && !self.pools.contains_key(key) {
            self.absent.insert(key.clone(), now);
        }
    }

    pub(super) fn is_absent(&self, key: &PoolKey, now: UnixMs) -> bool {
        self.absent.get(key).is_some_and(|at| now.since_ms(*at) < ABSENT_MS)
    }
}

impl Discovered {
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the source of orchestrators is of no use, if it is not.
    pub fn trouble(&self) -> Option<String> {
        self.with(|seen| seen.trouble.clone())
    }

    /// Why the signer said that it cannot pay, if it did.
    pub fn signer_trouble(&self) -> Option<String> {
        self.with(|seen| seen.signer_trouble.clone())
    }

    /// Where the list says that an orchestrator is; empty when it does not say.
    pub fn region(&self, asked_uri: &str) -> String {
        self.with(|seen| {
            let found = seen.source.iter().find(|o| o.address == asked_uri);
            found.map(|o| o.region.clone()).unwrap_or_default()
        })
    }

    /// What the list says is bonded to an orchestrator, in units of 10^-18 LPT; 0 when it does not say.
    pub fn stake_lptu(&self, asked_uri: &str) -> U256 {
        let asked = asked_uri.trim_end_matches('/');
        self.with(|seen| {
            let found = seen.source.iter().find(|o| o.address.trim_end_matches('/') == asked);
            found.map(|o| o.stake_lptu).unwrap_or_default()
        })
    }

    /// The pools kept fresh, with what is asked of their members.
    pub(in crate::service) fn jobs(&self) -> BTreeMap<PoolKey, Capabilities> {
        self.with(|seen| seen.pools.clone())
    }

    /// The pools kept fresh.
    pub fn pools(&self) -> Vec<PoolKey> {
        self.with(|seen| seen.pools.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_remembered_for_a_moment_and_bounded() {
        let (mut seen, key) = (Seen::default(), |n: usize| PoolKey(format!("ai:27_{n}")));
        for n in 0..MAX_ABSENT + 10 {
            seen.note_absent(&key(n), UnixMs(0));
        }
        assert_eq!(seen.absent.len(), MAX_ABSENT);
        assert!(seen.is_absent(&key(0), UnixMs(ABSENT_MS - 1)));
        assert!(!seen.is_absent(&key(0), UnixMs(ABSENT_MS)));
        seen.note_absent(&key(1), UnixMs(ABSENT_MS));
        assert_eq!(seen.absent.len(), 1);
    }
}
