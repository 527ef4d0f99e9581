//! What everybody saw, added up.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Enough of them to see what is wrong.
const MAX_VIOLATIONS: usize = 100;

/// An AI job that was answered.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its trace id.
    pub trace: String,
    /// Its first try.
    pub began: Instant,
    /// Its answer.
    pub ended: Instant,
    /// What it takes by itself.
    pub work: Duration,
}

impl Job {
    /// What it cost this job that something broke at that moment: the time until its answer, from then on or, for
    /// one that began later, from its beginning, without what the work takes by itself (work that was lost has to be
    /// done again, wherever).
    pub fn cost_of(&self, broke: Instant) -> Duration {
        (self.ended - self.began.max(broke)).saturating_sub(self.work)
    }
}

/// Jobs kept: more than there are around one act.
const KEPT_JOBS: usize = 4_096;

/// Counts that go on while work does.
#[derive(Debug, Default)]
pub struct Tally {
    violations: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Segments answered.
    pub segments: AtomicU64,
    /// Milliseconds from the first try of a segment until a viewer saw it.
    pub gaps_ms: Mutex<Vec<u64>>,
    /// Milliseconds of each AI job, from its first try to its answer.
    pub jobs_ms: Mutex<Vec<u64>>,
    /// The newest AI jobs.
    pub answered: Mutex<VecDeque<Job>>,
    /// Of each AI client: jobs answered.
    pub jobs: Vec<AtomicU64>,
    /// While it is set, an answer that is not 200 at once is a failure.
    pub strict: std::sync::atomic::AtomicBool,
}

impl Tally {
    /// Nothing yet, for so many AI clients.
    pub fn new(clients: usize) -> Self {
        Self { jobs: (0..clients).map(|_| AtomicU64::new(0)).collect(), ..Self::default() }
    }

    /// Something that must not be.
    pub fn violation(&self, what: String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < MAX_VIOLATIONS {
            violations.push(what);
        }
    }

    /// What was noted.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// Notes an AI job.
    pub fn answered(&self, job: Job) {
        let mut jobs = self.answered.lock().unwrap();
        if jobs.len() >= KEPT_JOBS {
            jobs.pop_front();
        }
        jobs.push_back(job);
    }

    /// Those that were under way at some time between these.
    pub fn jobs_between(&self, from: Instant, to: Instant) -> Vec<Job> {
        let jobs = self.answered.lock().unwrap();
        jobs.iter().filter(|job| job.ended > from && job.began < to).cloned().collect()
    }

    /// One more of these.
    pub fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    /// How many of these.
    pub fn counted(&self, what: &'static str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// Everything that was counted.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.counts.lock().unwrap();
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    /// Segments answered and shown.
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::SeqCst)
    }

    /// Jobs answered, by client.
    pub fn jobs(&self) -> Vec<u64> {
        self.jobs.iter().map(|jobs| jobs.load(Ordering::SeqCst)).collect()
    }
}

/// Times, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Half are below.
    pub p50_ms: u64,
    /// All but one in a hundred are below.
    pub p99_ms: u64,
    /// The longest.
    pub worst_ms: u64,
}

impl Times {
    /// Of these, in any order.
    pub fn of(times_ms: &[u64]) -> Self {
        let mut sorted = times_ms.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
            sorted.get(index).copied().unwrap_or(0)
        };
        Self {
            count: sorted.len() as u64,
            p50_ms: at(50),
            p99_ms: at(99),
            worst_ms: sorted.last().copied().unwrap_or(0),
        }
    }
}

/// Whole milliseconds.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
