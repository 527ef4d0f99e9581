//! What everybody saw while it went on.

use super::clock::now_ms;
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
    /// Times that each process was started anew.
    lives: Vec<AtomicU64>,
    troubles: Mutex<Vec<Trouble>>,
    counts: Mutex<BTreeMap<String, u64>>,
    /// The longest wait of a client so far, since it was last asked for.
    longest_ms: AtomicU64,
    violations: Mutex<Vec<String>>,
}

/// A time in which things were being broken, Unix ms.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// The process that stood still, if that is what was done.
    paused: Option<usize>,
    from_ms: i64,
    to_ms: i64,
}

impl Trouble {
    /// How long of it lies between these.
    fn within(&self, from_ms: i64, to_ms: i64) -> i64 {
        (self.to_ms.min(to_ms) - self.from_ms.max(from_ms)).max(0)
    }
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
            lives: zeros(processes),
            troubles: Mutex::default(),
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

    /// A process is started anew: what it had is gone.
    pub fn new_life(&self, process: usize) {
        self.lives[process].fetch_add(1, Ordering::SeqCst);
    }

    /// Which life of a process this is.
    pub fn life(&self, process: usize) -> u64 {
        self.lives[process].load(Ordering::SeqCst)
    }

    /// Things were broken since then; or this process stood still.
    pub fn trouble(&self, from_ms: i64, paused: Option<usize>) {
        let trouble = Trouble { paused, from_ms, to_ms: now_ms() };
        self.troubles.lock().unwrap().push(trouble);
    }

    /// Whether nothing was broken between these.
    pub fn was_quiet(&self, from_ms: i64, to_ms: i64) -> bool {
        let troubles = self.troubles.lock().unwrap();
        troubles.iter().all(|trouble| trouble.within(from_ms, to_ms) == 0)
    }

    /// Milliseconds of pauses of this process that touch this time, each as a whole.
    pub fn paused_ms(&self, process: usize, from_ms: i64, to_ms: i64) -> i64 {
        let troubles = self.troubles.lock().unwrap();
        let of_it = troubles.iter().filter(|trouble| trouble.paused == Some(process));
        let touching = of_it.filter(|trouble| trouble.within(from_ms, to_ms) > 0);
        touching.map(|trouble| trouble.to_ms - trouble.from_ms).sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_known_by_time_and_pauses_by_process() {
        let tally = Tally::new(1, 2);
        let began = now_ms() - 1_000;
        tally.trouble(began, None);
        tally.trouble(began, Some(1));
        let ended = tally.troubles.lock().unwrap()[1].to_ms;
        assert!(tally.was_quiet(began - 500, began) && tally.was_quiet(ended + 1, ended + 9));
        assert!(!tally.was_quiet(began - 500, began + 1));
        assert_eq!(tally.paused_ms(0, began, ended), 0);
        assert_eq!(tally.paused_ms(1, began + 1, began + 2), ended - began);
    }
}
