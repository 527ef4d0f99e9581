//! The draw: who is drawn from, and how much of the work each gets.
//!
//! **Why no orchestrator ends up with everything.** What a stream has seen of an orchestrator counts for
//! that stream only, as in the Go node: each new stream is a draw by the weights, whoever serves the
//! others. A single job knows no stream, so each one is a draw of its own, as the Go node's are on a
//! chain; speed counts in it as a share, not as a rank: whoever is twice as slow gets half as much, and
//! whoever is new gets at least what the weights say.

use crate::{Candidate, Facts, Policy};
use penstock_domain::Capabilities;
use rand::Rng;

/// How latency scores count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// They are of this very stream, in seconds of work per second of media. The fastest known is kept
    /// in use up to this one (1.0 is real time); above it the untried get a chance.
    OfStream {
        /// The highest score that is good enough.
        threshold: f64,
    },
    /// They are of other jobs of the same kind, in seconds per unit. Each job is drawn among all, with
    /// `(best score / own score) ^ exponent` as a factor beside the weights. 0: speed does not count.
    OfJobs {
        /// How much speed counts.
        exponent: f64,
    },
}

impl Speed {
    /// A stream's: real time is fast enough.
    pub const STREAM: Self = Self::OfStream { threshold: 1.0 };

    /// Whether a stream stays with an orchestrator of this score.
    pub fn is_enough(self, score: Option<f64>) -> bool {
        match self {
            Self::OfStream { threshold } => score.is_none_or(|score| score <= threshold),
            Self::OfJobs { .. } => false,
        }
    }
}

/// The slowest gets this part of what the weights give it, so that it is seen when it has become faster.
const SLOWEST: f64 = 0.05;

