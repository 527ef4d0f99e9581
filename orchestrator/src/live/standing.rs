//! What is known of a live runner before it is asked: whether it answers at all, and whether it begins what it
//! is asked to begin. Times are arguments.

use std::time::Duration;
use tokio::time::Instant;

/// A runner that was not well, or did not start, is asked after all others for so long.
pub const BROKEN_FOR: Duration = Duration::from_secs(15);
/// Starts in a row that a runner may fail before it is left out.
const MOST_FAILED: u32 = 2;
/// It is left out for 15 s, then twice as long after each further failure, and this long at most.
const LONGEST_OUT: Duration = Duration::from_secs(240);

/// How a runner stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    asked_last_until: Option<Instant>,
    out_until: Option<Instant>,
    failed_in_a_row: u32,
    is_silent: bool,
}

/// When a runner is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// As the others.
    First,
    /// After all others.
    Last,
    /// Not now.
    Out,
}

impl Standing {
    /// It was not well when it was asked.
    pub fn was_unwell(&mut self, now: Instant) {
        self.asked_last_until = Some(now + BROKEN_FOR);
    }

    /// It did not begin a session. Where the request is to blame, that says nothing of the next one.
    pub fn did_not_begin(&mut self, is_its_fault: bool, now: Instant) {
        self.was_unwell(now);
        if !is_its_fault {
            return;
        }
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        if let Some(more) = self.failed_in_a_row.checked_sub(MOST_FAILED + 1) {
            let times = 1_u32.checked_shl(more.min(8)).unwrap_or(u32::MAX);
            self.out_until = Some(now + LONGEST_OUT.min(BROKEN_FOR * times));
        }
    }

    /// It began a session.
    pub fn began(&mut self) {
        *self = Self::default();
    }

    /// Whether it answered when it was asked last, whatever it said.
    pub fn answered(&mut self, answered: bool) {
        self.is_silent = !answered;
    }

    /// When it is asked.
    pub fn turn(&self, now: Instant) -> Turn {
        let until = |time: Option<Instant>| time.is_some_and(|until| now < until);
        match () {
            () if self.is_silent || until(self.out_until) => Turn::Out,
            () if until(self.asked_last_until) => Turn::Last,
            () => Turn::First,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    #[test]
    fn asked_last_then_left_out_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut standing = Standing::default();
        assert_eq!(standing.turn(now), Turn::First);
        for _ in 0..9 {
            standing.did_not_begin(false, now);
        }
        assert_eq!(standing.turn(now), Turn::Last, "requests that could not be begun");
        assert_eq!(standing.turn(now + BROKEN_FOR), Turn::First);
        for _ in 0..MOST_FAILED {
            standing.did_not_begin(true, now);
            assert_eq!(standing.turn(now), Turn::Last);
        }
        for seconds in [15, 30, 60, 120, 240, 240, 240] {
            standing.did_not_begin(true, now);
            let out = Duration::from_secs(seconds);
            assert_eq!(standing.turn(now + out - STEP), Turn::Out, "{seconds}");
            now += out;
            assert_ne!(standing.turn(now), Turn::Out, "{seconds}: it gets its chance");
        }
        (0..99).for_each(|_| standing.did_not_begin(true, now));
        assert_ne!(standing.turn(now + LONGEST_OUT), Turn::Out);
        standing.began();
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn who_does_not_answer_is_not_asked_until_it_does() {
        let mut standing = Standing::default();
        standing.answered(false);
        assert_eq!(standing.turn(Instant::now()), Turn::Out);
        standing.answered(true);
        assert_eq!(standing.turn(Instant::now()), Turn::First);
    }
}
