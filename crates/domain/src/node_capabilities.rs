//! What a node offers or a job asks for beyond plain bits: capacities, versions, models, and the
//! comparison of the two (orchestrator-wire.md section 5).

use crate::{Capability, CapabilitySet, version_at_least};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// One model under a capability, as offered or as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelConstraint {
    /// Offered: loaded already. Asked for: has to be.
    pub warm: bool,
    /// Jobs at once.
    pub capacity: u32,
    /// Offered: the runner's version. Asked for: at least this; empty is any.
    pub runner_version: String,
    /// Jobs running now; only in what live orchestrators report.
    pub capacity_in_use: u32,
}

/// Models by id.
pub type Models = BTreeMap<String, ModelConstraint>;

/// A node's offer or a job's demand. Capability numbers stay plain numbers here, because a newer
/// peer's unknown ones have to survive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What is offered or asked for.
    pub set: CapabilitySet,
    /// What a job must ask for to be taken; nobody sends any today.
    pub mandatories: CapabilitySet,
    /// Jobs at once by capability number.
    pub capacities: BTreeMap<u32, u32>,
    /// The node's version.
    pub version: String,
    /// A job's minimum for [`Self::version`]; empty is any.
    pub min_version: String,
    /// Models by capability number. A capability without an entry is not constrained.
    pub models: BTreeMap<u32, Models>,
}

/// Why a job and a node do not go together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Incompatible {
    /// The node is older than the job allows.
    #[error("node version {version:?} is below {minimum:?}")]
    Version {
        /// The job's minimum.
        minimum: String,
        /// The node's.
        version: String,
    },
    /// The node insists on something that the job does not ask for.
    #[error("the node requires capabilities that the job lacks")]
    Mandatory,
    /// The node serves other models.
    #[error("capability {capability} without model {model:?}")]
    Model {
        /// Its number.
        capability: u32,
        /// The job's model.
        model: String,
    },
    /// The node would have to load the model first.
    #[error("model {model:?} is not warm")]
    NotWarm {
        /// The job's model.
        model: String,
    },
    /// The model's runner is too old.
    #[error("runner of {model:?} has version {version:?}, below {minimum:?}")]
    RunnerVersion {
        /// The job's model.
        model: String,
        /// The job's minimum.
        minimum: String,
        /// The runner's.
        version: String,
    },
    /// The node lacks something.
    #[error("the node lacks capability {0}")]
    Missing(u32),
}

impl Capabilities {
    /// The capabilities of a set, with capacity 1 for each and no models.
    pub fn of_set(set: CapabilitySet) -> Self {
        let capacities = set.numbers().map(|n| (n, 1)).collect();
        Self { set, capacities, ..Self::default() }
    }

    /// What an AI job asks for: the default set, its capability, and the model. `warm` demands
    /// that it is loaded already.
    pub fn ai_job(capability: Capability, model: &str, warm: bool) -> Self {
        let mut set = CapabilitySet::default_video();
        set.insert(capability);
        let mut job = Self::of_set(set);
        let constraint = ModelConstraint { warm, ..ModelConstraint::default() };
        job.models.entry(capability.number()).or_default().insert(model.to_owned(), constraint);
        job
    }

    /// The constraint on one model.
    pub fn model(&self, capability: Capability, model: &str) -> Option<&ModelConstraint> {
        self.models.get(&capability.number())?.get(model)
    }

    /// `self` is the job: whether `node` can take it, or the first reason why not.
    pub fn fits(&self, node: &Self) -> Result<(), Incompatible> {
        if !version_at_least(&self.min_version, &node.version) {
            return Err(Incompatible::Version {
                minimum: self.min_version.clone(),
                version: node.version.clone(),
            });
        }
        if !node.mandatories.is_subset(&self.set) {
            return Err(Incompatible::Mandatory);
        }
        for (capability, wanted) in &self.models {
            if let Some(offered) = node.models.get(capability) {
                models_fit(*capability, wanted, offered)?;
            }
        }
        if !self.set.is_subset(&node.set) {
            let missing = self.set.numbers().find(|n| !node.set.contains_number(*n));
            return Err(Incompatible::Missing(missing.unwrap_or_default()));
        }
        Ok(())
    }

    /// [`Self::fits`] for a node that may have sent no capabilities at all: then only a job that
    /// needs nothing beyond the legacy set is taken there (selection.md section 3).
    pub fn fits_answer(&self, node: Option<&Self>) -> Result<(), Incompatible> {
        match node {
            Some(node) => self.fits(node),
            None => {
                let legacy = CapabilitySet::legacy();
                match self.set.numbers().find(|n| !legacy.contains_number(*n)) {
                    Some(missing) => Err(Incompatible::Missing(missing)),
                    None => Ok(()),
                }
            }
        }
    }

