//! When arrivals of an open loop are due. Pure: a schedule knows nothing of answers, and so nobody who
//! answers slowly can change it.

use super::scenario::{Arrivals, End};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::time::Duration;

/// Times from the beginning, rising.
#[derive(Debug)]
pub struct Schedule {
    per_second: f64,
    end: End,
    number: u64,
    gaps: Option<Gaps>,
}

/// Random times between arrivals.
#[derive(Debug)]
struct Gaps {
    random: StdRng,
    at_s: f64,
}

impl Schedule {
    /// So many a second, to this end. The seed decides random arrivals.
    pub fn new(per_second: f64, arrivals: Arrivals, end: End, seed: u64) -> Self {
        let gaps = match arrivals {
            Arrivals::Even => None,
            Arrivals::Poisson => Some(Gaps { random: StdRng::seed_from_u64(seed), at_s: 0.0 }),
        };
        Self { per_second, end, number: 0, gaps }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.end.count.is_some_and(|count| self.number >= count) {
            return None;
        }
        let at_s = match &mut self.gaps {
            // Not added up: ten million sums of a rounded number are not where they should be.
            None => self.number as f64 / self.per_second,
            Some(gaps) => {
                // Within (0, 1], so that the logarithm is finite.
                let part: f64 = 1.0 - gaps.random.random::<f64>();
                gaps.at_s -= part.ln() / self.per_second;
                gaps.at_s
            }
        };
        let due = Duration::from_secs_f64(at_s);
        if self.end.duration.is_some_and(|duration| due >= duration) {
            return None;
        }
        self.number += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: End = End { count: None, duration: Some(Duration::from_secs(60)) };

    #[test]
    fn even_arrivals_are_where_they_should_be_to_the_last() {
        let end = End { count: Some(1_000_001), duration: None };
        let times: Vec<Duration> = Schedule::new(1_000.0, Arrivals::Even, end, 1).collect();
        assert_eq!(times.len(), 1_000_001);
        assert_eq!(times[0], Duration::ZERO);
        assert_eq!(times[1_000_000], Duration::from_secs(1_000));
        assert_eq!(Schedule::new(7.0, Arrivals::Even, MINUTE, 1).count(), 420);
    }

    #[test]
    fn random_arrivals_are_as_many_and_as_irregular_as_they_should_be() {
        let all = |seed| Schedule::new(100.0, Arrivals::Poisson, MINUTE, seed).collect::<Vec<_>>();
        let times = all(7);
        assert_eq!(times, all(7), "the seed decides");
        assert_ne!(times, all(8));
        assert!(times.is_sorted());
        // 6,000 expected; ten standard deviations.
        assert!((5_225..6_775).contains(&times.len()), "{}", times.len());
        // Of exponential gaps 63 % are shorter than the mean.
        let short = times.windows(2).filter(|w| w[1] - w[0] < Duration::from_millis(10)).count();
        let percent = 100 * short / times.len();
        assert!((58..69).contains(&percent), "{percent} %");
    }

    #[test]
    fn whatever_is_met_first_ends_it() {
        let end = End { count: Some(5), ..MINUTE };
        assert_eq!(Schedule::new(1.0, Arrivals::Even, end, 1).count(), 5);
        assert_eq!(Schedule::new(1.0, Arrivals::Poisson, end, 1).count(), 5);
        let end = End { count: Some(500), ..MINUTE };
        assert_eq!(Schedule::new(1.0, Arrivals::Even, end, 1).count(), 60);
    }
}