/// Those who have the job's models loaded go before those who would have to load them (ai-pipelines.md
/// section 5), and among them the trusted ones.
pub(crate) fn preferred<'a>(
    all: &[(usize, &'a Candidate)],
    job: &Capabilities,
) -> Vec<(usize, &'a Candidate)> {
    let rank = |c: &Candidate| (is_warm(&c.facts, job), c.facts.score >= 1.0);
    let best = all.iter().map(|(_, c)| rank(c)).max();
    all.iter().filter(|(_, c)| Some(rank(c)) == best).copied().collect()
}

/// Whether it says that all models of the job are loaded. A job without models needs none.
fn is_warm(facts: &Facts, job: &Capabilities) -> bool {
    job.models.iter().all(|(capability, models)| {
        let offered = facts.capabilities.as_ref().and_then(|c| c.models.get(capability));
        models.keys().all(|model| offered.and_then(|o| o.get(model)).is_some_and(|m| m.warm))
    })
}

/// The documented probabilities times speed, with the discovery latency (the reference's only
/// off-chain rule) as the order in which the draw walks.
pub(crate) fn draw(
    mut from: Vec<(usize, &Candidate)>,
    policy: &Policy,
    exponent: f64,
    rng: &mut impl Rng,
) -> Option<usize> {
    from.sort_by_key(|(index, c)| (c.facts.discovery_latency_ms, *index));
    let inputs: Vec<(f64, u64)> =
        from.iter().map(|(_, c)| (c.facts.price_f64, c.facts.stake)).collect();
    let best = from.iter().filter_map(|(_, c)| measured(c)).min_by(f64::total_cmp);
    let weights = policy.weights.probabilities(&inputs);
    let shares: Vec<f64> = from
        .iter()
        .zip(weights)
        .map(|((_, c), p)| p * factor(measured(c), best, exponent))
        .collect();
    let mut rest = rng.random::<f64>() * shares.iter().sum::<f64>();
    for ((index, _), share) in from.iter().zip(shares) {
        rest -= share;
        if rest <= 0.0 {
            return Some(*index);
        }
    }
    // Rounding can leave a hair; the first is as good as any.
    from.first().map(|(index, _)| *index)
}

/// A score that says something: a job of no size has one of 0.
fn measured(c: &Candidate) -> Option<f64> {
    c.latency_score.filter(|score| score.is_finite() && *score > 0.0)
}

fn factor(score: Option<f64>, best: Option<f64>, exponent: f64) -> f64 {
    match (score, best) {
        (Some(score), Some(best)) => (best / score).powf(exponent).clamp(SLOWEST, 1.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Weights, choose,
        sample::{facts, job, of},
    };
    use penstock_domain::{Capability, Rational};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn jobs(exponent: f64) -> Policy {
        Policy { speed: Speed::OfJobs { exponent }, ..Policy::default() }
    }

    #[test]
    fn who_has_the_model_loaded_goes_first() {
        let job = Capabilities::ai_job(Capability::Llm, "m", false);
        let with = |name: &str, warm: bool, score: f64| {
            let mut offered = job.clone();
            let models = offered.models.values_mut();
            models.for_each(|m| m.values_mut().for_each(|model| model.warm = warm));
            of(Facts { capabilities: Some(offered), score, ..facts(name) })
        };
        let mut all =
            vec![with("cold", false, 1.0), with("warm", true, 0.0), with("both", true, 1.0)];
        let chosen = |all: &[Candidate]| {
            let chose = |seed| {
                let mut rng = StdRng::seed_from_u64(seed);
                choose(all, &job, &jobs(1.0), 1_000, &mut rng).chosen.unwrap().0
            };
            let mut seen: Vec<_> = (0..50).map(chose).collect();
            seen.dedup();
            seen
        };
        assert_eq!(chosen(&all), [2]);
        all[2].tried = true;
        assert_eq!(chosen(&all), [1], "loaded goes before trusted");
        all[1].suspended_until_ms = Some(2_000);
        assert_eq!(chosen(&all), [0], "and loading before a suspended one");
    }

    /// Each number of so many, evenly spread: who is chosen how often is then no matter of luck.
    struct Even {
        next: u64,
        of: u64,
    }

    impl rand::RngCore for Even {
        fn next_u32(&mut self) -> u32 {
            (self.next_u64() >> 32) as u32
        }

        fn next_u64(&mut self) -> u64 {
            let at = self.next;
            self.next += 1;
            (u128::from(2 * at + 1) * (1 << 63) / u128::from(self.of)) as u64
        }

        fn fill_bytes(&mut self, to: &mut [u8]) {
            to.fill(0);
        }
    }

    const DRAWS: u64 = 1_000;

    /// The part of all jobs that each gets.
    fn parts(all: &[Candidate], policy: &Policy) -> Vec<f64> {
        let mut rng = Even { next: 0, of: DRAWS };
        let mut counts = vec![0_u64; all.len()];
        for _ in 0..DRAWS {
            counts[choose(all, &job(), policy, 1_000, &mut rng).chosen.unwrap().0] += 1;
        }
        counts.iter().map(|n| *n as f64 / DRAWS as f64).collect()
    }

    /// What an even spread may be off by.
    const HAIR: f64 = 2.0 / DRAWS as f64;

    fn any_of_the_market() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (1i128..2_000, 0u64..1_000, prop::option::of(0.001f64..50.0), 1u64..500);
        prop::collection::vec(one, 1..8).prop_map(|all| {
            let candidate = |(n, (wei, stake, score, latency)): (usize, (i128, _, _, _))| {
                let facts =
                    Facts { stake, discovery_latency_ms: latency, ..facts(&format!("o{n}")) };
                let facts = facts.priced(Some(Rational::from_int(wei)));
                Candidate { latency_score: score, ..of(facts) }
            };
            all.into_iter().enumerate().map(candidate).collect()
        })
    }

    fn any_weights() -> impl Strategy<Value = Weights> {
        let weights = (0.1f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 10.0f64..1_000.0);
        weights.prop_map(|(random, stake, price, factor)| {
            let sum = random + stake + price;
            Weights::new(random / sum, stake / sum, price / sum, factor).unwrap()
        })
    }

    fn by_weight(all: &[Candidate], weights: Weights) -> Vec<f64> {
        let inputs: Vec<_> = all.iter().map(|c| (c.facts.price_f64, c.facts.stake)).collect();
        weights.probabilities(&inputs)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Where speed does not count, or is the same, the load is spread exactly by the weights; so it
        /// is over the orchestrators that streams begin at.
        #[test]
        fn the_load_is_spread_by_the_weights(mut all in any_of_the_market(), weights in any_weights()) {
            let weighed = by_weight(&all, weights);
            let same = |all: &[Candidate], speed: Speed| {
                let parts = parts(all, &Policy { weights, speed, ..Policy::default() });
                parts.iter().zip(&weighed).all(|(part, weight)| (part - weight).abs() <= HAIR)
            };
            let without = Speed::OfJobs { exponent: 0.0 };
            prop_assert!(same(&all, without));
            all.iter_mut().for_each(|c| c.latency_score = Some(0.25));
            let with = Speed::OfJobs { exponent: 1.0 };
            prop_assert!(same(&all, with));
            all.iter_mut().for_each(|c| c.latency_score = None);
            prop_assert!(same(&all, Speed::STREAM));
        }

        /// Whoever comes anew gets at least what the weights give it, whatever scores the others have,
        /// and more the cheaper it is; nobody is left without any.
        #[test]
        fn a_newcomer_gets_its_part(
            mut all in any_of_the_market(),
            weights in any_weights(),
            cheap in 1i128..1_000,
        ) {
            let policy = Policy { weights, ..jobs(1.0) };
            let mut part = |wei: i128| {
                let newcomer = facts("newcomer").priced(Some(Rational::from_int(wei)));
                all.push(of(newcomer));
                let (got, weighed) = (parts(&all, &policy), by_weight(&all, weights));
                let least = 0.1 / 3.0 / all.len() as f64 * SLOWEST;
                assert!(got.iter().all(|part| part + HAIR >= least), "{got:?}");
                all.pop();
                assert!(got.last().unwrap() + HAIR >= *weighed.last().unwrap());
                *got.last().unwrap()
            };
            let (as_dear, cheaper) = (part(cheap + 1_000), part(cheap));
            prop_assert!(cheaper + HAIR >= as_dear);
        }

        /// Of two alike the faster one gets more, in proportion.
        #[test]
        fn the_faster_gets_more(score in 0.000_000_1f64..10.0, times in 1.0f64..15.0) {
            let mut all = vec![of(facts("fast")), of(facts("slow"))];
            all[0].latency_score = Some(score);
            all[1].latency_score = Some(score * times);
            let got = parts(&all, &jobs(1.0));
            let wanted = times / (times + 1.0);
            prop_assert!((got[0] - wanted).abs() <= HAIR, "{got:?} {wanted}");
        }
    }
}
