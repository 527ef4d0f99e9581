//! The network's menu: everything that each orchestrator has, which they tell only to whoever names no
//! job (orchestrator-wire.md section 3): all their models and prices, and their hardware. Asked for by
//! `/v1/capabilities` and `/v1/models`, and in the background wherever a policy wishes for GPUs.

use super::{COLD_LOOK, COLD_WAIT, Due, Patience, Question, Turn};
use crate::{
    clock,
    service::{Gateway, error::JobError},
};
use penstock_store::{Pool, PoolKey, UnixMs};
use penstock_wire::OrchestratorOffer;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// How soon a menu that nobody answered to is asked for again by a job.
const NOBODY_MS: u64 = 5_000;

/// The pool of full menus.
pub fn menu_pool() -> PoolKey {
    PoolKey("menu".to_owned())
}

/// Names of GPUs, by who was asked and the service URI that it named.
pub(in crate::service) type Gpus = HashMap<(String, String), Vec<String>>;

/// What tells one state of the menu from another: when it was asked for as a whole, the newest answer, and
/// how many there are.
type Mark = (UnixMs, Option<UnixMs>, usize);

/// The same as last read.
#[derive(Debug, Default)]
pub struct KnownGpus(Mutex<(Mark, Arc<Gpus>)>);

impl Gateway {
    /// Whether the operator's policy, or that of any tier, wishes for GPUs.
    pub(in crate::service) fn asks_for_gpus(&self) -> bool {
        let settings = &self.settings.selection;
        let of_tiers = settings.tiers.values().filter_map(|t| t.gpu_classes.as_ref());
        !settings.policy.gpus.is_empty() || of_tiers.into_iter().any(|words| !words.is_empty())
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

    /// Who has which GPUs, if anybody's policy asks for them. Of those that did not tell nothing is in
    /// it. `ask`: if nobody has told yet they are asked now, as for any pool that is cold.
    pub(in crate::service) async fn gpus(&self, ask: bool) -> Result<Arc<Gpus>, JobError> {
        if !self.asks_for_gpus() {
            return Ok(Arc::default());
        }
        let known = self.store.pool(&menu_pool(), clock::now()).await?.unwrap_or_default();
        let pool = match known.entries.is_empty() && ask {
            true => self.refreshed_menu(Patience::First, NOBODY_MS).await?,
            false => known,
        };
        Ok(self.known_gpus.read(&pool))
    }
}

impl KnownGpus {
    /// Menus are long: they are decoded once.
    fn read(&self, pool: &Pool) -> Arc<Gpus> {
        let newest = pool.entries.iter().map(|e| e.last_seen).max();
        let mark = (pool.refreshed_at, newest, pool.entries.len());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 == mark {
            return Arc::clone(&known.1);
        }
        let told = pool.entries.iter().filter_map(|entry| {
            let offer = OrchestratorOffer::decode(&entry.info).ok()?;
            let gpus = offer.hardware.into_iter().flat_map(|h| h.gpus.into_values());
            let names: Vec<_> = gpus.map(|gpu| gpu.name).collect();
            let who = (entry.asked_uri.clone(), entry.transcoder.clone());
            (!names.is_empty()).then_some((who, names))
        });
        let gpus = Arc::new(told.collect::<Gpus>());
        *known = (mark, Arc::clone(&gpus));
        gpus
    }
}
