//! What the operator, the caller's tier and the caller's account want of orchestrators, put together
//! for one choice; and what may be paid.

use super::{Gateway, error::JobError};
use crate::front::caller::Caller;
use penstock_domain::{Capabilities, Rational};
use penstock_selection::Policy;

impl Gateway {
    /// What counts when an orchestrator is chosen for this caller and job.
    pub fn policy(&self, caller: &Caller, job: &Capabilities) -> Result<Policy, JobError> {
        let settings = &self.settings.selection;
        let mut policy = settings.policy.clone();
        if let Some(tier) = caller.tier.as_ref().and_then(|t| settings.tiers.get(t)) {
            let put = |to: &mut Vec<String>, from: &Option<Vec<String>>| {
                if let Some(list) = from {
                    to.clone_from(list);
                }
            };
            put(&mut policy.regions, &tier.regions);
            put(&mut policy.gpus, &tier.gpu_classes);
            policy.include = tier.include.clone().unwrap_or(policy.include);
            policy.exclude = tier.exclude.clone().unwrap_or(policy.exclude);
            policy.trusted_only = tier.trusted_only.unwrap_or(policy.trusted_only);
            policy.min_version = tier.min_node_version.clone().unwrap_or(policy.min_version);
        }
        policy.max_price = self.price_ceiling(caller, &models_of(job))?;
        Ok(policy)
    }

    /// The highest price of a unit at which something is begun for this caller: the lower one of the
    /// account's and of the first of these that is set: the tier's for the job's models, what was set for
    /// them at run time, the gateway's for them, the tier's, the gateway's. Of a job with several models the sum of theirs counts (selection.md
    /// section 6).
    pub fn price_ceiling(
        &self,
        caller: &Caller,
        models: &[(u32, &str)],
    ) -> Result<Option<Rational>, JobError> {
        let settings = &self.settings.selection;
        let tier = caller.tier.as_ref().and_then(|t| settings.tiers.get(t));
        let of_tier = tier.and_then(|t| t.max_price_per_capability.as_ref());
        let of_model = |(capability, model): &(u32, &str)| {
            let ceiling = of_tier.and_then(|c| c.of(*capability, model)).cloned();
            let ceiling = ceiling.or_else(|| self.set_ceilings.of(*capability, model));
            ceiling.or_else(|| settings.ceilings.of(*capability, model).cloned())
        };
        let of_models: Vec<_> = models.iter().filter_map(of_model).collect();
        let ours = match of_models.is_empty() {
            true => tier.and_then(|t| t.max_price.clone()).or(settings.max_price.clone()),
            false => None,
        };
        let ether = self.eth_usd.micro_usd_per_eth();
        let mut sum = None;
        for ceiling in of_models.into_iter().chain(ours) {
            // Without the price of ether nobody can say what is too dear: then nothing is bought.
            let wei = ceiling.wei(ether.as_ref()).ok_or_else(|| {
                let why = "the price of ether is not known, and the price limit is in dollars";
                JobError::NoOrchestrators(why.to_owned())
            })?;
            sum = Some(sum.map_or_else(|| wei.clone(), |sum: Rational| &sum + &wei));
        }
        Ok(caller.price_ceiling(sum.as_ref()).cloned())
    }

    /// The highest price at which a session that was begun goes on.
    pub fn tolerated_price(
        &self,
        caller: &Caller,
        models: &[(u32, &str)],
    ) -> Result<Option<Rational>, JobError> {
        let percent = self.settings.selection.price_buffer_percent;
        let buffer = Rational::new(i128::from(percent) + 100, 100).unwrap_or(Rational::ONE);
        Ok(self.price_ceiling(caller, models)?.map(|limit| &limit * &buffer))
    }
}

/// The models that a job names, by capability; video names none.
pub fn models_of(job: &Capabilities) -> Vec<(u32, &str)> {
    let named = job.models.iter();
    named.flat_map(|(n, models)| models.keys().map(|model| (*n, model.as_str()))).collect()
}
