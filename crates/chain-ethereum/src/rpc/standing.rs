//! How an endpoint has behaved, and so when it is asked: a pure function of what happened and of the time.

use std::time::{Duration, Instant};

/// After the first failure an endpoint is asked last for so long; after each further one, twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, and longest that an endpoint may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long an endpoint is left alone that says "too many" without saying for how long.
const USUAL_WAIT: Duration = Duration::from_secs(1);

/// One endpoint's standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    failures: u32,
    /// Asked last until then.
    ill_until: Option<Instant>,
    /// Not asked at all until then.
    leave_until: Option<Instant>,
}

impl Standing {
    /// It answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(1).min(6);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        self.ill_until = now.checked_add(pause);
    }

    /// It wants to be left alone.
    pub(super) fn wants_rest(&mut self, now: Instant, wait: Option<Duration>) {
        let wait = wait.unwrap_or(USUAL_WAIT).min(LONGEST_PAUSE);
        self.leave_until = now.checked_add(wait);
    }

    /// In which turn it is asked, the smallest first. `None` = not now.
    pub(super) fn turn(&self, now: Instant) -> Option<Duration> {
        if self.leave_until.is_some_and(|until| now < until) {
            return None;
        }
        Some(self.ill_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)))
    }

    /// Whether it is as good as any.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        self.turn(now) == Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_is_asked_last_and_longer_each_time() {
        let (now, mut standing) = (Instant::now(), Standing::default());
        assert_eq!(standing.turn(now), Some(Duration::ZERO));
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            standing.failed(now);
            let turn = standing.turn(now).unwrap();
            assert!(turn > last && !standing.is_well(now));
            last = turn;
        }
        for _ in 0..100 {
            standing.failed(now);
        }
        assert_eq!(standing.turn(now), Some(LONGEST_PAUSE));
        assert_eq!(standing.turn(now + LONGEST_PAUSE), Some(Duration::ZERO));
        standing.answered();
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn one_that_wants_rest_is_not_asked_for_as_long_as_it_says_within_reason() {
        let (now, mut standing) = (Instant::now(), Standing::default());
        standing.wants_rest(now, Some(Duration::from_secs(7)));
        assert_eq!(standing.turn(now + Duration::from_secs(6)), None);
        assert_eq!(standing.turn(now + Duration::from_secs(7)), Some(Duration::ZERO));
        standing.wants_rest(now, Some(Duration::from_secs(1 << 40)));
        assert_eq!(standing.turn(now + LONGEST_PAUSE), Some(Duration::ZERO));
    }
}
