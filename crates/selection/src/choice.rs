//! The choice itself: filter, then the best known, else a draw among the untried, else a
//! suspended one as the last resort.

use crate::{Candidate, Exclusion, Weights};
use penstock_domain::{Capabilities, Rational};
use rand::Rng;
use serde::Serialize;

/// What the operator or the caller wants.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Highest price in wei per unit; equality passes. `None`: no limit.
    pub max_price: Option<Rational>,
    /// Take the affordable-or-not rest when the limit leaves nobody.
    pub ignore_max_price_if_needed: bool,
    /// A known orchestrator up to this score is kept in use; above it the untried get a chance.
    /// 1.0 is real time.
    pub latency_threshold: f64,
    /// For the draw among the untried.
    pub weights: Weights,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_price: None,
            ignore_max_price_if_needed: false,
            latency_threshold: 1.0,
            weights: Weights::default(),
        }
    }
}

/// Why the chosen one was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The lowest latency score, and fast enough.
    BestKnown,
    /// Drawn among those without a score.
    Untried,
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
    /// "7 of 12 excluded by price", most frequent cause first; empty when nobody was excluded.
    pub fn summary(&self, candidates: usize) -> String {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for (_, exclusion) in &self.excluded {
            *counts.entry(exclusion.label()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(label, n)| (std::cmp::Reverse(*n), *label));
        let parts: Vec<_> = counts
            .iter()
            .map(|(label, n)| format!("{n} of {candidates} excluded: {label}"))
            .collect();
        parts.join(", ")
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
        among(&eligible, policy, rng).or_else(|| fallback(candidates, &decision, policy));
    decision
}

/// In the order in which an operator would want to hear it.
fn exclusion(c: &Candidate, job: &Capabilities, policy: &Policy, now_ms: u64) -> Option<Exclusion> {
    if let Err(reason) = job.fits_answer(c.capabilities.as_ref()) {
        return Some(reason.into());
    }
    if c.tried {
        return Some(Exclusion::Tried);
    }
    if let Some(limit) = &policy.max_price {
        match &c.price {
            None => return Some(Exclusion::NoPrice),
            Some(price) if price > limit => {
                return Some(Exclusion::Price { price: price.clone(), limit: limit.clone() });
            }
            Some(_) => {}
        }
    }
    let remaining_ms = c.suspended_until_ms.unwrap_or(0).saturating_sub(now_ms);
    (remaining_ms > 0).then_some(Exclusion::Suspended { remaining_ms })
}

fn among(
    eligible: &[(usize, &Candidate)],
    policy: &Policy,
    rng: &mut impl Rng,
) -> Option<(usize, Reason)> {
    let known = eligible
        .iter()
        .filter_map(|(index, c)| Some((*index, c.latency_score?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let untried: Vec<_> = eligible.iter().filter(|(_, c)| c.latency_score.is_none()).collect();
    match known {
        Some((index, score)) if score <= policy.latency_threshold || untried.is_empty() => {
            Some((index, Reason::BestKnown))
        }
        _ => draw(&untried, policy, rng).map(|index| (index, Reason::Untried)),
    }
}

/// Trusted ones first, then the documented probabilities, with the discovery latency
/// (the reference's only off-chain rule) as the order in which the draw walks.
fn draw(untried: &[&(usize, &Candidate)], policy: &Policy, rng: &mut impl Rng) -> Option<usize> {
    let trusted = untried.iter().any(|(_, c)| c.score >= 1.0);
    let mut pool: Vec<_> =
        untried.iter().filter(|(_, c)| !trusted || c.score >= 1.0).map(|(i, c)| (*i, *c)).collect();
    pool.sort_by_key(|(index, c)| (c.discovery_latency_ms, *index));
    let inputs: Vec<(f64, u64)> = pool.iter().map(|(_, c)| (price_f64(c), c.stake)).collect();
    let mut rest: f64 = rng.random();
    for ((index, _), p) in pool.iter().zip(policy.weights.probabilities(&inputs)) {
        rest -= p;
        if rest <= 0.0 {
            return Some(*index);
        }
    }
    // Rounding can leave a hair; the first is as good as any.
    pool.first().map(|(index, _)| *index)
}

/// A price for a probability only. Nothing that is paid goes through here.
fn price_f64(c: &Candidate) -> f64 {
    c.price.as_ref().and_then(|p| p.to_fixed(6).parse().ok()).unwrap_or(0.0)
}

fn fallback(
    candidates: &[Candidate],
    decision: &Decision,
    policy: &Policy,
) -> Option<(usize, Reason)> {
    let last_resort = decision
        .excluded
        .iter()
        .filter_map(|(index, why)| match why {
            Exclusion::Suspended { remaining_ms } => Some((*remaining_ms, *index)),
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
        .filter_map(|(index, _)| Some((candidates.get(*index)?.price.clone()?, *index)))
        .min()
        .map(|(_, index)| (index, Reason::AbovePriceLimit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Capability, CapabilitySet};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn candidate(name: &str) -> Candidate {
        Candidate {
            transcoder: name.to_owned(),
            score: 1.0,
            capabilities: Some(Capabilities::of_set(CapabilitySet::default_video())),
            price: Some(Rational::from_int(1)),
            stake: 0,
            discovery_latency_ms: 5,
            latency_score: None,
            suspended_until_ms: None,
            tried: false,
        }
    }

    fn job() -> Capabilities {
        Capabilities::of_set(CapabilitySet::of([Capability::MpegTs]))
    }

    fn pick(candidates: &[Candidate], policy: &Policy) -> Decision {
        choose(candidates, &job(), policy, 1_000, &mut StdRng::seed_from_u64(7))
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
        let mut all =
            vec![candidate("dear"), candidate("tried"), candidate("busy"), candidate("other")];
        all[0].price = Some(Rational::from_int(3));
        all[1].tried = true;
        all[2].suspended_until_ms = Some(1_500);
        all[3].capabilities = Some(Capabilities::of_set(CapabilitySet::of([Capability::Llm])));
        let policy = Policy { max_price: Some(Rational::from_int(2)), ..Policy::default() };
        let decision = pick(&all, &policy);
        assert_eq!(decision.chosen, Some((2, Reason::LastResort)));
        let labels: Vec<_> = decision.excluded.iter().map(|(_, e)| e.label()).collect();
        assert_eq!(labels, ["price", "tried", "suspended", "incompatible"]);
        assert!(decision.summary(4).contains("1 of 4 excluded: price"));
        all[2].tried = true;
        assert_eq!(pick(&all, &policy).chosen, None);
        let lenient = Policy { ignore_max_price_if_needed: true, ..policy };
        assert_eq!(pick(&all, &lenient).chosen, Some((0, Reason::AbovePriceLimit)));
    }

    #[test]
    fn equality_passes_the_limit_and_trust_comes_first() {
        let mut all = vec![candidate("untrusted"), candidate("trusted")];
        all[0].score = 0.0;
        all[0].discovery_latency_ms = 1;
        let policy = Policy { max_price: Some(Rational::from_int(1)), ..Policy::default() };
        assert_eq!(pick(&all, &policy).chosen, Some((1, Reason::Untried)));
        all[0].price = None;
        assert_eq!(pick(&all, &policy).excluded[0].1, Exclusion::NoPrice);
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let scores = prop_oneof![Just(None), any::<f64>().prop_map(Some)];
        (
            any::<f64>(),
            any::<i64>(),
            any::<u64>(),
            any::<u64>(),
            scores,
            any::<Option<u64>>(),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(|(score, price, stake, latency, known, until, tried, legacy)| {
                Candidate {
                    transcoder: "x".into(),
                    score,
                    capabilities: (!legacy)
                        .then(|| Capabilities::of_set(CapabilitySet::default_video())),
                    price: (price > 0).then(|| Rational::from_int(price.into())),
                    stake,
                    discovery_latency_ms: latency,
                    latency_score: known,
                    suspended_until_ms: until,
                    tried,
                }
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_choice_is_allowed_and_nobody_is_forgotten(
            all in prop::collection::vec(any_candidate(), 0..8),
            limit in any::<Option<u32>>(),
            seed in any::<u64>(),
        ) {
            let policy = Policy { max_price: limit.map(|l| Rational::from_int(l.into())), ..Policy::default() };
            let decision = choose(&all, &job(), &policy, 1 << 40, &mut StdRng::seed_from_u64(seed));
            match decision.chosen {
                Some((index, Reason::LastResort)) => prop_assert!(all[index].suspended_until_ms.is_some()),
                Some((index, _)) => prop_assert!(!decision.excluded.iter().any(|(i, _)| *i == index)),
                None => prop_assert_eq!(decision.excluded.len(), all.len()),
            }
            if let Some((index, _)) = decision.chosen {
                prop_assert!(!all[index].tried);
            }
            // The same inputs decide the same.
            let again = choose(&all, &job(), &policy, 1 << 40, &mut StdRng::seed_from_u64(seed));
            prop_assert_eq!(again.chosen, decision.chosen);
        }
    }
}
