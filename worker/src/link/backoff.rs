//! How long to wait before the next try. Pure: the caller brings the randomness.

use std::time::Duration;

/// Waits that double from `first` to `most`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts with `first`, never waits longer than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The same, and never longer than `most`.
    pub fn at_most(self, most: Duration) -> Self {
        Self { most: self.most.min(most), ..self }
    }

    /// The next wait. `spread` in 0..1 takes up to half of it away, so that the workers of an
    /// orchestrator that restarts do not all return in the same moment.
    pub fn next(&mut self, spread: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(1.0 - spread.clamp(0.0, 1.0) / 2.0)
    }

    /// It worked: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_and_starts_over() {
        let mut b = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        let waits: Vec<_> = (0..9).map(|_| b.next(0.0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        for _ in 0..1000 {
            b.next(0.5);
        }
        assert_eq!(b.next(1.0), Duration::from_secs(30));
        assert_eq!(b.at_most(Duration::from_secs(2)).next(0.0), Duration::from_secs(2));
        b.reset();
        assert_eq!(b.next(0.0), Duration::from_millis(500));
    }
}
