//! When a client of a load begins its next job: at its own times, whatever its last one took, so that what a fault held up
//! is made up for afterwards. Time stands still while all work pauses. Pure but for [`Clock`], which reads the time.

use std::{sync::Mutex, time::Duration};
use tokio::time::Instant;

/// What a client is behind by at most: what nobody had time for in so long, nobody wants any more.
const MOST_BEHIND: Duration = Duration::from_secs(60);

/// Time in which work may be done.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    stood: Mutex<Stood>,
}

#[derive(Debug, Default)]
struct Stood {
    before: Duration,
    since: Option<Instant>,
}

impl Clock {
    /// It is zero now.
    pub fn start() -> Self {
        Self { began: Instant::now(), stood: Mutex::default() }
    }

    fn stood(&self) -> Duration {
        let stood = self.stood.lock().unwrap();
        stood.before + stood.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Since it began, without the time for which it stood still.
    pub fn now(&self) -> Duration {
        self.began.elapsed().saturating_sub(self.stood())
    }

    /// When that will be, if it does not stand still before.
    pub fn at(&self, then: Duration) -> Instant {
        self.began + then + self.stood()
    }

    /// It stands still.
    pub fn stand(&self) {
        self.stood.lock().unwrap().since.get_or_insert_with(Instant::now);
    }

    /// It goes on.
    pub fn go_on(&self) {
        let mut stood = self.stood.lock().unwrap();
        if let Some(since) = stood.since.take() {
            stood.before += since.elapsed();
        }
    }
}

/// When the next job begins: `every` after the last one was to begin, or as soon as it can where there is no pace.
pub fn next(last: Duration, every: Duration, now: Duration) -> Duration {
    if every.is_zero() { now } else { (last + every).max(now.saturating_sub(MOST_BEHIND)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_is_made_up_for() {
        let s = Duration::from_secs;
        assert_eq!(next(s(10), s(2), s(11)), s(12), "in time");
        assert_eq!(next(s(10), s(2), s(19)), s(12), "late: at once, and so are those after it");
        assert_eq!(next(s(10), s(2), s(100)), s(40), "given up");
        assert_eq!(next(s(10), s(0), s(19)), s(19), "as fast as can be");
    }

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_while_all_is_quiet() {
        let clock = Clock::start();
        tokio::time::advance(Duration::from_secs(3)).await;
        clock.stand();
        tokio::time::advance(Duration::from_secs(5)).await;
        clock.stand();
        assert_eq!(clock.now(), Duration::from_secs(3));
        clock.go_on();
        clock.go_on();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Duration::from_secs(4));
        assert_eq!(clock.at(Duration::from_secs(6)), Instant::now() + Duration::from_secs(2));
    }
}
