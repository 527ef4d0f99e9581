//! The choice itself: filter; then for a stream the best that it knows, else a draw among those that
//! it has not tried, and for a single job a draw among all; else a suspended one as the last resort.

use crate::{
    Candidate, Circuit, Exclusion, Facts, Names, Speed, Weights, circuit,
    draw::{draw, preferred},
};
use penstock_domain::{Capabilities, Rational, version_at_least};
use rand::Rng;
use serde::Serialize;

/// What the operator or the caller wants.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Highest price in wei per unit; equality passes. `None`: no limit.
    pub max_price: Option<Rational>,
    /// Take the affordable-or-not rest when the limit leaves nobody.
    pub ignore_max_price_if_needed: bool,
    /// What the latency scores of the candidates are of, and so how they count.
    pub speed: Speed,
    /// For the draw.
    pub weights: Weights,
    /// Only these may be used; empty: all.
    pub include: Names,
    /// These must not be used.
    pub exclude: Names,
    /// Only in these regions, lower case; empty: anywhere.
    pub regions: Vec<String>,
    /// Only with a GPU whose name contains one of these words, lower case; empty: any.
    pub gpus: Vec<String>,
    /// Only those that the discovery source trusts.
    pub trusted_only: bool,
    /// Oldest node version; empty: any.
    pub min_version: String,
    /// What a node said about its room counts for so long.
    pub capacity_max_age_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_price: None,
            ignore_max_price_if_needed: false,
            speed: Speed::STREAM,
            weights: Weights::default(),
            include: Names::default(),
            exclude: Names::default(),
            regions: Vec::new(),
            gpus: Vec::new(),
            trusted_only: false,
            min_version: String::new(),
            capacity_max_age_ms: 30_000,
        }
    }
}

/// Why the chosen one was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It had the last job of the same stream, and is fast enough. Said by whoever knows streams.
    Sticky,
    /// The lowest latency score, and fast enough.
    BestKnown,
    /// Drawn, and without a score.
    Untried,
    /// Drawn for a single job.
    Drawn,
    /// Everybody else is excluded; this one's suspension ends soonest.
    LastResort,
    /// Nobody was within the price limit, and the policy allows going above it.
    AbovePriceLimit,
}

/// What was decided, for the caller and for the operator who asks why.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// Index into the candidates, and why that one.
    pub chosen: Option<(usize, Reason)>,
    /// Indices left out, and why.
    pub excluded: Vec<(usize, Exclusion)>,
}

impl Decision {
    /// "7 of 12 excluded by price, 1 by region", most frequent cause first; empty when nobody was
    /// excluded.
    pub fn summary(&self, candidates: usize) -> String {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for (_, exclusion) in &self.excluded {
            *counts.entry(exclusion.label()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(label, n)| (std::cmp::Reverse(*n), *label));
        let mut parts = counts.into_iter();
        let Some((label, n)) = parts.next() else { return String::new() };
        let first = format!("{n} of {candidates} excluded by {label}");
        parts.fold(first, |text, (label, n)| format!("{text}, {n} by {label}"))
    }
}

/// Decides who takes `job`. `now_ms` is Unix time; `rng` is drawn from at most once.
pub fn choose(
    candidates: &[Candidate],
    job: &Capabilities,
    policy: &Policy,
    now_ms: u64,
    rng: &mut impl Rng,
) -> Decision {
    let mut decision = Decision::default();
    let mut eligible = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        match exclusion(candidate, job, policy, now_ms) {
            Some(reason) => decision.excluded.push((index, reason)),
            None => eligible.push((index, candidate)),
        }
    }
    decision.chosen =
        among(&eligible, job, policy, rng).or_else(|| fallback(candidates, &decision, policy));
    decision
}