    /// Adds a worker's capacities and models to a node's offer. Sums stop at the largest number.
    pub fn add(&mut self, worker: &Self) {
        for (number, capacity) in &worker.capacities {
            let sum = self.capacities.entry(*number).or_default();
            *sum = sum.saturating_add(*capacity);
            self.set.insert_number(*number);
        }
        for (number, models) in &worker.models {
            let mine = self.models.entry(*number).or_default();
            for (id, model) in models {
                let entry = mine.entry(id.clone()).or_default();
                entry.capacity = entry.capacity.saturating_add(model.capacity);
                entry.warm |= model.warm;
                // The lowest of several runners is what a job can count on.
                if entry.runner_version.is_empty()
                    || version_at_least(&model.runner_version, &entry.runner_version)
                {
                    entry.runner_version.clone_from(&model.runner_version);
                }
            }
        }
    }

    /// Takes a worker's capacities and models away again; what falls to 0 disappears.
    pub fn remove(&mut self, worker: &Self) {
        for (number, capacity) in &worker.capacities {
            let Some(sum) = self.capacities.get_mut(number) else { continue };
            *sum = sum.saturating_sub(*capacity);
            if *sum == 0 {
                self.capacities.remove(number);
                self.set.remove_number(*number);
            }
        }
        for (number, models) in &worker.models {
            let Some(mine) = self.models.get_mut(number) else { continue };
            for (id, model) in models {
                let Some(entry) = mine.get_mut(id) else { continue };
                entry.capacity = entry.capacity.saturating_sub(model.capacity);
                if entry.capacity == 0 {
                    mine.remove(id);
                }
            }
            if mine.is_empty() {
                self.models.remove(number);
            }
        }
    }
}

fn models_fit(capability: u32, wanted: &Models, offered: &Models) -> Result<(), Incompatible> {
    for (id, want) in wanted {
        let model = || id.clone();
        let Some(offer) = offered.get(id) else {
            return Err(Incompatible::Model { capability, model: model() });
        };
        if want.warm && !offer.warm {
            return Err(Incompatible::NotWarm { model: model() });
        }
        if !version_at_least(&want.runner_version, &offer.runner_version) {
            return Err(Incompatible::RunnerVersion {
                model: model(),
                minimum: want.runner_version.clone(),
                version: offer.runner_version.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(model: &str, warm: bool) -> Capabilities {
        let mut node = Capabilities::ai_job(Capability::AudioToText, model, warm);
        node.version = "0.8.5".into();
        for models in node.models.values_mut() {
            for m in models.values_mut() {
                m.capacity = 2;
                m.runner_version = "0.13.1".into();
            }
        }
        node
    }

    #[test]
    fn a_job_needs_its_model() {
        let job = Capabilities::ai_job(Capability::AudioToText, "m", false);
        assert_eq!(job.fits(&node("m", false)), Ok(()));
        assert!(matches!(job.fits(&node("n", true)), Err(Incompatible::Model { .. })));
        let warm = Capabilities::ai_job(Capability::AudioToText, "m", true);
        assert!(matches!(warm.fits(&node("m", false)), Err(Incompatible::NotWarm { .. })));
        // A node that does not constrain the capability takes any model.
        let mut open = node("n", true);
        open.models.clear();
        assert_eq!(warm.fits(&open), Ok(()));
        open.set = CapabilitySet::default_video();
        assert_eq!(warm.fits(&open), Err(Incompatible::Missing(31)));
    }

    #[test]
    fn versions_and_mandatories() {
        let mut job = Capabilities::ai_job(Capability::AudioToText, "m", false);
        job.min_version = "0.9".into();
        assert!(matches!(job.fits(&node("m", true)), Err(Incompatible::Version { .. })));
        job.min_version = "0.8".into();
        assert_eq!(job.fits(&node("m", true)), Ok(()));
        job.models.get_mut(&31).unwrap().get_mut("m").unwrap().runner_version = "0.14".into();
        assert!(matches!(job.fits(&node("m", true)), Err(Incompatible::RunnerVersion { .. })));
        let mut strict = node("m", true);
        strict.mandatories = CapabilitySet::of([Capability::Byoc]);
        job.models.clear();
        assert_eq!(job.fits(&strict), Err(Incompatible::Mandatory));
    }

    #[test]
    fn a_silent_node_takes_legacy_jobs_only() {
        let legacy = Capabilities::of_set(CapabilitySet::of([Capability::H264, Capability::Gop]));
        assert_eq!(legacy.fits_answer(None), Ok(()));
        let video = Capabilities::of_set(CapabilitySet::of([Capability::AuthToken]));
        assert_eq!(video.fits_answer(None), Err(Incompatible::Missing(12)));
    }

    #[test]
    fn workers_come_and_go() {
        let mut orchestrator = Capabilities::of_set(CapabilitySet::default_video());
        let before = orchestrator.clone();
        let (a, b) = (node("m", true), node("m", false));
        orchestrator.add(&a);
        orchestrator.add(&b);
        assert_eq!(orchestrator.model(Capability::AudioToText, "m").unwrap().capacity, 4);
        assert_eq!(orchestrator.capacities.get(&31), Some(&2));
        orchestrator.remove(&a);
        assert_eq!(orchestrator.model(Capability::AudioToText, "m").unwrap().capacity, 2);
        orchestrator.remove(&b);
        assert!(!orchestrator.set.contains(Capability::AudioToText));
        assert_eq!(orchestrator, before);
    }
}
