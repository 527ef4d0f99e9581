//! What everybody saw while it went on.

use crate::gateway_chaos::ms;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Enough of them to see what is wrong.
const MAX_VIOLATIONS: usize = 100;
/// Most different answers that are told apart, and the length of their texts.
const MAX_KINDS: usize = 60;
const MAX_TEXT: usize = 120;

/// Counts that go on while work does.
#[derive(Debug)]
pub struct Tally {
    /// Tickets that were taken.
    pub tickets: AtomicU64,
    /// Payments and jobs that were answered, by client.
    pub done: Vec<AtomicU64>,
    /// The same, by process.
    pub answered: Vec<AtomicU64>,
    /// Nobody has to begin anything more.
    pub enough: AtomicBool,
    counts: Mutex<BTreeMap<String, u64>>,
    /// The longest wait of a client so far, since it was last asked for.
    longest_ms: AtomicU64,
    violations: Mutex<Vec<String>>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(clients: usize, processes: usize) -> Self {
        let zeros = |n| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            tickets: AtomicU64::new(0),
            done: zeros(clients),
            answered: zeros(processes),
            enough: AtomicBool::new(false),
            counts: Mutex::default(),
            longest_ms: AtomicU64::new(0),
            violations: Mutex::default(),
        }
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

    /// One more of these.
    pub fn count(&self, what: &str) {
        let what: String = what.chars().take(MAX_TEXT).collect();
        let mut counts = self.counts.lock().unwrap();
        if counts.len() < MAX_KINDS || counts.contains_key(&what) {
            *counts.entry(what).or_default() += 1;
        }
    }

    /// Everything that was counted.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// A client got an answer of this process; its last one was then.
    pub fn answered(&self, client: usize, process: usize, last: Instant) {
        self.longest_ms.fetch_max(ms(last.elapsed()), Ordering::SeqCst);
        self.answered[process].fetch_add(1, Ordering::SeqCst);
        self.done[client].fetch_add(1, Ordering::SeqCst);
    }

    /// The longest wait of a client that ended since this was last asked.
    pub fn take_longest_ms(&self) -> u64 {
        self.longest_ms.swap(0, Ordering::SeqCst)
    }

    /// Answers, by client.
    pub fn done(&self) -> Vec<u64> {
        self.done.iter().map(|done| done.load(Ordering::SeqCst)).collect()
    }

    /// Answers of a process.
    pub fn answered_by(&self, process: usize) -> u64 {
        self.answered[process].load(Ordering::SeqCst)
    }

    /// Tickets that were taken.
    pub fn tickets(&self) -> u64 {
        self.tickets.load(Ordering::SeqCst)
    }
}