/// In the order in which an operator would want to hear it: what cannot be changed, what was wished,
/// what passes by itself.
fn exclusion(c: &Candidate, job: &Capabilities, policy: &Policy, now_ms: u64) -> Option<Exclusion> {
    let facts = &*c.facts;
    if let Err(reason) = job.fits_answer(facts.capabilities.as_ref()) {
        return Some(reason.into());
    }
    if let Some(unwanted) = unwanted(facts, policy) {
        return Some(unwanted);
    }
    if c.tried {
        return Some(Exclusion::Tried);
    }
    if let Some(limit) = &policy.max_price {
        match &facts.price {
            None => return Some(Exclusion::NoPrice),
            Some(price) if price > limit => {
                return Some(Exclusion::Price { price: price.clone(), limit: limit.clone() });
            }
            Some(_) => {}
        }
    }
    if let Some(full) = full(facts, job, policy, now_ms) {
        return Some(full);
    }
    let remaining = |until: u64| until.saturating_sub(now_ms);
    match circuit(c.breaker.as_ref(), c.suspended_until_ms, now_ms) {
        Circuit::Open => Some(Exclusion::Suspended {
            remaining_ms: remaining(c.suspended_until_ms.unwrap_or_default()),
        }),
        Circuit::HalfOpen => {
            let remaining_ms = remaining(c.breaker.map_or(0, |b| b.probing_until_ms));
            (remaining_ms > 0).then_some(Exclusion::Probing { remaining_ms })
        }
        Circuit::Closed => None,
    }
}

/// What the policy does not want, whatever the job.
fn unwanted(facts: &Facts, policy: &Policy) -> Option<Exclusion> {
    if !policy.include.is_empty() && !policy.include.names(facts) {
        return Some(Exclusion::NotIncluded);
    }
    if policy.exclude.names(facts) {
        return Some(Exclusion::Excluded);
    }
    if policy.trusted_only && facts.score < 1.0 {
        return Some(Exclusion::Untrusted { score: facts.score });
    }
    let version = facts.capabilities.as_ref().map_or("", |c| c.version.as_str());
    if !version_at_least(&policy.min_version, version) {
        return Some(Exclusion::Version {
            minimum: policy.min_version.clone(),
            version: version.to_owned(),
        });
    }
    if !policy.regions.is_empty() && !policy.regions.contains(&facts.region) {
        return Some(Exclusion::Region { region: facts.region.clone() });
    }
    unwanted_gpus(facts, policy)
}

fn unwanted_gpus(facts: &Facts, policy: &Policy) -> Option<Exclusion> {
    if policy.gpus.is_empty() {
        return None;
    }
    let Some(gpus) = &facts.gpus else { return Some(Exclusion::GpuUnknown) };
    let has = |word: &String| gpus.iter().any(|gpu| gpu.to_lowercase().contains(word));
    (!policy.gpus.iter().any(has)).then(|| Exclusion::Gpu { gpus: gpus.clone() })
}

/// A node that counts its room says so as `capacity` left and `capacity_in_use` (selection.md section
/// 5 of the wire's capability 35); one that does not leaves the second at 0. What it said long ago
/// tells nothing.
fn full(facts: &Facts, job: &Capabilities, policy: &Policy, now_ms: u64) -> Option<Exclusion> {
    let age_ms = now_ms.saturating_sub(facts.heard_ms);
    if age_ms >= policy.capacity_max_age_ms {
        return None;
    }
    let offered = facts.capabilities.as_ref()?;
    job.models.iter().find_map(|(capability, models)| {
        let there = offered.models.get(capability)?;
        let none_left = |model: &&String| {
            there.get(*model).is_some_and(|m| m.capacity == 0 && m.capacity_in_use > 0)
        };
        let model = models.keys().find(none_left)?;
        Some(Exclusion::Full { model: model.clone(), age_ms })
    })
}

fn among(
    eligible: &[(usize, &Candidate)],
    job: &Capabilities,
    policy: &Policy,
    rng: &mut impl Rng,
) -> Option<(usize, Reason)> {
    let exponent = match policy.speed {
        Speed::OfJobs { exponent } => exponent,
        Speed::OfStream { threshold } => {
            let scores = eligible.iter().filter_map(|(index, c)| Some((*index, c.latency_score?)));
            let best = scores.min_by(|a, b| a.1.total_cmp(&b.1));
            let untried: Vec<_> =
                eligible.iter().filter(|(_, c)| c.latency_score.is_none()).copied().collect();
            return match best {
                Some((index, score)) if score <= threshold || untried.is_empty() => {
                    Some((index, Reason::BestKnown))
                }
                _ => draw(preferred(&untried, job), policy, 0.0, rng)
                    .map(|index| (index, Reason::Untried)),
            };
        }
    };
    let drawn = draw(preferred(eligible, job), policy, exponent, rng)?;
    let has_score = |(index, c): &(usize, &Candidate)| *index == drawn && c.latency_score.is_some();
    let known = eligible.iter().any(has_score);
    Some((drawn, if known { Reason::Drawn } else { Reason::Untried }))
}

