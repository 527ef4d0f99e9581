//! What the worker tells its orchestrator about its models. Pure.

use super::pool::{Member, State};
use penstock_domain::{Capabilities, CapabilitySet, version_at_least};
use penstock_wire::hardware::Hardware;

/// An AI registration's content. When it changes, the worker registers anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Capabilities with their models.
    pub capabilities: Capabilities,
    /// Cards, by model.
    pub hardware: Vec<Hardware>,
}

impl Offer {
    /// The offer of runners in these states. Restarting ones are still offered.
    pub fn of(members: &[Member], states: &[State], node_version: &str) -> Self {
        let mut offer = Self::default();
        for (member, state) in members.iter().zip(states) {
            match state {
                State::Down(_) => {}
                State::Restarting => offer.add(member, None),
                State::Live(live) => {
                    offer.add(member, Some(&live.version));
                    let hardware = Hardware {
                        pipeline: member.capability.pipeline(),
                        model_id: member.model_id.clone(),
                        gpus: live.gpus.clone(),
                    };
                    if !hardware.gpus.is_empty() && !offer.hardware.contains(&hardware) {
                        offer.hardware.push(hardware);
                    }
                }
            }
        }
        offer.capabilities.version = node_version.to_owned();
        offer
    }

    /// Nothing to register for.
    pub fn is_empty(&self) -> bool {
        self.capabilities.models.is_empty()
    }

    fn add(&mut self, member: &Member, version: Option<&str>) {
        let number = member.capability.number();
        self.capabilities.set.union(&CapabilitySet::of([member.capability]));
        let sum = self.capabilities.capacities.entry(number).or_default();
        *sum = sum.saturating_add(member.capacity);
        let models = self.capabilities.models.entry(number).or_default();
        let model = models.entry(member.model_id.clone()).or_default();
        model.capacity = model.capacity.saturating_add(member.capacity);
        model.warm |= member.warm;
        // The lowest of several is what a job can count on.
        if let Some(version) = version
            && (model.runner_version.is_empty() || version_at_least(version, &model.runner_version))
        {
            model.runner_version = version.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::{client::Endpoint, models, pool::Live};
    use penstock_domain::Capability;
    use std::{collections::BTreeMap, sync::Arc};

    fn live(version: &str) -> State {
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        let gpus = BTreeMap::from([("0".to_owned(), penstock_wire::hardware::Gpu::default())]);
        State::Live(Arc::new(Live { endpoint, version: version.into(), gpus }))
    }

    #[test]
    fn sums_versions_and_absence() {
        let text = r#"[{"pipeline":"audio-to-text","model_id":"a","warm":true},
                       {"pipeline":"audio-to-text","model_id":"b","url":"http://x","capacity":4}]"#;
        let entries = models::parse(text).unwrap();
        let members =
            [Member::new(&entries[0], 1), Member::new(&entries[0], 1), Member::new(&entries[1], 4)];
        let down = State::Down(String::new());
        assert!(Offer::of(&members, &[down.clone(), down.clone(), down.clone()], "1").is_empty());

        let offer = Offer::of(&members, &[live("0.2.0"), live("0.1.9"), down.clone()], "0.9.1");
        let model = offer.capabilities.model(Capability::AudioToText, "a").unwrap();
        assert_eq!((model.capacity, model.warm, model.runner_version.as_str()), (2, true, "0.1.9"));
        assert_eq!(offer.capabilities.capacities[&31], 2);
        assert_eq!(offer.capabilities.set.numbers().collect::<Vec<_>>(), [31]);
        assert_eq!((offer.hardware.len(), offer.capabilities.version.as_str()), (1, "0.9.1"));
        assert!(offer.capabilities.model(Capability::AudioToText, "b").is_none());

        let all = Offer::of(&members, &[State::Restarting, live("1"), live("1")], "0.9.1");
        assert_eq!(all.capabilities.capacities[&31], 6);
    }
}
