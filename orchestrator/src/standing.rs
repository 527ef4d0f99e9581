//! What is known of a live video runner, or of the worker of a brought capability, before it is asked: whether it
//! answers at all, and whether it does what it is asked for. What fails for one sender says something of that
//! sender's requests: who else is served there does not hang on it. Only what fails for several senders is the
//! runner's. Times are arguments.

use penstock_domain::Address;
use std::time::Duration;
use tokio::time::Instant;

/// A runner that was not well, or has failed, is asked after all others for so long.
pub const BROKEN_FOR: Duration = Duration::from_secs(15);
/// Requests in a row that may fail before the runner is left out: for their sender if they are one sender's, for
/// all if they are several's.
const MOST_FAILED: u32 = 2;
/// Where it is left out for one sender alone because of what costs that sender nothing, the first time is shorter: it
/// may be back at once.
const BRIEFLY_OUT: Duration = Duration::from_secs(5);
/// It is left out for 15 s, then twice as long after each further failure, and this long at most.
const LONGEST_OUT: Duration = Duration::from_secs(240);
/// Of one sender's failures so many count for the others.
const MOST_FAILED_OF_ONE: u32 = 2;
/// So long after its last one a sender's failures are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(480);
/// Senders whose failures are kept; of more, those that failed last.
const MOST_SENDERS: usize = 16;

/// How a runner stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    asked_last_until: Option<Instant>,
    out_until: Option<Instant>,
    failed: Vec<Failed>,
    is_silent: bool,
}

/// Requests of one sender that failed since one last went well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    sender: Address,
    in_a_row: u32,
    last: Instant,
    /// For this sender alone.
    out_until: Option<Instant>,
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

    /// It did not do what `sender` asked for. Where the request is to blame, that says nothing of the next one.
    pub fn failed(&mut self, sender: Address, is_its_fault: bool, now: Instant) {
        self.was_unwell(now);
        if !is_its_fault {
            return;
        }
        self.note(sender, now, BROKEN_FOR);
        let counted = |failed: &Failed| failed.in_a_row.min(MOST_FAILED_OF_ONE);
        let count = self.failed.iter().map(counted).sum();
        if self.failed.len() > 1
            && let Some(time) = time_out(count, BROKEN_FOR)
        {
            self.out_until = Some(now + time);
        }
    }

    /// The same where failures are free and may be of the sender's own making: it is left out for this sender alone,
    /// so that nobody takes a worker from anybody else by them.
    pub fn failed_for(&mut self, sender: Address, now: Instant) {
        self.note(sender, now, BRIEFLY_OUT);
    }

    /// It did what this sender asked for. What others' requests came to is not undone by that: else whoever makes it
    /// fail could hide behind them.
    pub fn went_well_for(&mut self, sender: Address) {
        self.failed.retain(|failed| failed.sender != sender);
    }

    fn note(&mut self, sender: Address, now: Instant, first: Duration) {
        self.failed.retain(|failed| now < failed.last + FORGOTTEN_AFTER);
        let at = self.failed.iter().position(|failed| failed.sender == sender);
        let before = at.map_or(0, |at| self.failed.remove(at).in_a_row);
        if self.failed.len() >= MOST_SENDERS {
            // They are in the order of their last failures.
            self.failed.remove(0);
        }
        let in_a_row = before.saturating_add(1);
        let out_until = time_out(in_a_row, first).map(|time| now + time);
        self.failed.push(Failed { sender, in_a_row, last: now, out_until });
    }

    /// It did what it was asked for.
    pub fn went_well(&mut self) {
        *self = Self::default();
    }

    /// Whether it answered when it was asked last, whatever it said.
    pub fn answered(&mut self, answered: bool) {
        self.is_silent = !answered;
    }

    /// When it is asked for `sender`; without one, for whoever it may be.
    pub fn turn(&self, sender: Option<Address>, now: Instant) -> Turn {
        let until = |time: Option<Instant>| time.is_some_and(|until| now < until);
        let its = self.failed.iter().find(|failed| Some(failed.sender) == sender);
        match () {
            () if self.is_silent || until(self.out_until) => Turn::Out,
            () if until(its.and_then(|failed| failed.out_until)) => Turn::Out,
            () if until(self.asked_last_until) => Turn::Last,
            () => Turn::First,
        }
    }
}

