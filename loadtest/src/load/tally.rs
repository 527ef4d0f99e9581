//! What came of one load: counts, and times in HDR histograms, as a whole and over time. Memory is
//! bounded however long a load lasts.

use super::bins::{Bins, Merge};
use hdrhistogram::Histogram;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The longest time that is told from others, µs: an hour.
pub const LONGEST_US: u64 = 3_600_000_000;
/// Decimal digits that are kept of a time.
const DIGITS: u8 = 3;
/// The same of times over time, which are for a picture.
const ROUGH_DIGITS: u8 = 2;
/// Different reasons of failures that are kept apart.
const MOST_REASONS: usize = 64;
/// Characters of one.
const REASON_CHARS: usize = 160;
/// Under which reasons beyond that are counted.
const OTHER_REASONS: &str = "other reasons";
/// The series of times until failures.
pub const FAILED: &str = "failed";

/// One operation on its way.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Its number, from 0.
    pub number: u64,
    /// When it was to begin: its time counts from here.
    pub due: Instant,
    /// When it did.
    pub begun: Instant,
}

/// A histogram of times, µs.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("good bounds")
}

/// The counts of one load.
#[derive(Debug)]
pub struct Tally {
    /// Operations that have begun.
    started: AtomicU64,
    /// Operations that went well.
    ok: AtomicU64,
    /// Operations that did not.
    failed: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    began: Instant,
    reasons: BTreeMap<String, u64>,
    series: BTreeMap<&'static str, Series>,
}

/// Times of one kind.
#[derive(Debug)]
pub struct Series {
    /// From when it was due, µs.
    pub latency: Histogram<u64>,
    /// From when it began, µs: what a driver would see that waits for each answer.
    pub service: Histogram<u64>,
    /// The first, by when it was due.
    pub by_due: Bins<Rough>,
    /// How many ended, by when they did.
    pub by_end: Bins<u64>,
}

/// A rough histogram, empty until something is in it.
#[derive(Debug, Default)]
pub struct Rough(pub Option<Histogram<u32>>);

impl Merge for Rough {
    fn merge(&mut self, other: Self) {
        let Some(other) = other.0 else { return };
        match &mut self.0 {
            Some(own) => own.add(other).expect("the same bounds"),
            none => *none = Some(other),
        }
    }
}

impl Merge for u64 {
    fn merge(&mut self, other: Self) {
        *self += other;
    }
}

impl Series {
    fn new() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            by_due: Bins::default(),
            by_end: Bins::default(),
        }
    }
}

/// How far a load is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Operations that have begun.
    pub started: u64,
    /// Operations that went well.
    pub ok: u64,
    /// Operations that did not.
    pub failed: u64,
}

impl Progress {
    /// Operations on their way.
    pub fn in_flight(self) -> u64 {
        self.started.saturating_sub(self.ok + self.failed)
    }
}

/// Everything, when a load is over.
#[derive(Debug)]
pub struct Counted {
    /// Operations.
    pub progress: Progress,
    /// Failures by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Times by kind.
    pub series: BTreeMap<&'static str, Series>,
}

impl Default for Tally {
    fn default() -> Self {
        let held =
            Held { began: Instant::now(), reasons: BTreeMap::new(), series: BTreeMap::new() };
        Self {
            started: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held: Mutex::new(held),
        }
    }
}

impl Tally {
    /// Forgets everything: what counts begins now.
    pub fn begin(&self) {
        let mut held = self.held();
        held.began = Instant::now();
        held.reasons.clear();
        held.series.clear();
        for count in [&self.started, &self.ok, &self.failed] {
            count.store(0, Ordering::SeqCst);
        }
    }

    /// When it began to count.
    pub fn began(&self) -> Instant {
        self.held().began
    }

    /// An operation begins.
    pub fn started(&self) {
        self.started.fetch_add(1, Ordering::SeqCst);
    }

    /// An operation went well.
    pub fn went_well(&self) {
        self.ok.fetch_add(1, Ordering::SeqCst);
    }

    /// An operation did not.
    pub fn failed(&self, turn: &Turn, reason: &str) {
        self.failed.fetch_add(1, Ordering::SeqCst);
        self.reason(reason, 1);
        self.record(FAILED, turn.due, turn.begun);
    }

    /// Counts a reason, which need not be a whole operation's.
    pub fn reason(&self, reason: &str, times: u64) {
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        let mut held = self.held();
        let is_known = held.reasons.contains_key(&reason);
        let key = match held.reasons.len() {
            0..MOST_REASONS => reason,
            _ if is_known => reason,
            _ => OTHER_REASONS.to_owned(),
        };
        *held.reasons.entry(key).or_default() += times;
    }

    /// Something has just ended that was due, and begun, then.
    pub fn record(&self, series: &'static str, due: Instant, begun: Instant) {
        let now = Instant::now();
        let mut held = self.held();
        let began = held.began;
        let series = held.series.entry(series).or_insert_with(Series::new);
        let latency = us(now.duration_since(due));
        series.latency.saturating_record(latency);
        series.service.saturating_record(us(now.duration_since(begun)));
        let rough = series.by_due.at(due.duration_since(began));
        let rough = rough.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST_US, ROUGH_DIGITS).expect("good bounds")
        });
        rough.saturating_record(latency);
        *series.by_end.at(now.duration_since(began)) += 1;
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        // What has ended is read first: nothing ends that has not begun.
        let (ok, failed) = (read(&self.ok), read(&self.failed));
        Progress { started: read(&self.started), ok, failed }
    }

    /// How often something was recorded.
    pub fn recorded(&self, series: &str) -> u64 {
        self.held().series.get(series).map_or(0, |series| series.latency.len())
    }

    /// Takes everything out.
    pub fn counted(&self) -> Counted {
        let mut held = self.held();
        Counted {
            progress: self.progress(),
            reasons: std::mem::take(&mut held.reasons),
            series: std::mem::take(&mut held.series),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nobody panics with it")
    }
}

/// Whole microseconds, at least one.
fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_count_from_when_they_were_due() {
        let tally = Tally::default();
        let due = Instant::now();
        tokio::time::advance(Duration::from_millis(300)).await;
        let begun = Instant::now();
        tokio::time::advance(Duration::from_millis(100)).await;
        tally.record("job", due, begun);
        let counted = tally.counted();
        let series = &counted.series["job"];
        let close = |us: u64, ms: u64| us.abs_diff(ms * 1_000) <= ms;
        assert!(close(series.latency.max(), 400), "{}", series.latency.max());
        assert!(close(series.service.max(), 100), "{}", series.service.max());
        let of_due: Vec<u64> =
            series.by_due.all().map(|(_, r)| r.0.as_ref().unwrap().len()).collect();
        assert_eq!(of_due, [1]);
        assert_eq!(series.by_end.all().map(|(at, _)| at).max(), Some(Duration::from_millis(400)));
    }

    #[tokio::test]
    async fn reasons_are_bounded_in_number_and_length() {
        let tally = Tally::default();
        for number in 0..1_000 {
            tally.reason(&format!("{number} {}", "x".repeat(1_000)), 1);
        }
        let reasons = tally.counted().reasons;
        assert_eq!(reasons.len(), MOST_REASONS + 1);
        assert_eq!(reasons[OTHER_REASONS], 1_000 - MOST_REASONS as u64);
        assert!(reasons.keys().all(|reason| reason.len() <= REASON_CHARS));
    }
}
