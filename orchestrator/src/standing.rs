//! What is known of a live video runner, or of the worker of a brought capability, before it is asked: whether it
//! answers at all, and whether it does what it is asked for. What fails for one sender says something of that
//! sender's requests: who else is served there does not hang on it. Only what fails for several, each of them more than
//! once and nobody well in between, is the runner's, and even that only until we have asked it ourselves: whom we have
//! seen begin, no sender's word takes from the others. Times are arguments.

use penstock_domain::Address;
use std::time::Duration;
use tokio::time::Instant;

/// A runner that was not well, or has failed, is asked after all others for so long; who is left out for all is so for
/// as long.
pub const BROKEN_FOR: Duration = Duration::from_secs(15);
/// Requests in a row that may fail one sender before the runner is left out for it; and that have to, before that
/// sender's word counts for others.
const MOST_FAILED: u32 = 2;
/// Senders whose word leaves it out for all.
const SEVERAL: usize = 3;
/// Where it is left out for one sender alone because of what costs that sender nothing, the first time is shorter: it
/// may be back at once.
const BRIEFLY_OUT: Duration = Duration::from_secs(5);
/// It is left out for 15 s, then twice as long after each further failure, and this long at most.
const LONGEST_OUT: Duration = Duration::from_secs(240);
/// So long after its last one a sender's failures are forgotten; and so long after our own trial went well no sender's
/// word counts for others.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(480);
/// Senders whose failures are kept; of more, those that failed last.
const MOST_SENDERS: usize = 16;

/// How a runner stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    asked_last_until: Option<Instant>,
    /// For all.
    out_until: Option<Instant>,
    /// Several senders doubt it: from then on it is ours to try.
    trial_from: Option<Instant>,
    /// It has passed a trial.
    proved_until: Option<Instant>,
    failed: Vec<Failed>,
    is_silent: bool,
}