/// For how long a runner is left out after so many failures in a row: `first`, then twice as long each time.
fn time_out(failures: u32, first: Duration) -> Option<Duration> {
    let more = failures.checked_sub(MOST_FAILED + 1)?;
    let times = 1_u32.checked_shl(more.min(8)).unwrap_or(u32::MAX);
    Some(LONGEST_OUT.min(first * times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Duration = Duration::from_millis(1);

    fn sender(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    #[test]
    fn asked_last_then_left_out_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut standing = Standing::default();
        let (one, anybody) = (Some(sender(1)), None);
        assert_eq!(standing.turn(one, now), Turn::First);
        for _ in 0..9 {
            standing.failed(sender(1), false, now);
        }
        assert_eq!(standing.turn(one, now), Turn::Last, "requests that could not be begun");
        assert_eq!(standing.turn(one, now + BROKEN_FOR), Turn::First);
        for _ in 0..MOST_FAILED {
            standing.failed(sender(1), true, now);
            assert_eq!(standing.turn(one, now), Turn::Last);
        }
        for seconds in [15, 30, 60, 120, 240, 240, 240] {
            standing.failed(sender(1), true, now);
            let out = Duration::from_secs(seconds);
            assert_eq!(standing.turn(one, now + out - STEP), Turn::Out, "{seconds}");
            // The others are served there all the while.
            assert_eq!(standing.turn(Some(sender(2)), now), Turn::Last);
            assert_eq!(standing.turn(anybody, now), Turn::Last);
            now += out;
            assert_ne!(standing.turn(one, now), Turn::Out, "{seconds}: it gets its chance");
        }
        (0..99).for_each(|_| standing.failed(sender(1), true, now));
        assert_ne!(standing.turn(one, now + LONGEST_OUT), Turn::Out);
        standing.went_well();
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn what_fails_for_several_is_left_out_for_all() {
        let now = Instant::now();
        let mut standing = Standing::default();
        (0..9).for_each(|_| standing.failed(sender(1), true, now));
        // The second one's first failure is the third that counts.
        for (who, seconds) in [(2, 15), (2, 30), (2, 30), (3, 60), (3, 120), (4, 240), (5, 240)] {
            standing.failed(sender(who), true, now);
            let out = Duration::from_secs(seconds);
            assert_eq!(standing.turn(Some(sender(9)), now + out - STEP), Turn::Out, "{who}");
            assert_ne!(standing.turn(Some(sender(9)), now + out), Turn::Out, "{who}");
        }
        standing.went_well();
        assert_eq!(standing, Standing::default());
        // Two that failed once each are not enough, nor one after the other was forgotten.
        standing.failed(sender(1), true, now);
        standing.failed(sender(2), true, now);
        assert_eq!(standing.turn(None, now), Turn::Last);
        let later = now + FORGOTTEN_AFTER;
        standing.failed(sender(3), true, later);
        standing.failed(sender(3), true, later);
        assert_eq!(standing.turn(None, later), Turn::Last);
        assert_eq!(standing.failed.len(), 1);
    }

    #[test]
    fn what_fails_for_one_alone_is_nobody_elses_and_undone_by_its_own_success() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        for who in [1, 2, 3] {
            (0..3).for_each(|_| standing.failed_for(sender(who), now));
        }
        let turn = |standing: &Standing, who| standing.turn(Some(sender(who)), now);
        assert_eq!((turn(&standing, 1), turn(&standing, 9)), (Turn::Out, Turn::First));
        standing.went_well_for(sender(9));
        standing.went_well_for(sender(2));
        let all = [1, 2, 3].map(|who| turn(&standing, who));
        assert_eq!(all, [Turn::Out, Turn::First, Turn::Out]);
        assert_eq!(standing.turn(Some(sender(1)), now + BRIEFLY_OUT), Turn::First);
        (0..99).for_each(|_| standing.failed_for(sender(1), now));
        assert_eq!(standing.turn(Some(sender(1)), now + LONGEST_OUT - STEP), Turn::Out);
        assert_eq!(standing.turn(Some(sender(1)), now + LONGEST_OUT), Turn::First);
    }

    #[test]
    fn who_does_not_answer_is_not_asked_until_it_does() {
        let mut standing = Standing::default();
        standing.answered(false);
        assert_eq!(standing.turn(None, Instant::now()), Turn::Out);
        standing.answered(true);
        assert_eq!(standing.turn(None, Instant::now()), Turn::First);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        /// Whatever one sender does, and however often: who else comes finds the runner where it was.
        #[test]
        fn one_sender_takes_a_runner_from_nobody_else(
            starts in prop::collection::vec((any::<bool>(), 0_u64..100_000), 0..60),
        ) {
            let (mut standing, mut now) = (Standing::default(), Instant::now());
            for (is_its_fault, pause_ms) in starts {
                standing.failed(sender(1), is_its_fault, now);
                prop_assert_ne!(standing.turn(None, now), Turn::Out);
                prop_assert_ne!(standing.turn(Some(sender(2)), now), Turn::Out);
                now += Duration::from_millis(pause_ms);
            }
        }

        #[test]
        fn what_is_kept_is_bounded_and_nobody_is_out_for_long(
            starts in prop::collection::vec((any::<u8>(), 0_u64..100_000), 1..300),
        ) {
            let (mut standing, mut now) = (Standing::default(), Instant::now());
            for (who, pause_ms) in starts {
                now += Duration::from_millis(pause_ms);
                standing.failed(sender(who), true, now);
                prop_assert!(standing.failed.len() <= MOST_SENDERS);
                prop_assert_ne!(standing.turn(Some(sender(who)), now + LONGEST_OUT), Turn::Out);
            }
        }
    }
}
