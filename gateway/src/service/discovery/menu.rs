//! The network's menu: everything that each orchestrator has, which they tell only to whoever names no
//! job (orchestrator-wire.md section 3): all their models and prices, and their hardware. Asked for by
//! `/v1/capabilities`, `/v1/models` and `/v1/embeddings`, and in the background wherever a policy wishes for GPUs.

use super::{COLD_LOOK, COLD_WAIT, Due, Patience, Question, Turn};
use crate::{
    clock,
    service::{Gateway, error::JobError},
};
use penstock_domain::{Capability, Rational};
use penstock_store::{Pool, PoolKey, UnixMs};
use penstock_wire::{CapabilityPrice, OrchestratorOffer};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// How soon a menu that nobody answered to is asked for again by a job.
const NOBODY_MS: u64 = 5_000;
/// The age at which jobs that go on with a menu have it asked for again.
const OLD_MS: u64 = 30_000;

/// The pool of full menus.
pub fn menu_pool() -> PoolKey {
    PoolKey("menu".to_owned())
}

/// What somebody told of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::service) struct Told {
    /// Names of its GPUs; `None`: it told none.
    pub gpus: Option<Vec<String>>,
    /// Its version; empty: it told none.
    pub version: String,
    /// What a second of `--embeddings-capability` costs there, wei; `None`: it was not brought there.
    pub embeddings: Option<Rational>,
}

/// What is told of nodes, by who was asked and the service URI that it named.
#[derive(Debug, Default)]
pub struct Menus(HashMap<String, Vec<(String, Told)>>);

impl Menus {
    /// Of one that was asked and one that it named: itself, or another.
    pub(in crate::service) fn of(&self, asked: &str, named: &str) -> Option<&Told> {
        self.0.get(asked)?.iter().find(|(uri, _)| uri == named).map(|(_, told)| told)
    }

    /// Of one that was asked, whatever it calls itself.
    pub(in crate::service) fn of_asked(&self, asked: &str) -> Option<&Told> {
        self.0.get(asked)?.first().map(|(_, told)| told)
    }

    fn have_embeddings(&self) -> bool {
        self.0.values().flatten().any(|(_, told)| told.embeddings.is_some())
    }
}

/// What tells one state of the menu from another: when it was asked for as a whole, the newest answer, and
/// how many there are.
type Mark = (UnixMs, Option<UnixMs>, usize);

/// The same as last read.
#[derive(Debug, Default)]
pub struct KnownMenus(Mutex<(Mark, Arc<Menus>)>);

impl Gateway {
    /// Whether the operator's policy, or that of any tier, wishes for what only menus tell of everybody:
    /// GPUs, and the version of those who do nothing but brought jobs.
    pub(in crate::service) fn asks_for_menus(&self) -> bool {
        let settings = &self.settings.selection;
        let policy = &settings.policy;
        let wishes = |gpus: &[String], version: &str| !gpus.is_empty() || !version.is_empty();
        let mut tiers = settings.tiers.values();
        wishes(&policy.gpus, &policy.min_version)
            || tiers.any(|t| {
                let version = t.min_node_version.as_deref().unwrap_or_default();
                wishes(t.gpu_classes.as_deref().unwrap_or_default(), version)
            })
    }

    /// The menu; asked for again if it is older than `max_age_ms`.
    pub(in crate::service) async fn menu_members(&self, max_age_ms: u64) -> Result<Pool, JobError> {
        if self.listed().is_empty() {
            self.refresh_source().await;
        }
        self.refreshed_menu(Patience::All, max_age_ms).await
    }

