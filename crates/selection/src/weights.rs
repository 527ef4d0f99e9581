//! The probability of an untried orchestrator (selection.md section 6).
//!
//! ```text
//! w_i = exp(−price_i / factor)      P_i = w_i / Σw      S_i = stake_i / Σstake
//! p_i = price·P_i + stake·S_i + random/n
//! ```
//! A sum of 0 counts as an equal share for each, so that the p_i always add up to 1; the
//! reference gives 1 to each there, which favours whoever comes first. Floats are fine: this
//! is a draw, not money.

use thiserror::Error;

/// How much price, stake and chance count. They add up to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    random: f64,
    stake: f64,
    price: f64,
    price_exp_factor: f64,
}

/// Weights that do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("selection weights must be ≥ 0 and add up to 1, and the price factor must be > 0")]
pub struct BadWeights;

impl Default for Weights {
    /// The network's defaults.
    fn default() -> Self {
        Self { random: 0.3, stake: 0.7, price: 0.0, price_exp_factor: 100.0 }
    }
}

impl Weights {
    /// Each ≥ 0, adding up to 1 within 0.0001; `price_exp_factor` > 0 in wei per unit.
    pub fn new(
        random: f64,
        stake: f64,
        price: f64,
        price_exp_factor: f64,
    ) -> Result<Self, BadWeights> {
        let all = [random, stake, price];
        let adds_up = (all.iter().sum::<f64>() - 1.0).abs() <= 0.0001;
        let sane = all.iter().all(|w| (0.0..=1.0001).contains(w))
            && price_exp_factor.is_finite()
            && price_exp_factor > 0.0;
        if adds_up && sane {
            Ok(Self { random, stake, price, price_exp_factor })
        } else {
            Err(BadWeights)
        }
    }

    /// Probabilities of candidates given as (price in wei per unit, stake).
    pub fn probabilities(&self, candidates: &[(f64, u64)]) -> Vec<f64> {
        let count = candidates.len().max(1) as f64;
        let attraction: Vec<f64> =
            candidates.iter().map(|(price, _)| (-price / self.price_exp_factor).exp()).collect();
        let attractions: f64 = attraction.iter().sum();
        let stakes: f64 = candidates.iter().map(|(_, stake)| *stake as f64).sum();
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 1.0 / count };
        candidates
            .iter()
            .zip(attraction)
            .map(|((_, stake), attraction)| {
                self.price * share(attraction, attractions)
                    + self.stake * share(*stake as f64, stakes)
                    + self.random / count
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 1e-6, "{got:?} is not {want:?}");
        }
    }

    #[test]
    fn documented_examples() {
        let three = [(400.0, 100), (700.0, 100_000), (1000.0, 300)];
        let w = Weights::new(0.0, 0.3, 0.7, 100.0).unwrap();
        close(&w.probabilities(&three), &[0.665_530, 0.331_925, 0.002_545]);
        close(&Weights::default().probabilities(&three), &[0.100_697, 0.797_211, 0.102_092]);
        let w = Weights::new(0.0, 0.0, 1.0, 100.0).unwrap();
        close(&w.probabilities(&[(1.0, 0), (1.0, 0), (1e8, 9)]), &[0.5, 0.5, 0.0]);
        let w = Weights::new(1.0, 0.0, 0.0, 100.0).unwrap();
        close(&w.probabilities(&three), &[1.0 / 3.0; 3]);
    }

    #[test]
    fn no_stake_is_an_equal_share() {
        close(&Weights::default().probabilities(&[(1.0, 0), (1.0, 0)]), &[0.5, 0.5]);
        assert!(Weights::default().probabilities(&[]).is_empty());
    }

    #[test]
    fn refuses_nonsense() {
        assert!(Weights::new(0.5, 0.5, 0.5, 100.0).is_err());
        assert!(Weights::new(-1.0, 1.0, 1.0, 100.0).is_err());
        assert!(Weights::new(f64::NAN, 1.0, 0.0, 100.0).is_err());
        assert!(Weights::new(1.0, 0.0, 0.0, 0.0).is_err());
    }
}
