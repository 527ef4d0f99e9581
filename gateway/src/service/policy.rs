//! What the operator, the caller's tier and the caller's account want of orchestrators, put together
//! for one choice; and what may be paid.

use super::{Gateway, error::JobError};
use crate::front::caller::Caller;
use penstock_domain::Rational;
use penstock_selection::Policy;

impl Gateway {
    /// What counts when an orchestrator is chosen for this caller.
    pub fn policy(&self, caller: &Caller) -> Result<Policy, JobError> {
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
        policy.max_price = self.price_ceiling(caller)?;
        Ok(policy)
    }

    /// The highest price at which something is begun for this caller: the lowest of the tier's (or, for
    /// a tier without one, the gateway's) and the account's.
    pub fn price_ceiling(&self, caller: &Caller) -> Result<Option<Rational>, JobError> {
        let settings = &self.settings.selection;
        let tier = caller.tier.as_ref().and_then(|t| settings.tiers.get(t));
        let ours = tier.and_then(|t| t.max_price.as_ref()).or(settings.max_price.as_ref());
        let ours = match ours {
            None => None,
            Some(ceiling) => {
                let ether = self.eth_usd.micro_usd_per_eth();
                // Without the price of ether nobody can say what is too dear: then nothing is bought.
                Some(ceiling.wei(ether.as_ref()).ok_or_else(|| {
                    let why = "the price of ether is not known, and the price limit is in dollars";
                    JobError::NoOrchestrators(why.to_owned())
                })?)
            }
        };
        Ok(caller.price_ceiling(ours.as_ref()).cloned())
    }

    /// The highest price at which a session that was begun goes on.
    pub fn tolerated_price(&self, caller: &Caller) -> Result<Option<Rational>, JobError> {
        let percent = self.settings.selection.price_buffer_percent;
        let buffer = Rational::new(i128::from(percent) + 100, 100).unwrap_or(Rational::ONE);
        Ok(self.price_ceiling(caller)?.map(|limit| &limit * &buffer))
    }
}
