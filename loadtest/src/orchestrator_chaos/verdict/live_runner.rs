//! Sessions of live runners. They are paid by the second, each from its own account, whichever processes it was
//! at. What a process that dies had not charged is not charged any more, so that a session costs at most
//! its time, and all of it where nothing was broken.

use super::books::Charge;
use crate::orchestrator_chaos::{held::Stint, tally::Tally, trio::RUNNER_LEASE};
use serde::{Deserialize, Serialize};

/// Around a session's end, milliseconds: what is charged at its end is in the books by then.
const BOOKED_MS: i64 = 2_000;
/// Seconds that a session is known to have lasted for the law of what it costs at least to say something.
const LASTED_S: u64 = 2;
/// Beyond the disuse that ends a session of which nobody knows: until that is noticed.
const NOTICED_S: u64 = 3;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runners {
    /// Sessions.
    pub sessions: u64,
    /// Times that one was taken up at a further process, or tried there.
    pub moves: u64,
    /// Sessions of two seconds and more in which nothing of their process was broken, each charged for all its time.
    pub undisturbed: u64,
    /// Seconds charged.
    pub seconds: u64,
    /// Seconds that the sessions lasted, at most.
    pub most_seconds: u64,
}

/// Nothing is charged but the time of a session, and all of it that is known where nothing was broken.
pub fn judge(
    charges: &[Charge],
    stints: &[Stint],
    seen: &Seen<'_>,
    counts: &mut Runners,
) -> Vec<String> {
    let tally = seen.tally;
    let seconds: u64 = charges.iter().map(|charge| charge.units).sum();
    let most = most_units(stints, tally, i64::MAX);
    let least = seen.least_units(stints);
    counts.sessions += 1;
    counts.moves += stints.len().saturating_sub(1) as u64;
    counts.undisturbed += u64::from(least.is_some_and(|least| least >= LASTED_S));
    counts.seconds += seconds;
    counts.most_seconds += most;
    let mut found = Vec::new();
    let foreign = charges.iter().filter(|charge| !charge.job.starts_with("runner/"));
    found.extend(foreign.map(|charge| format!("{} is no charge of a live runner", charge.job)));
    if seconds > most {
        found.push(format!("{seconds} s were charged, and the session had {most}"));
    }
    if let Some(least) = least.filter(|least| seconds < *least) {
        found.push(format!("{seconds} s were charged of {least} in which nothing was broken"));
    }
    found
}

/// Units that such a session can have cost, with what goes on until `now_ms`.
pub fn most_units(stints: &[Stint], tally: &Tally, now_ms: i64) -> u64 {
    let of = |stint: &Stint| {
        let to_ms = if stint.to_ms == 0 { now_ms } else { stint.to_ms };
        // One that stands still ends a session when it goes on.
        let paused_ms =
            tally.paused_ms(stint.process, stint.from_ms, to_ms.saturating_add(BOOKED_MS));
        let ms = (to_ms - stint.from_ms).saturating_add(paused_ms);
        let begun = u64::try_from(ms).unwrap_or(0).div_ceil(1_000);
        // It may have begun after its end, where nobody heard of its begin.
        let unheard = if stint.begun_ms.is_none() { RUNNER_LEASE.as_secs() + NOTICED_S } else { 0 };
        begun + 1 + unheard
    };
    stints.iter().map(of).sum()
}

/// What is known of what was broken.
pub struct Seen<'a> {
    /// By the run itself.
    pub tally: &'a Tally,
    /// By each process: Unix ms at which it said so.
    pub uncharged_ms: Vec<Vec<i64>>,
}

