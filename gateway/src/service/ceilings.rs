//! Ceilings by model that an operator set while the fleet runs (operator.md section 4,
//! `/setMaxPriceForCapability`): one record in the session store, for all replicas. Each reads it with its
//! rounds of discovery, and goes before `--max-price-per-capability`.
//!
//! What a replica knows it does not forget because a store did: it writes it back. With the last replica
//! and the store it is gone; what has to last is a flag.

use super::{Gateway, error::JobError};
use crate::{
    clock,
    config::selection::{Ceiling, SelectionSettings},
};
use bytes::Bytes;
use penstock_domain::model_capability_key;
use penstock_store::{Cas, DocKey, Versioned};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long it is kept after it was last written, and how often a replica writes it anew.
const TTL_MS: u64 = 30 * 86_400_000;
const RENEW_EVERY: Duration = Duration::from_secs(86_400);
/// Most entries.
const MAX: usize = 4_096;
/// Tries at a contended record.
const CAS_TRIES: u32 = 16;

/// As written: `{capability}_{model}` and the ceiling's text.
type Written = BTreeMap<String, String>;

/// What this replica knows.
#[derive(Debug, Default)]
pub struct SetCeilings(Mutex<Known>);

#[derive(Debug, Default, Clone)]
struct Known {
    written: Written,
    read: Arc<BTreeMap<String, Ceiling>>,
    renewed: Option<Instant>,
}

impl SetCeilings {
    /// That of a model, or of all models of its capability.
    pub fn of(&self, capability: u32, model: &str) -> Option<Ceiling> {
        let read = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).read);
        let entry = |model: &str| read.get(&format!("{capability}_{model}"));
        entry(model).or_else(|| entry("default")).cloned()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, written: Written, renewed: bool) {
        let read =
            written.iter().filter_map(|(key, text)| Some((key.clone(), Ceiling::parse(text)?)));
        let read = Arc::new(read.collect());
        self.with(|known| {
            let now = renewed.then(Instant::now);
            *known = Known { written, read, renewed: now.or(known.renewed) };
        });
    }
}

fn key() -> DocKey {
    DocKey::new("ceilings", "all")
}

impl Gateway {
    /// Sets one for the whole fleet, `NUMBER[wei|eth|usd]/UNITS`. False: there are too many, or it is in
    /// dollars and nobody says what ether costs.
    pub async fn set_ceiling(
        &self,
        capability: penstock_domain::Capability,
        model: &str,
        text: &str,
    ) -> Result<bool, JobError> {
        let in_dollars = matches!(Ceiling::parse(text), Some(Ceiling::Usd(_)));
        if in_dollars && !prices_dollars(&self.settings.selection) {
            return Ok(false);
        }
        let key = key();
        for _ in 0..CAS_TRIES {
            let (version, mut written) = self.stored_ceilings().await?;
            written.insert(model_capability_key(capability, model), text.to_owned());
            if written.len() > MAX {
                return Ok(false);
            }
            let value = Bytes::from(serde_json::to_vec(&written).unwrap_or_default());
            let put = self.store.put_doc(&key, version, value, TTL_MS, clock::now());
            if let Cas::Stored(_) = put.await? {
                self.set_ceilings.keep(written, true);
                return Ok(true);
            }
        }
        Err(JobError::Busy("others set ceilings at the same time".to_owned()))
    }

    /// Reads what is set, and writes it anew now and then.
    pub(super) async fn read_ceilings(&self) -> Result<(), JobError> {
        let (version, written) = self.stored_ceilings().await?;
        let lost = version.is_none() && !written.is_empty();
        let renewed = self.set_ceilings.with(|known| known.renewed);
        let old = renewed.is_none_or(|at| at.elapsed() >= RENEW_EVERY);
        let renew = lost || (version.is_some() && old);
        if renew {
            let value = Bytes::from(serde_json::to_vec(&written).unwrap_or_default());
            // Another replica's write is as good.
            let _: Cas<_> =
                self.store.put_doc(&key(), version, value, TTL_MS, clock::now()).await?;
        }
        self.set_ceilings.keep(written, renew);
        Ok(())
    }

    /// What is stored; where nothing is, what is known here.
    async fn stored_ceilings(
        &self,
    ) -> Result<(Option<penstock_store::Version>, Written), JobError> {
        let Some(Versioned { version, value }) = self.store.doc(&key(), clock::now()).await? else {
            return Ok((None, self.set_ceilings.with(|known| known.written.clone())));
        };
        Ok((Some(version), serde_json::from_slice(&value).unwrap_or_default()))
    }
}

fn prices_dollars(settings: &SelectionSettings) -> bool {
    settings.eth_usd.source != penstock_clients::PriceSource::None
}