/// Requests of one sender that failed since one last went well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    sender: Address,
    in_a_row: u32,
    /// Those of them that count for others: since anybody's last went well, or it was left out for all.
    against: u32,
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
        if self.proved_until.is_some_and(|until| now < until) {
            return;
        }
        if let Some(its) = self.failed.last_mut() {
            its.against = its.against.saturating_add(1);
        }
        let speaks = |failed: &&Failed| failed.against >= MOST_FAILED;
        if self.failed.iter().filter(speaks).count() >= SEVERAL {
            (self.out_until, self.trial_from) = (Some(now + BROKEN_FOR), Some(now));
            self.forget_what_counts();
        }
    }

    /// The same where failures are free and may be of the sender's own making: it is left out for this sender alone,
    /// so that nobody takes a worker from anybody else by them.
    pub fn failed_for(&mut self, sender: Address, now: Instant) {
        self.note(sender, now, BRIEFLY_OUT);
    }

    /// It did what this sender asked for, so that it is there for all. What others' requests came to is not undone for
    /// themselves: else whoever makes it fail could hide behind them.
    pub fn went_well_for(&mut self, sender: Address) {
        self.failed.retain(|failed| failed.sender != sender);
        self.is_there();
    }

    /// It did what we asked for ourselves.
    pub fn proved(&mut self, now: Instant) {
        self.is_there();
        self.proved_until = Some(now + FORGOTTEN_AFTER);
    }

    /// It did not. Nobody is sent there until the next trial.
    pub fn failed_trial(&mut self, now: Instant) {
        self.was_unwell(now);
        let next = now + BROKEN_FOR;
        // With time for that trial. Where none can be made, whoever comes next finds out.
        (self.trial_from, self.out_until) = (Some(next), Some(next + BROKEN_FOR));
    }

    /// Whether it is ours to try whether it does what it is asked for.
    pub fn is_doubted(&self, now: Instant) -> bool {
        self.trial_from.is_some_and(|from| from <= now)
    }

    fn is_there(&mut self) {
        (self.asked_last_until, self.out_until, self.trial_from) = (None, None, None);
        self.forget_what_counts();
    }

    fn forget_what_counts(&mut self) {
        self.failed.iter_mut().for_each(|failed| failed.against = 0);
    }

    /// One failure more, at the end of the list.
    fn note(&mut self, sender: Address, now: Instant, first: Duration) {
        self.failed.retain(|failed| now < failed.last + FORGOTTEN_AFTER);
        let at = self.failed.iter().position(|failed| failed.sender == sender);
        let before = at.map(|at| self.failed.remove(at));
        if self.failed.len() >= MOST_SENDERS {
            // They are in the order of their last failures.
            self.failed.remove(0);
        }
        let (in_a_row, against) = before.map_or((0, 0), |its| (its.in_a_row, its.against));
        let in_a_row = in_a_row.saturating_add(1);
        let out_until = time_out(in_a_row, first).map(|time| now + time);
        self.failed.push(Failed { sender, in_a_row, against, last: now, out_until });
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

    /// Several senders say that it fails, each as often as it takes.
    fn doubt(standing: &mut Standing, senders: impl IntoIterator<Item = u8>, now: Instant) {
        for who in senders {
            (0..MOST_FAILED).for_each(|_| standing.failed(sender(who), true, now));
        }
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
        standing.went_well_for(sender(1));
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn what_fails_for_several_is_left_out_for_all_until_we_have_tried_it() {
        let now = Instant::now();
        let mut standing = Standing::default();
        let turn = |standing: &Standing, now| standing.turn(Some(sender(9)), now);
        // However often it fails two of them, and once for as many as like.
        (0..99).for_each(|_| doubt(&mut standing, [1, 2], now));
        (3..9).for_each(|who| standing.failed(sender(who), true, now));
        assert_eq!((turn(&standing, now), standing.is_doubted(now)), (Turn::Last, false));
        standing.failed(sender(3), true, now);
        assert_eq!((turn(&standing, now), standing.is_doubted(now)), (Turn::Out, true));
        // Nobody has tried it: whoever comes next finds out, and their words of before count no more.
        assert_eq!(turn(&standing, now + BROKEN_FOR), Turn::First);
        let mut other = standing.clone();
        other.failed(sender(1), true, now + BROKEN_FOR);
        assert_eq!(turn(&other, now + BROKEN_FOR), Turn::Last);

        // It fails us, too: out until we have tried it once more.
        standing.failed_trial(now);
        let next = now + BROKEN_FOR;
        assert!(!standing.is_doubted(next - STEP) && standing.is_doubted(next));
        assert_eq!(turn(&standing, next), Turn::Out);
        // It does not: back at once, and what senders say from now on is for themselves.
        standing.proved(next);
        assert_eq!((turn(&standing, next), standing.is_doubted(next)), (Turn::First, false));
        doubt(&mut standing, 1..9, next);
        assert_eq!(turn(&standing, next), Turn::Last);
        assert_eq!(standing.turn(Some(sender(1)), next), Turn::Out);
        let later = next + FORGOTTEN_AFTER;
        doubt(&mut standing, 1..=3, later);
        assert_eq!(turn(&standing, later), Turn::Out);
    }

    #[test]
    fn whom_anybody_sees_do_well_is_there_for_all() {
        let now = Instant::now();
        let mut standing = Standing::default();
        doubt(&mut standing, [1, 2], now);
        standing.failed(sender(3), true, now);
        standing.went_well_for(sender(9));
        standing.failed(sender(3), true, now);
        assert_eq!(standing.turn(None, now), Turn::Last, "what was said before counts no more");
        doubt(&mut standing, [1, 2], now);
        assert_eq!(standing.turn(None, now), Turn::Last);
        standing.failed(sender(3), true, now);
        assert_eq!(standing.turn(None, now), Turn::Out);
        standing.went_well_for(sender(9));
        assert_eq!(standing.turn(None, now), Turn::First);
        assert_eq!(standing.turn(Some(sender(1)), now), Turn::Out, "its own requests fail");
        // Nor do words from long ago.
        let later = now + FORGOTTEN_AFTER;
        doubt(&mut standing, [4, 5], now);
        doubt(&mut standing, [6], later);
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
        /// Whatever two senders do, and however often: who else comes finds the runner where it was.
        #[test]
        fn two_senders_take_a_runner_from_nobody_else(
            starts in prop::collection::vec((1_u8..=2, any::<bool>(), 0_u64..100_000), 0..60),
        ) {
            let (mut standing, mut now) = (Standing::default(), Instant::now());
            for (who, is_its_fault, pause_ms) in starts {
                standing.failed(sender(who), is_its_fault, now);
                prop_assert_ne!(standing.turn(None, now), Turn::Out);
                prop_assert_ne!(standing.turn(Some(sender(3)), now), Turn::Out);
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
                prop_assert_ne!(standing.turn(None, now + BROKEN_FOR), Turn::Out);
            }
        }

        /// Whom we have seen begin, nobody's word takes from anybody else for as long as that counts.
        #[test]
        fn whom_we_have_tried_is_there_for_all_others(
            starts in prop::collection::vec((1_u8..=200, 0_u64..1_000), 0..300),
        ) {
            let (mut standing, mut now) = (Standing::default(), Instant::now());
            standing.proved(now);
            for (who, pause_ms) in starts {
                standing.failed(sender(who), true, now);
                prop_assert_ne!(standing.turn(Some(sender(255)), now), Turn::Out);
                now += Duration::from_millis(pause_ms);
            }
        }
    }
}
