//! How many units of credit the jobs of this replica take in a second, by session, and how much at once the
//! signer refused to sell: what is bought ahead goes by both. A hint only; losing it costs a payment more.

use penstock_store::SessionKey;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Over which time a pace is counted.
const SECOND: Duration = Duration::from_secs(1);
/// How long a refusal counts: a budget may have been raised, a deposit filled up.
const REFUSED: Duration = Duration::from_secs(60);
/// Sessions that are known at a time.
const MOST: usize = 4_096;

/// By session.
#[derive(Debug, Default)]
pub struct Paces(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_session: HashMap<SessionKey, Pace>,
    /// When room was last made: not for each job anew.
    swept: Option<Instant>,
}

/// Of one session.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Units taken in the second that began then.
    began: Instant,
    units: u64,
    /// In the second before that.
    before: u64,
    /// When the signer refused how many units.
    refused: Option<(Instant, u64)>,
    /// The last purchase ahead failed, and nobody has bought since.
    failed_ahead: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { began: now, units: 0, before: 0, refused: None, failed_ahead: false }
    }

    fn at(self, now: Instant) -> Self {
        let age = now.saturating_duration_since(self.began);
        let refused = self.refused.filter(|(at, _)| now.saturating_duration_since(*at) < REFUSED);
        match age {
            _ if age < SECOND => Self { refused, ..self },
            _ if age < 2 * SECOND => {
                Self { began: self.began + SECOND, units: 0, before: self.units, refused, ..self }
            }
            _ => Self { began: now, units: 0, before: 0, refused, ..self },
        }
    }

    fn says_nothing(self) -> bool {
        (self.units, self.before, self.refused) == (0, 0, None)
    }
}

impl Paces {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &SessionKey, now: Instant, change: impl FnOnce(&mut Pace)) {
        let mut known = self.known();
        if let Some(pace) = known.by_session.get_mut(key) {
            *pace = pace.at(now);
            return change(pace);
        }
        if known.by_session.len() >= MOST
            && known.swept.is_none_or(|at| now.saturating_duration_since(at) >= SECOND)
        {
            known.swept = Some(now);
            known.by_session.retain(|_, pace| !pace.at(now).says_nothing());
        }
        if known.by_session.len() < MOST {
            change(known.by_session.entry(key.clone()).or_insert(Pace::new(now)));
        }
    }

    fn at(&self, key: &SessionKey, now: Instant) -> Option<Pace> {
        self.known().by_session.get(key).map(|pace| pace.at(now))
    }

    /// A job took so many units of credit.
    pub fn took(&self, key: &SessionKey, units: u64, now: Instant) {
        self.change(key, now, |pace| pace.units = pace.units.saturating_add(units));
    }

    /// Units that the jobs of a session take in `ms` milliseconds: as many as in the second that is
    /// counted, or in the one before where those were more.
    pub fn units_in(&self, key: &SessionKey, ms: u64, now: Instant) -> u64 {
        let per_second = self.at(key, now).map_or(0, |pace| pace.units.max(pace.before));
        let units = u128::from(per_second) * u128::from(ms) / 1_000;
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// A purchase ahead failed: the next one is made by a job that needs it, and can say why.
    pub fn failed_ahead(&self, key: &SessionKey, now: Instant) {
        self.change(key, now, |pace| pace.failed_ahead = true);
    }

    /// A job bought what it needed.
    pub fn bought(&self, key: &SessionKey) {
        if let Some(pace) = self.known().by_session.get_mut(key) {
            pace.failed_ahead = false;
        }
    }

    /// Whether a purchase ahead may go well.
    pub fn may_buy_ahead(&self, key: &SessionKey) -> bool {
        self.known().by_session.get(key).is_none_or(|pace| !pace.failed_ahead)
    }

    /// The signer refused to sell so many units at once: beyond its limits, or the caller's.
    pub fn refused(&self, key: &SessionKey, units: u64, now: Instant) {
        self.change(key, now, |pace| pace.refused = Some((now, units)));
    }

    /// What is worth asking for at once: half of what was refused lately.
    pub fn most(&self, key: &SessionKey, now: Instant) -> u64 {
        let refused = self.at(key, now).and_then(|pace| pace.refused);
        refused.map_or(u64::MAX, |(_, units)| units / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> SessionKey {
        SessionKey { scope: n.to_string(), orchestrator: "o".into() }
    }

    #[test]
    fn a_pace_is_that_of_the_last_second() {
        let (paces, start) = (Paces::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let took = |ms, units| paces.took(&key(0), units, at(ms));
        let pace = |ms| paces.units_in(&key(0), 1_000, at(ms));
        assert_eq!(pace(0), 0);
        took(0, 5);
        took(900, 7);
        assert_eq!((pace(900), pace(1_000), pace(1_999), pace(2_000)), (12, 12, 12, 0));
        assert_eq!(
            (paces.units_in(&key(0), 500, at(900)), paces.units_in(&key(0), 0, at(900))),
            (6, 0)
        );
        took(1_500, 4);
        assert_eq!(pace(1_500), 12, "of two seconds the faster one");
        assert_eq!((pace(2_100), pace(3_000)), (4, 0));
        took(10_000, u64::MAX);
        took(10_000, 1);
        assert_eq!(pace(10_000), u64::MAX);
        assert_eq!(paces.units_in(&key(0), 60_000, at(10_000)), u64::MAX);
    }

    #[test]
    fn less_is_asked_for_after_a_refusal_for_a_while() {
        let (paces, start) = (Paces::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(paces.most(&key(0), start), u64::MAX);
        paces.refused(&key(0), 100, start);
        assert_eq!((paces.most(&key(0), at(59_999)), paces.most(&key(1), at(0))), (50, u64::MAX));
        paces.refused(&key(0), 50, at(30_000));
        assert_eq!(paces.most(&key(0), at(70_000)), 25);
        paces.took(&key(0), 1, at(70_000));
        assert_eq!(paces.most(&key(0), at(90_000)), u64::MAX);
    }

    #[test]
    fn after_a_failure_a_job_buys_first() {
        let (paces, now) = (Paces::default(), Instant::now());
        assert!(paces.may_buy_ahead(&key(0)));
        paces.failed_ahead(&key(0), now);
        paces.took(&key(0), 1, now + 10 * SECOND);
        assert!(!paces.may_buy_ahead(&key(0)) && paces.may_buy_ahead(&key(1)));
        paces.bought(&key(0));
        assert!(paces.may_buy_ahead(&key(0)));
    }

    #[test]
    fn who_has_stopped_makes_room() {
        let (paces, start) = (Paces::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let count = || paces.known().by_session.len();
        for n in 0..MOST + 10 {
            paces.took(&key(n), 1, start);
        }
        assert_eq!(count(), MOST);
        paces.took(&key(MOST), 1, at(500));
        assert_eq!((count(), paces.units_in(&key(MOST), 1_000, at(500))), (MOST, 0));
        paces.took(&key(MOST), 1, at(10_000));
        assert_eq!(count(), 1);
    }
}
