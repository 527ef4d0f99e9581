//! Jobs of brought capabilities. They are paid by the second, so that their charges look alike: what tells
//! them apart is when their work began, by the clock that client and process share, and that an account's jobs
//! come one after the other.

use super::books::Charge;
use crate::orchestrator_chaos::{byoc::TIMEOUT_S, held::BroughtJob, trio::LEASE};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// Jobs that were answered, each charged once.
    pub answered: u64,
    /// Jobs without an answer.
    pub unanswered: u64,
    /// Of them: charged, each once.
    pub unanswered_charged: u64,
    /// Seconds charged.
    pub seconds: u64,
}

/// One job according to the ledger.
struct Charged {
    began_ms: i64,
    seconds: u64,
}

/// Each job that was answered is charged once, for no more seconds than its client waited and no fewer than its
/// worker took; one that was not answered at most once; and nothing else is.
pub fn judge(charges: &[Charge], jobs: &[BroughtJob], counts: &mut Brought) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = charged(charges, &mut found);
    counts.seconds += left.iter().map(|charged| charged.seconds).sum::<u64>();
    for BroughtJob { from_ms, to_ms, work_ms } in jobs {
        let Some(to_ms) = to_ms else { continue };
        counts.answered += 1;
        let waited = begun_seconds(to_ms - from_ms);
        let took = begun_seconds(i64::try_from(*work_ms).unwrap_or(i64::MAX));
        let is_its = |charged: &Charged| {
            (*from_ms..=*to_ms).contains(&charged.began_ms)
                && (took..=waited).contains(&charged.seconds)
        };
        match left.iter().position(is_its) {
            Some(its) => drop(left.remove(its)),
            None => found.push(format!(
                "a brought job of {from_ms} to {to_ms} ms was answered for nothing, or not for {took} to \
                 {waited} s"
            )),
        }
    }
    // What is left is of jobs that nobody heard of, each later than the job was sent: one for each.
    let mut unheard: Vec<i64> =
        jobs.iter().filter(|job| job.to_ms.is_none()).map(|job| job.from_ms).collect();
    counts.unanswered += unheard.len() as u64;
    unheard.sort_unstable();
    left.sort_unstable_by_key(|charged| charged.began_ms);
    let mut free = 0;
    let mut sent = unheard.into_iter().peekable();
    for Charged { began_ms, seconds } in left {
        while sent.next_if(|from_ms| *from_ms <= began_ms).is_some() {
            free += 1;
        }
        if free == 0 {
            found.push(format!("a brought job that began at {began_ms} ms is charged, nobody's"));
            continue;
        }
        free -= 1;
        counts.unanswered_charged += 1;
        if seconds > most_unheard() {
            found.push(format!("a brought job that nobody heard of is charged for {seconds} s"));
        }
    }
    found
}

/// Seconds that a job can come to of which nobody hears: its body's time and its worker's, and a pause.
fn most_unheard() -> u64 {
    2 * (u64::from(TIMEOUT_S) + LEASE.as_secs()) + 1
}

/// The charges by job: numbered from 0, each number once.
fn charged(charges: &[Charge], found: &mut Vec<String>) -> Vec<Charged> {
    let mut jobs: BTreeMap<&str, BTreeMap<u64, &Charge>> = BTreeMap::new();
    for charge in charges {
        let parts = charge.job.rsplit_once('/');
        match parts.and_then(|(job, number)| Some((job, number.parse().ok()?))) {
            Some((job, number)) => {
                jobs.entry(job).or_default().insert(number, charge);
            }
            None => found.push(format!("{} is no charge of a brought job", charge.job)),
        }
    }
    let mut all = Vec::new();
    for (job, charges) in jobs {
        let first = charges.get(&0).and_then(|charge| charge.began_ms);
        let is_whole = charges.keys().copied().eq(0..charges.len() as u64);
        let seconds = charges.values().map(|charge| charge.units).sum();
        match (first, is_whole) {
            (Some(began_ms), true) => all.push(Charged { began_ms, seconds }),
            _ => found.push(format!("{job} lacks some of its charges")),
        }
    }
    all
}

/// Seconds that have begun; at least one.
fn begun_seconds(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).div_ceil(1_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Rational;

    fn charge(job: &str, units: u64, began_ms: i64) -> Charge {
        let fee = Rational::from(units);
        Charge { job: format!("byoc/{job}"), units, fee, began_ms: Some(began_ms) }
    }

    /// One of 100 to 400 ms that was answered, one of 500 that was not, one of 1,000 to 2,500 that was.
    fn jobs() -> Vec<BroughtJob> {
        let job = |from_ms, to_ms, work_ms| BroughtJob { from_ms, to_ms, work_ms };
        vec![job(100, Some(400), 0), job(500, None, 0), job(1_000, Some(2_500), 1_200)]
    }

    fn said(charges: &[Charge]) -> (String, Brought) {
        let mut counts = Brought::default();
        (judge(charges, &jobs(), &mut counts).join("; "), counts)
    }

    #[test]
    fn each_is_charged_once_and_who_was_not_answered_at_most_once() {
        let both = [charge("a/0", 1, 110), charge("c/0", 2, 1_050)];
        assert_eq!(said(&both).0, "");
        let mut all = both.to_vec();
        // A process that stood still does it later.
        all.push(charge("b/0", 1, 2_000));
        let (found, counts) = said(&all);
        assert_eq!(found, "");
        let wanted = Brought { answered: 2, unanswered: 1, unanswered_charged: 1, seconds: 4 };
        assert_eq!(counts, wanted);
    }

    #[test]
    fn every_kind_of_wrong_charge_is_found() {
        let (a, c) = (charge("a/0", 1, 110), charge("c/0", 2, 1_050));
        let found =
            |charges: &[&Charge]| said(&charges.iter().copied().cloned().collect::<Vec<_>>()).0;
        assert!(found(&[&a]).contains("answered for nothing"));
        assert!(found(&[&a, &charge("c/0", 1, 1_050)]).contains("not for 2 to 2 s"), "too little");
        assert!(found(&[&charge("a/0", 2, 110), &c]).contains("not for 1 to 1 s"), "too much");
        assert!(found(&[&a, &c, &charge("x/0", 1, 120)]).contains("nobody's"), "twice");
        let twice = [&a, &c, &charge("x/0", 1, 520), &charge("y/0", 1, 530)];
        assert!(found(&twice).contains("nobody's"));
        assert!(found(&[&a, &c, &charge("x/0", 12, 520)]).contains("for 12 s"));
        assert!(found(&[&a, &c, &charge("x/1", 1, 520)]).contains("lacks some"));
        assert!(found(&[&a, &c, &charge("x", 1, 520)]).contains("no charge of a brought job"));
    }
}
