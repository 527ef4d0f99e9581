//! How often the orchestrator hears of this worker, and how soon it is noticed that it does not: the whole of it
//! takes less than the lease, so that sessions outlive a connection that stands still.

use std::time::Duration;

/// Times of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between signs of life.
    pub beat: Duration,
    /// For the answer to one.
    pub answer: Duration,
}

impl Pace {
    /// Until the orchestrator has named its lease.
    pub const FIRST: Self = Self { beat: Duration::from_secs(1), answer: Duration::from_secs(5) };
    /// Signs of life in a row without an answer that end a link.
    pub const MOST_UNHEARD: u32 = 2;

    /// Four signs of life in a lease.
    pub fn of(lease: Duration) -> Self {
        let part = |parts| (lease / parts).max(Duration::from_millis(1));
        Self { beat: part(4), answer: part(8) }
    }

    /// After a sign of life without an answer, and the longest before a link is opened again.
    pub fn pause(&self) -> Duration {
        self.answer.min(self.beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_stands_still_is_left_well_before_the_lease_is_over() {
        for seconds in [1, 20, 600] {
            let lease = Duration::from_secs(seconds);
            let pace = Pace::of(lease);
            let unheard = Pace::MOST_UNHEARD;
            let noticed = pace.beat + pace.answer * unheard + pace.pause() * (unheard - 1);
            assert!(noticed + pace.pause() <= lease * 3 / 4, "{noticed:?} of {lease:?}");
        }
        assert!(Pace::of(Duration::ZERO).beat > Duration::ZERO);
    }
}