impl Seen<'_> {
    /// Units that a session has cost at least: those of the time in which it was there for certain. `None` where
    /// something of its process was broken in its time.
    fn least_units(&self, stints: &[Stint]) -> Option<u64> {
        let [stint] = stints else { return None };
        let begun_ms = stint.begun_ms.filter(|_| stint.lasted)?;
        let (from_ms, to_ms) = (stint.from_ms, stint.to_ms + BOOKED_MS);
        let uncharged = self.uncharged_ms.get(stint.process).into_iter().flatten();
        if !self.tally.was_quiet(stint.process, from_ms, to_ms)
            || uncharged.into_iter().any(|at_ms| (from_ms..=to_ms).contains(at_ms))
        {
            return None;
        }
        let whole = u64::try_from(stint.seen_ms - begun_ms).unwrap_or(0) / 1_000;
        Some(whole.max(u64::from(stint.used)))
    }

    /// Whether a session that has ended will be judged by what it cost at least, whatever happens from now on.
    pub fn is_undisturbed(&self, stints: &[Stint], now_ms: i64) -> bool {
        let is_over = stints.iter().all(|stint| stint.to_ms + BOOKED_MS < now_ms);
        is_over && self.least_units(stints).is_some_and(|least| least >= LASTED_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator_chaos::clock::now_ms;
    use penstock_domain::Rational;

    fn charges(units: &[u64]) -> Vec<Charge> {
        let charge = |(n, units): (usize, &u64)| {
            let fee = Rational::from(*units);
            Charge { job: format!("runner/a/{n}"), units: *units, fee, began_ms: None }
        };
        units.iter().enumerate().map(charge).collect()
    }

    /// It lasted 3.2 s, and 2.6 s of it are known to have been its.
    fn stint() -> Stint {
        Stint {
            process: 0,
            from_ms: 1_000,
            begun_ms: Some(1_500),
            seen_ms: 4_100,
            to_ms: 4_200,
            used: true,
            lasted: true,
        }
    }

    fn seen(tally: &Tally) -> Seen<'_> {
        Seen { tally, uncharged_ms: vec![Vec::new(); 2] }
    }

    fn said(units: &[u64], stints: &[Stint], tally: &Tally) -> String {
        judge(&charges(units), stints, &seen(tally), &mut Runners::default()).join("; ")
    }

    #[test]
    fn a_session_costs_its_time() {
        let tally = Tally::new(1, 1);
        assert_eq!(said(&[1, 1], &[stint()], &tally), "");
        assert_eq!(said(&[1, 1, 3], &[stint()], &tally), "");
        assert!(
            said(&[1, 5], &[stint()], &tally).contains("6 s were charged, and the session had 5")
        );
        assert!(said(&[1], &[stint()], &tally).contains("1 s were charged of 2"));
        let short = Stint { seen_ms: 1_600, ..stint() };
        assert!(said(&[], &[short], &tally).contains("0 s were charged of 1"), "it was used");
        let foreign = Charge { job: "byoc/a/0".to_owned(), ..charges(&[2])[0].clone() };
        let found = judge(&[foreign], &[stint()], &seen(&tally), &mut Runners::default());
        assert!(found[0].contains("no charge of a live runner"), "{found:?}");
    }

    #[test]
    fn what_a_dead_process_had_not_charged_is_not_missed() {
        let tally = Tally::new(1, 1);
        let died = Stint { lasted: false, ..stint() };
        assert_eq!(said(&[], std::slice::from_ref(&died), &tally), "");
        assert_eq!(said(&[4], &[died.clone(), stint()], &tally), "", "it went on elsewhere");
        assert!(said(&[11], &[died, stint()], &tally).contains("the session had 10"));
        let unheard = Stint { begun_ms: None, ..stint() };
        assert_eq!(said(&[16], std::slice::from_ref(&unheard), &tally), "");
        assert!(said(&[17], &[unheard], &tally).contains("the session had 16"));
    }

    #[test]
    fn troubles_are_taken_into_account() {
        let (tally, from_ms) = (Tally::new(1, 2), now_ms() - 4_000);
        let at = |process| {
            let (begun_ms, seen_ms) = (Some(from_ms + 500), from_ms + 3_100);
            Stint { process, from_ms, begun_ms, seen_ms, to_ms: from_ms + 3_200, ..stint() }
        };
        tally.broken(from_ms, vec![0]);
        tally.paused(from_ms, 1);
        assert_eq!(said(&[], &[at(0)], &tally), "", "something was broken");
        assert!(said(&[8], &[at(0)], &tally).contains("the session had 5"));
        assert_eq!(said(&[9], &[at(1)], &tally), "", "it stood still for four seconds");
    }

    #[test]
    fn only_what_is_its_process_s_own_excuses_it() {
        let (tally, from_ms) = (Tally::new(1, 2), now_ms() - 4_000);
        let times = Stint { from_ms, begun_ms: Some(from_ms), to_ms: from_ms + 3_000, ..stint() };
        let session = Stint { seen_ms: from_ms + 2_500, ..times };
        let too_little = "1 s were charged of 2";
        tally.broken(from_ms, vec![1]);
        assert!(said(&[1], std::slice::from_ref(&session), &tally).contains(too_little));
        let judged = |at_ms: i64, process: usize| {
            let mut seen = seen(&tally);
            seen.uncharged_ms[process].push(at_ms);
            let mut counts = Runners::default();
            let found = judge(&charges(&[1]), std::slice::from_ref(&session), &seen, &mut counts);
            (found.is_empty(), counts.undisturbed)
        };
        assert_eq!(judged(from_ms + 1_000, 0), (true, 0), "it has said so itself");
        assert_eq!(judged(from_ms + 4_500, 0), (true, 0), "at its end");
        assert_eq!(judged(from_ms + 9_000, 0), (false, 1));
        assert_eq!(judged(from_ms + 1_000, 1), (false, 1), "another has");
    }

    #[test]
    fn sessions_of_which_the_least_is_known_are_counted() {
        let tally = Tally::new(1, 2);
        let is_counted = |stint: Stint| {
            let seen = seen(&tally);
            let mut counts = Runners::default();
            judge(&charges(&[3]), std::slice::from_ref(&stint), &seen, &mut counts);
            assert_eq!(counts.undisturbed == 1, seen.is_undisturbed(&[stint], now_ms()));
            counts.undisturbed == 1
        };
        assert!(is_counted(stint()));
        assert!(!is_counted(Stint { lasted: false, ..stint() }));
        assert!(!is_counted(Stint { begun_ms: None, ..stint() }));
        assert!(!is_counted(Stint { seen_ms: 2_600, ..stint() }), "a second says little");
        assert!(!seen(&tally).is_undisturbed(&[stint()], 5_000), "it is not known yet");
        assert!(!seen(&tally).is_undisturbed(&[stint(), stint()], now_ms()));
    }
}
