//! Pools as choices need them: decoded, and kept for a moment.
//!
//! A pool of a thousand orchestrators takes longer to read and decode than a choice may take. What is
//! kept here may be a few seconds old, which is harmless: prices are looked at again before anything is
//! paid, and who is gone is found out by the job. After a second it is read again behind the back of the
//! choices (module `refresh`). An answer that has not changed is not decoded again.

use super::{Gateway, discovery::Menus, error::JobError, refresh::Old};
use crate::clock;
use penstock_domain::Capabilities;
use penstock_selection::{Facts, Names};
use penstock_store::{Pool, PoolEntry, PoolKey, StoreError, UnixMs};
use penstock_wire::OrchestratorOffer;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a pool is believed in without asking the store; and while the store is asked.
const FRESH: Duration = Duration::from_secs(1);
const BELIEVED: Duration = Duration::from_secs(5);
/// Members that are decoded without a break.
const AT_A_TIME: usize = 32;
/// Pools kept; clients choose the names of AI pools.
const MAX_POOLS: usize = 256;

/// One orchestrator of a pool.
#[derive(Debug, Clone)]
pub struct Member {
    /// As stored.
    pub entry: PoolEntry,
    /// The same for a choice.
    pub facts: Arc<Facts>,
    /// It was named by another than itself: it may be reached at public addresses only.
    pub foreign: bool,
}

/// A pool, decoded.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// When it was refreshed.
    pub refreshed_at: UnixMs,
    /// Lowest latency first.
    pub members: Vec<Member>,
}

/// The pools kept.
#[derive(Debug, Default)]
pub struct Pools(Mutex<HashMap<PoolKey, (Instant, Arc<Snapshot>)>>);

impl Pools {
    fn get(&self, key: &PoolKey) -> Option<(Instant, Arc<Snapshot>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: &PoolKey, snapshot: &Arc<Snapshot>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_POOLS && !all.contains_key(key) {
            all.retain(|_, (at, _)| at.elapsed() < FRESH);
            if all.len() >= MAX_POOLS {
                return;
            }
        }
        all.insert(key.clone(), (Instant::now(), Arc::clone(snapshot)));
    }

    /// Has the next choice look at the store: the pool was changed.
    pub fn is_outdated(&self, key: &PoolKey) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, _)) = all.get_mut(key)
            && let Some(before) = at.checked_sub(BELIEVED)
        {
            *at = before;
        }
    }
}

impl Gateway {
    /// The pool of a job; asks around if nobody is known.
    pub async fn snapshot(
        &self,
        key: &PoolKey,
        job: &Capabilities,
    ) -> Result<Arc<Snapshot>, JobError> {
        let known = self.pools.get(key);
        if let Some((at, snapshot)) = &known {
            let age = at.elapsed();
            if age >= FRESH && age < BELIEVED {
                self.refresh.soon(Old::Pool(key.clone()));
            }
            if age < BELIEVED {
                return Ok(Arc::clone(snapshot));
            }
        }
        let pool = Box::pin(self.pool_or_discover(key, job)).await?;
        let menus = self.menus(true).await?;
        Ok(self.decoded(key, pool, known.map(|(_, snapshot)| snapshot), &menus).await)
    }

    /// What is there now, for the next choice. A pool that is gone is looked for by whoever needs it.
    pub(super) async fn read_pool_again(&self, key: &PoolKey) -> Result<(), StoreError> {
        let Some(pool) = self.store.pool(key, clock::now()).await? else { return Ok(()) };
        let Ok(menus) = self.menus(false).await else { return Ok(()) };
        let known = self.pools.get(key).map(|(_, snapshot)| snapshot);
        self.decoded(key, pool, known, &menus).await;
        Ok(())
    }

    /// The pool as it is; asks nobody: a mere question must not be heard by the whole network.
    pub async fn known_snapshot(&self, key: &PoolKey) -> Result<Arc<Snapshot>, JobError> {
        let known = self.pools.get(key).map(|(_, snapshot)| snapshot);
        let pool = self.store.pool(key, clock::now()).await?.unwrap_or_default();
        let menus = self.menus(false).await?;
        Ok(self.decoded(key, pool, known, &menus).await)
    }

    async fn decoded(
        &self,
        key: &PoolKey,
        pool: Pool,
        known: Option<Arc<Snapshot>>,
        menus: &Menus,
    ) -> Arc<Snapshot> {
        let old = known.unwrap_or_default();
        let snapshot = Arc::new(self.decode(pool, &old, menus).await);
        // An empty one is looked for again at once: somebody may have come.
        if !snapshot.members.is_empty() {
            self.pools.put(key, &snapshot);
        }
        snapshot
    }

    async fn decode(&self, pool: Pool, old: &Snapshot, menus: &Menus) -> Snapshot {
        let known: HashMap<&str, &Member> =
            old.members.iter().map(|m| (m.entry.transcoder.as_str(), m)).collect();
        let mut members = Vec::with_capacity(pool.entries.len());
        for entry in pool.entries {
            let told = menus.of(&entry.asked_uri, &entry.transcoder);
            let gpus = told.and_then(|told| told.gpus.as_ref());
            members.push(match known.get(entry.transcoder.as_str()) {
                Some(before) if before.entry == entry && before.facts.gpus.as_ref() == gpus => {
                    (*before).clone()
                }
                _ => self.member(entry, gpus),
            });
            if members.len() % AT_A_TIME == 0 {
                // Choices that wait for this thread go first.
                tokio::task::yield_now().await;
            }
        }
        Snapshot { refreshed_at: pool.refreshed_at, members }
    }

    fn member(&self, entry: PoolEntry, gpus: Option<&Vec<String>>) -> Member {
        let offer = OrchestratorOffer::decode(&entry.info).ok();
        let price = offer.as_ref().and_then(|o| o.price).map(|p| p.rational());
        let address = offer.as_ref().and_then(|o| o.address);
        let address = address.map(|a| format!("0x{}", hex::encode(a))).unwrap_or_default();
        let mut facts = Facts {
            transcoder: entry.transcoder.clone(),
            address,
            score: entry.score,
            capabilities: offer.and_then(|o| o.capabilities),
            discovery_latency_ms: entry.latency_ms,
            gpus: gpus.cloned(),
            heard_ms: entry.last_seen.0,
            ..Facts::default()
        }
        .staked(self.discovered.stake_lptu(&entry.asked_uri))
        .priced(price);
        facts.region = self.region_of(&facts, &entry.asked_uri);
        let foreign = !super::discovery::same_origin(&entry.asked_uri, &entry.transcoder);
        Member { foreign, facts: Arc::new(facts), entry }
    }

    /// The operator's word goes before the list's.
    pub(super) fn region_of(&self, facts: &Facts, asked_uri: &str) -> String {
        let named = |(names, _): &&(Names, String)| names.names(facts);
        let said = self.settings.selection.regions.iter().find(named);
        said.map(|(_, region)| region.clone()).unwrap_or_else(|| self.discovered.region(asked_uri))
    }
}