fn fallback(
    candidates: &[Candidate],
    decision: &Decision,
    policy: &Policy,
) -> Option<(usize, Reason)> {
    let is_barred = |index: usize| {
        candidates.get(index).and_then(|c| c.breaker.as_ref()).is_some_and(|b| b.is_barred)
    };
    let last_resort = decision
        .excluded
        .iter()
        .filter(|(index, _)| !is_barred(*index))
        .filter_map(|(index, why)| match why {
            Exclusion::Suspended { remaining_ms } | Exclusion::Probing { remaining_ms } => {
                Some((*remaining_ms, *index))
            }
            _ => None,
        })
        .min()
        .map(|(_, index)| (index, Reason::LastResort));
    if last_resort.is_some() || !policy.ignore_max_price_if_needed {
        return last_resort;
    }
    decision
        .excluded
        .iter()
        .filter(|(_, why)| matches!(why, Exclusion::Price { .. }))
        .filter_map(|(index, _)| Some((candidates.get(*index)?.facts.price.clone()?, *index)))
        .min()
        .map(|(_, index)| (index, Reason::AbovePriceLimit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Breaker, Breakers, Fault,
        sample::{facts, job, of},
    };
    use penstock_domain::{Capability, CapabilitySet};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};
    use std::sync::Arc;

    fn candidate(name: &str) -> Candidate {
        of(facts(name))
    }

    fn pick(candidates: &[Candidate], policy: &Policy) -> Decision {
        choose(candidates, &job(), policy, 1_000, &mut StdRng::seed_from_u64(7))
    }

    fn labels(decision: &Decision) -> Vec<&'static str> {
        decision.excluded.iter().map(|(_, e)| e.label()).collect()
    }

    #[test]
    fn the_fastest_known_is_kept() {
        let mut all = vec![candidate("a"), candidate("b"), candidate("c")];
        all[1].latency_score = Some(0.4);
        all[2].latency_score = Some(0.3);
        assert_eq!(pick(&all, &Policy::default()).chosen, Some((2, Reason::BestKnown)));
        all[1].latency_score = Some(1.2);
        all[2].latency_score = Some(1.1);
        assert_eq!(pick(&all, &Policy::default()).chosen, Some((0, Reason::Untried)));
        all.remove(0);
        assert_eq!(pick(&all, &Policy::default()).chosen, Some((1, Reason::BestKnown)));
    }

    #[test]
    fn everybody_left_out_has_a_reason() {
        let llm = Capabilities::of_set(CapabilitySet::of([Capability::Llm]));
        let mut all = vec![
            of(facts("dear").priced(Some(Rational::from_int(3)))),
            candidate("tried"),
            candidate("busy"),
            of(Facts { capabilities: Some(llm), ..facts("other") }),
        ];
        all[1].tried = true;
        all[2].suspended_until_ms = Some(1_500);
        let policy = Policy { max_price: Some(Rational::from_int(2)), ..Policy::default() };
        let decision = pick(&all, &policy);
        assert_eq!(decision.chosen, Some((2, Reason::LastResort)));
        assert_eq!(labels(&decision), ["price", "tried", "suspended", "capability"]);
        assert_eq!(
            decision.summary(4),
            "1 of 4 excluded by capability, 1 by price, 1 by suspended, 1 by tried"
        );
        all[2].tried = true;
        assert_eq!(pick(&all, &policy).chosen, None);
        let lenient = Policy { ignore_max_price_if_needed: true, ..policy };
        assert_eq!(pick(&all, &lenient).chosen, Some((0, Reason::AbovePriceLimit)));
    }

    #[test]
    fn equality_passes_the_limit_and_trust_comes_first() {
        let untrusted = Facts { score: 0.0, discovery_latency_ms: 1, ..facts("untrusted") };
        let mut all = vec![of(untrusted.clone()), candidate("trusted")];
        let policy = Policy { max_price: Some(Rational::from_int(1)), ..Policy::default() };
        assert_eq!(pick(&all, &policy).chosen, Some((1, Reason::Untried)));
        all[0] = of(untrusted.priced(None));
        assert_eq!(pick(&all, &policy).excluded[0].1, Exclusion::NoPrice);
    }

    #[test]
    fn wishes() {
        let mut caps = Capabilities::of_set(CapabilitySet::default_video());
        caps.version = "0.8.1".into();
        let here = Facts {
            transcoder: "https://a.example:8935".into(),
            region: "eu".into(),
            gpus: Some(vec!["NVIDIA H100 80GB".into()]),
            capabilities: Some(caps),
            ..facts("a")
        };
        let all = [of(here), of(Facts { score: 0.5, ..facts("https://b.example:8935") })];
        let names = |n: &str| Names::from(vec![n.to_owned()]);
        let any = Policy::default;
        for (policy, excluded) in [
            (any(), &[][..]),
            (Policy { include: names("a.example"), ..any() }, &["not_included"]),
            (Policy { exclude: names("b.example:8935"), ..any() }, &["excluded"]),
            (Policy { regions: vec!["eu".into(), "us".into()], ..any() }, &["region"]),
            (Policy { gpus: vec!["h100".into()], ..any() }, &["gpu_unknown"]),
            (Policy { trusted_only: true, ..any() }, &["untrusted"]),
            (Policy { min_version: "0.8.0".into(), ..any() }, &["version"]),
            (Policy { gpus: vec!["b200".into()], ..any() }, &["gpu", "gpu_unknown"]),
        ] {
            assert_eq!(labels(&pick(&all, &policy)), excluded, "{policy:?}");
        }
    }

    #[test]
    fn what_a_node_says_about_its_room_counts_for_a_while() {
        let job = Capabilities::ai_job(Capability::LiveVideoToVideo, "m", false);
        let mut offered = job.clone();
        let model = offered.models.values_mut().next().unwrap().get_mut("m").unwrap();
        (model.capacity, model.capacity_in_use) = (0, 2);
        let all = [of(Facts { capabilities: Some(offered), heard_ms: 1_000, ..facts("a") })];
        let at = |now| {
            let mut rng = StdRng::seed_from_u64(1);
            choose(&all, &job, &Policy::default(), now, &mut rng)
        };
        assert_eq!((labels(&at(2_000)), at(2_000).chosen), (vec!["capacity"], None));
        assert_eq!(at(31_000).chosen, Some((0, Reason::Untried)));
    }

    #[test]
    fn a_half_open_circuit_takes_one_job_at_a_time() {
        let mut all = vec![candidate("a"), candidate("b")];
        all[0].latency_score = Some(0.1);
        all[0].breaker =
            Some(Breaker { failures: 1, failed_ms: 1, probing_until_ms: 0, is_barred: false });
        assert_eq!(pick(&all, &Policy::default()).chosen, Some((0, Reason::BestKnown)));
        all[0].breaker =
            Some(Breaker { failures: 1, failed_ms: 1, probing_until_ms: 1_001, is_barred: false });
        let decision = pick(&all, &Policy::default());
        assert_eq!(
            (decision.chosen, labels(&decision)),
            (Some((1, Reason::Untried)), vec!["probing"])
        );
        all.remove(1);
        assert_eq!(pick(&all, &Policy::default()).chosen, Some((0, Reason::LastResort)));
    }

    #[test]
    fn one_that_is_not_the_one_it_was_is_no_last_resort() {
        let mut circuits = Breakers::default();
        let ms = circuits.failed("a", Fault::WrongKey, 1_000);
        let suspended = |circuits: &Breakers| Candidate {
            suspended_until_ms: Some(1_000 + ms),
            breaker: circuits.get("a").copied(),
            ..candidate("a")
        };
        let chosen = |all: &[Candidate], now_ms: u64| {
            let mut rng = StdRng::seed_from_u64(1);
            choose(all, &job(), &Policy::default(), now_ms, &mut rng).chosen
        };
        let all = [suspended(&circuits)];
        assert_eq!(chosen(&all, 1_001), None);
        // Nor after another failure; and one job finds out when the time is over.
        circuits.failed("a", Fault::Failed, 1_002);
        assert_eq!(chosen(&[suspended(&circuits)], 1_003), None);
        assert_eq!(chosen(&all, 1_000 + ms), Some((0, Reason::Untried)));
        assert!(circuits.begin_probe("a", 1_000 + ms));
        circuits.failed("a", Fault::Failed, 1_001 + ms);
        assert_eq!(chosen(&[suspended(&circuits)], 1_002), Some((0, Reason::LastResort)));
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let scores = prop_oneof![Just(None), any::<f64>().prop_map(Some)];
        let breakers = prop::option::of((1u32..9, any::<u64>()).prop_map(|(failures, until)| {
            Breaker { failures, failed_ms: 1, probing_until_ms: until, is_barred: false }
        }));
        (
            (any::<f64>(), any::<i64>(), any::<u64>(), any::<u64>()),
            (scores, any::<Option<u64>>(), breakers, any::<bool>(), any::<bool>()),
            (0usize..3, 0usize..3),
        )
            .prop_map(|(told, (known, until, breaker, tried, legacy), (region, gpu))| {
                let (score, price, stake, latency) = told;
                let facts = Facts {
                    transcoder: "https://x:1".into(),
                    score,
                    capabilities: (!legacy)
                        .then(|| Capabilities::of_set(CapabilitySet::default_video())),
                    stake,
                    discovery_latency_ms: latency,
                    region: ["", "eu", "us"][region].into(),
                    gpus: [None, Some(vec!["H100".into()]), Some(vec!["T4".into()])][gpu].clone(),
                    ..Facts::default()
                }
                .priced((price > 0).then(|| Rational::from_int(price.into())));
                Candidate {
                    facts: Arc::new(facts),
                    latency_score: known,
                    suspended_until_ms: until,
                    breaker,
                    tried,
                }
            })
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
        (any::<Option<u32>>(), flags).prop_map(
            |(limit, (lenient, regions, gpus, trusted_only, alone))| Policy {
                speed: if alone { Speed::OfJobs { exponent: 1.0 } } else { Speed::STREAM },
                max_price: limit.map(|l| Rational::from_int(l.into())),
                ignore_max_price_if_needed: lenient,
                regions: if regions { vec!["eu".into()] } else { vec![] },
                gpus: if gpus { vec!["h100".into()] } else { vec![] },
                trusted_only,
                ..Policy::default()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn a_choice_is_allowed_and_nobody_is_forgotten(
            all in prop::collection::vec(any_candidate(), 0..8),
            policy in any_policy(),
            seed in any::<u64>(),
        ) {
            let decide = || choose(&all, &job(), &policy, 1 << 40, &mut StdRng::seed_from_u64(seed));
            let decision = decide();
            let why = |index: usize| decision.excluded.iter().find(|(i, _)| *i == index).map(|(_, e)| e.label());
            match decision.chosen {
                Some((index, Reason::LastResort)) =>
                    prop_assert!(matches!(why(index), Some("suspended" | "probing"))),
                Some((index, Reason::AbovePriceLimit)) => {
                    prop_assert!(policy.ignore_max_price_if_needed);
                    prop_assert_eq!(why(index), Some("price"));
                }
                Some((index, _)) => prop_assert_eq!(why(index), None),
                None => prop_assert_eq!(decision.excluded.len(), all.len()),
            }
            if let Some((index, reason)) = decision.chosen {
                // No wish and no ceiling is ever passed over, not even as a last resort.
                let (c, facts) = (&all[index], &all[index].facts);
                prop_assert!(!c.tried);
                prop_assert!(policy.regions.is_empty() || facts.region == "eu");
                prop_assert!(policy.gpus.is_empty() || facts.gpus == Some(vec!["H100".into()]));
                prop_assert!(!policy.trusted_only || facts.score >= 1.0);
                if let (Some(limit), true) = (&policy.max_price, reason != Reason::AbovePriceLimit) {
                    prop_assert!(facts.price.as_ref().is_some_and(|p| p <= limit));
                }
            }
            // Each index once, and the same inputs decide the same.
            let mut indices: Vec<_> = decision.excluded.iter().map(|(i, _)| *i).collect();
            indices.dedup();
            prop_assert_eq!(indices.len(), decision.excluded.len());
            prop_assert_eq!(decide().chosen, decision.chosen);
        }
    }
}
