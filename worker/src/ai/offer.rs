//! What the worker tells its orchestrator about its models. Pure.

use super::pool::{Member, State};
use penstock_domain::{Capabilities, CapabilitySet, version_at_least};
use penstock_wire::hardware::{Gpu, Hardware};
use std::collections::BTreeMap;

/// An AI registration's content. When it changes, the worker registers anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Capabilities with their models.
    pub capabilities: Capabilities,
    /// Cards, by model.
    pub hardware: Vec<Hardware>,
}

impl Offer {
    /// The offer of runners in these states. Restarting ones are still offered, as
    /// they were. Runners of live video are no part of it: see `live`.
    pub fn of(members: &[Member], states: &[State], node_version: &str) -> Self {
        let mut offer = Self::default();
        for (member, state) in members.iter().zip(states) {
            match state {
                _ if member.is_live_video() => {}
                State::Down(_) => {}
                State::Live(live) | State::Restarting(live) => {
                    offer.add(member, &live.version, &live.gpus);
                }
                State::OnDemand(known) => offer.add(member, &known.version, &known.gpus),
            }
        }
        offer.capabilities.version = node_version.to_owned();
        offer
    }

    /// Nothing to register for.
    pub fn is_empty(&self) -> bool {
        self.capabilities.models.is_empty()
    }

    /// Whether an orchestrator that knows `self` has to hear of `newer`. Free memory comes and
    /// goes and is no reason.
    pub fn differs_from(&self, newer: &Self) -> bool {
        let cards = |offer: &Self| {
            let mut hardware = offer.hardware.clone();
            hardware.iter_mut().flat_map(|h| h.gpus.values_mut()).for_each(|g| g.memory_free = 0);
            hardware
        };
        self.capabilities != newer.capabilities || cards(self) != cards(newer)
    }

    fn add(&mut self, member: &Member, version: &str, gpus: &BTreeMap<String, Gpu>) {
        let number = member.capability.number();
        self.capabilities.set.union(&CapabilitySet::of([member.capability]));
        let sum = self.capabilities.capacities.entry(number).or_default();
        *sum = sum.saturating_add(member.capacity);
        let models = self.capabilities.models.entry(number).or_default();
        let model = models.entry(member.model_id.clone()).or_default();
        model.capacity = model.capacity.saturating_add(member.capacity);
        model.warm |= member.warm;
        // The lowest of several is what a job can count on.
        // Of containers that have not run yet no version is known.
        let lower =
            model.runner_version.is_empty() || version_at_least(version, &model.runner_version);
        if lower && !version.is_empty() {
            version.clone_into(&mut model.runner_version);
        }
        let hardware = Hardware {
            pipeline: member.capability.pipeline(),
            model_id: member.model_id.clone(),
            gpus: gpus.clone(),
        };
        if !hardware.gpus.is_empty() && !self.hardware.contains(&hardware) {
            self.hardware.push(hardware);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::{client::Endpoint, models, pool::Live};
    use penstock_domain::Capability;
    use std::sync::Arc;

    fn described(version: &str, memory_free: i64) -> Arc<Live> {
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        let gpu = Gpu { memory_free, ..Gpu::default() };
        let gpus = BTreeMap::from([("0".to_owned(), gpu)]);
        Arc::new(Live { endpoint, version: version.into(), gpus })
    }

    fn live(version: &str) -> State {
        State::Live(described(version, 0))
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

        let all = Offer::of(&members, &[live("1"), live("1"), live("1")], "0.9.1");
        assert_eq!(all.capabilities.capacities[&31], 6);
        assert!(offer.differs_from(&all));
    }

    #[test]
    fn a_restart_is_no_news() {
        let text = r#"[{"pipeline":"audio-to-text","model_id":"a"}]"#;
        let members = [Member::new(&models::parse(text).unwrap()[0], 1)];
        let of = |state| Offer::of(&members, &[state], "0.9.1");
        let before = of(live("1"));
        assert!(!before.differs_from(&of(State::Restarting(described("1", 0)))));
        assert!(!before.differs_from(&of(State::Live(described("1", 77)))));
        assert!(before.differs_from(&of(State::Live(described("2", 0)))));
        assert!(before.differs_from(&of(State::Down(String::new()))));
    }
}
