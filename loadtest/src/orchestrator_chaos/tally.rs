//! What everybody saw while it went on.

use super::{clock::now_ms, held::Stint};
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
    /// Sessions of live runners that have ended.
    sessions: Mutex<Vec<Vec<Stint>>>,
    counts: Mutex<BTreeMap<String, u64>>,
    /// The longest wait of a client so far, since it was last asked for.
    longest_ms: AtomicU64,
    violations: Mutex<Vec<String>>,
}

/// A time in which things were being broken, Unix ms.
#[derive(Debug, Clone)]
struct Trouble {
    what: What,
    from_ms: i64,
    to_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// This process stood still.
    Pause(usize),
    /// These did not do their work.
    Broken(Vec<usize>),
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
            sessions: Mutex::default(),
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

    /// A session of a live runner has ended, which was at these processes.
    pub fn session_ended(&self, stints: Vec<Stint>) {
        self.sessions.lock().unwrap().push(stints);
    }

    /// Those that have.
    pub fn ended_sessions(&self) -> Vec<Vec<Stint>> {
        self.sessions.lock().unwrap().clone()
    }

    /// A process is started anew: what it had is gone.
    pub fn new_life(&self, process: usize) {
        self.lives[process].fetch_add(1, Ordering::SeqCst);
    }

    /// Which life of a process this is.
    pub fn life(&self, process: usize) -> u64 {
        self.lives[process].load(Ordering::SeqCst)
    }

    /// These processes were broken since then.
    pub fn broken(&self, from_ms: i64, processes: Vec<usize>) {
        self.add(Trouble { what: What::Broken(processes), from_ms, to_ms: now_ms() });
    }

    /// This one stood still since then.
    pub fn paused(&self, from_ms: i64, process: usize) {
        self.add(Trouble { what: What::Pause(process), from_ms, to_ms: now_ms() });
    }

    fn add(&self, trouble: Trouble) {
        self.troubles.lock().unwrap().push(trouble);
    }

    /// Whether nothing of this process was broken between these.
    pub fn was_quiet(&self, process: usize, from_ms: i64, to_ms: i64) -> bool {
        let troubles = self.troubles.lock().unwrap();
        let is_its = |trouble: &&Trouble| match &trouble.what {
            What::Pause(paused) => *paused == process,
            What::Broken(processes) => processes.contains(&process),
        };
        troubles.iter().filter(is_its).all(|trouble| trouble.within(from_ms, to_ms) == 0)
    }

    /// Milliseconds of pauses of this process that touch this time, each as a whole.
    pub fn paused_ms(&self, process: usize, from_ms: i64, to_ms: i64) -> i64 {
        let troubles = self.troubles.lock().unwrap();
        let of_it = troubles.iter().filter(|trouble| trouble.what == What::Pause(process));
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
        let tally = Tally::new(1, 3);
        let began = now_ms() - 1_000;
        tally.broken(began, vec![0, 1]);
        tally.paused(began, 1);
        let ended = tally.troubles.lock().unwrap()[1].to_ms;
        assert!(tally.was_quiet(0, began - 500, began) && tally.was_quiet(0, ended + 1, ended + 9));
        assert!(!tally.was_quiet(0, began - 500, began + 1) && !tally.was_quiet(1, began, ended));
        assert!(tally.was_quiet(2, began, ended), "the third went on");
        assert_eq!(tally.paused_ms(0, began, ended), 0);
        assert_eq!(tally.paused_ms(1, began + 1, began + 2), ended - began);
    }
}