    async fn refreshed_menu(&self, patience: Patience, max_age_ms: u64) -> Result<Pool, JobError> {
        let (key, deadline) = (menu_pool(), Instant::now() + COLD_WAIT);
        let fresh = |pool: &Pool| clock::now().since_ms(pool.refreshed_at) < max_age_ms;
        loop {
            let known = self.store.pool(&key, clock::now()).await?;
            if let Some(pool) = known.as_ref().filter(|p| fresh(p)) {
                return Ok(pool.clone());
            }
            let due = Due::After(max_age_ms);
            match self.refresh_pool(&key, &Question::Menu, patience, due).await? {
                Turn::Made | Turn::Fresh => {
                    return Ok(self.store.pool(&key, clock::now()).await?.unwrap_or_default());
                }
                // What is known is better than waiting long.
                Turn::Elsewhere => {
                    if let Some(pool) = known.filter(|p| !p.entries.is_empty()) {
                        return Ok(pool);
                    }
                }
            }
            if Instant::now() >= deadline {
                return Ok(Pool::default());
            }
            tokio::time::sleep(COLD_LOOK).await;
        }
    }

    /// What nodes told of themselves, if anybody's policy asks for it. `ask`: if nobody has told yet they
    /// are asked now, as for any pool that is cold.
    pub(in crate::service) async fn menus(&self, ask: bool) -> Result<Arc<Menus>, JobError> {
        if !self.asks_for_menus() {
            return Ok(Arc::default());
        }
        let known = self.store.pool(&menu_pool(), clock::now()).await?.unwrap_or_default();
        let pool = match known.entries.is_empty() && ask {
            true => self.refreshed_menu(Patience::First, NOBODY_MS).await?,
            false => known,
        };
        Ok(self.read_menus(&pool))
    }

    /// The same, asked for or not by a policy, for whoever wants to know who has `--embeddings-capability`. Only
    /// while nobody is known to, a job waits for the answers.
    pub(in crate::service) async fn menus_of_embeddings(
        self: &Arc<Self>,
    ) -> Result<Arc<Menus>, JobError> {
        let known = self.store.pool(&menu_pool(), clock::now()).await?.unwrap_or_default();
        let menus = self.read_menus(&known);
        if !menus.have_embeddings() {
            let pool = self.refreshed_menu(Patience::All, NOBODY_MS).await?;
            return Ok(self.read_menus(&pool));
        }
        if clock::now().since_ms(known.refreshed_at) >= OLD_MS {
            let gateway = Arc::clone(self);
            self.jobs.spawn(async move {
                if let Err(error) = gateway.refreshed_menu(Patience::All, OLD_MS).await {
                    tracing::warn!(%error, "the menu was not refreshed");
                }
            });
        }
        Ok(menus)
    }

    fn read_menus(&self, pool: &Pool) -> Arc<Menus> {
        self.known_menus.read(pool, self.settings.ai.embeddings_capability.as_deref())
    }
}

impl KnownMenus {
    /// Menus are long: they are decoded once. Of the capabilities that were brought one is kept.
    fn read(&self, pool: &Pool, embeddings: Option<&str>) -> Arc<Menus> {
        let newest = pool.entries.iter().map(|e| e.last_seen).max();
        let mark = (pool.refreshed_at, newest, pool.entries.len());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 == mark {
            return Arc::clone(&known.1);
        }
        let mut menus = Menus::default();
        for entry in &pool.entries {
            let Ok(offer) = OrchestratorOffer::decode(&entry.info) else { continue };
            let is_wanted = |price: &&CapabilityPrice| {
                price.capability == Capability::Byoc.number()
                    && Some(price.constraint.as_str()) == embeddings
            };
            let embeddings = offer.capabilities_prices.iter().find(is_wanted);
            let embeddings = embeddings.map(|found| found.price.rational());
            let gpus = offer.hardware.into_iter().flat_map(|h| h.gpus.into_values());
            let gpus: Vec<_> = gpus.map(|gpu| gpu.name).collect();
            let told = Told {
                gpus: (!gpus.is_empty()).then_some(gpus),
                version: offer.capabilities.map(|c| c.version).unwrap_or_default(),
                embeddings,
            };
            let of_asked = menus.0.entry(entry.asked_uri.clone()).or_default();
            of_asked.push((entry.transcoder.clone(), told));
        }
        let menus = Arc::new(menus);
        *known = (mark, Arc::clone(&menus));
        menus
    }
}
