//! Sessions of live runners. They are paid by the second, each from its own account, whichever processes it was
//! at. What a process that dies had not charged is not charged any more, so that a session costs at most
//! its time, and all of it where nothing was broken.

use super::books::Charge;
use crate::orchestrator_chaos::{held::Stint, tally::Tally, trio::RUNNER_LEASE};
use serde::{Deserialize, Serialize};

/// Around a session's end, milliseconds: what is charged at its end is in the books by then.
const BOOKED_MS: i64 = 2_000;
/// Beyond the disuse that ends a session of which nobody knows: until that is noticed.
const NOTICED_S: u64 = 3;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runners {
    /// Sessions.
    pub sessions: u64,
    /// Times that one was taken up at a further process, or tried there.
    pub moves: u64,
    /// Sessions in which nothing was broken, each charged for all its time.
    pub undisturbed: u64,
    /// Seconds charged.
    pub seconds: u64,
    /// Seconds that the sessions lasted, at most.
    pub most_seconds: u64,
}

/// Nothing is charged but the time of a session, as much as it lasted where nothing was broken.
pub fn judge(
    charges: &[Charge],
    stints: &[Stint],
    tally: &Tally,
    counts: &mut Runners,
) -> Vec<String> {
    let seconds: u64 = charges.iter().map(|charge| charge.units).sum();
    let most = most_units(stints, tally, i64::MAX);
    let least = least_units(stints, tally);
    counts.sessions += 1;
    counts.moves += stints.len().saturating_sub(1) as u64;
    counts.undisturbed += u64::from(least.is_some());
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

/// Units that a session has cost at least; `None` where something was broken in its time.
fn least_units(stints: &[Stint], tally: &Tally) -> Option<u64> {
    let [stint] = stints else { return None };
    let begun_ms = stint.begun_ms.filter(|_| stint.lasted)?;
    if !tally.was_quiet(stint.from_ms, stint.to_ms + BOOKED_MS) {
        return None;
    }
    let whole = u64::try_from(stint.stopped_ms - begun_ms).unwrap_or(0) / 1_000;
    Some(whole.max(u64::from(stint.used)))
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
            stopped_ms: 4_100,
            to_ms: 4_200,
            used: true,
            lasted: true,
        }
    }

    fn said(units: &[u64], stints: &[Stint], tally: &Tally) -> String {
        judge(&charges(units), stints, tally, &mut Runners::default()).join("; ")
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
        let short = Stint { stopped_ms: 1_600, ..stint() };
        assert!(said(&[], &[short], &tally).contains("0 s were charged of 1"), "it was used");
        let foreign = Charge { job: "byoc/a/0".to_owned(), ..charges(&[2])[0].clone() };
        let found = judge(&[foreign], &[stint()], &tally, &mut Runners::default());
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
            let (begun_ms, stopped_ms) = (Some(from_ms + 500), from_ms + 3_100);
            Stint { process, from_ms, begun_ms, stopped_ms, to_ms: from_ms + 3_200, ..stint() }
        };
        tally.trouble(from_ms, Some(1));
        assert_eq!(said(&[], &[at(0)], &tally), "", "something was broken");
        assert!(said(&[8], &[at(0)], &tally).contains("the session had 5"));
        assert_eq!(said(&[9], &[at(1)], &tally), "", "it stood still for four seconds");
    }
}
