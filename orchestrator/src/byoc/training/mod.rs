//! Training jobs of brought capabilities: begun by one request, asked about by others, paid for while they
//! run (byoc.md section 9.1, as the official SDK has it; the reference knows none).
//!
//! [`submit`] is the order of a begin, [`life`] what follows, [`ending`] what a job comes to, [`status`] what is told
//! of a job and how it is paid on. Where there is a ledger a job outlives its process: [`kept`] is what the ledger has
//! of it, [`take_up`] how another process goes on with it. Here: which ones this process watches.

mod ending;
pub mod error;
mod kept;
mod life;
mod status;
mod submit;
pub mod take_up;

pub use submit::Outcome;

use super::{meter::Paid, registry::Brought};
use crate::{clock, limits::Limits, release::Reason};
use kept::Hands;
use penstock_domain::{Address, Rational};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What becomes of a job, in the SDK's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The worker has it.
    Submitted,
    /// It works.
    Running,
    /// It is done.
    Completed,
    /// It was not.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl Status {
    /// As clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// A worker's word. One that we do not know is not the end.
    fn read(word: &str) -> Self {
        match word {
            "submitted" => Self::Submitted,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            _ => Self::Running,
        }
    }

    fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Standing {
    status: Status,
    progress: u8,
    result: Option<Value>,
    error: Option<String>,
    /// Why it ended.
    reason: Option<Reason>,
    /// Unix milliseconds.
    updated_ms: i64,
    /// Milliseconds of it that were watched, when this was noted.
    watched_ms: u64,
    /// Of these, those until its worker last gave a result that it had not given before; and which that was.
    brought: Option<(u64, String)>,
    /// Seconds that are in the books.
    booked_seconds: u64,
    /// In so many charges.
    #[serde(default)]
    charges: u64,
    /// One more may be in the books, whose watcher left and did not hear, or did not live to note, what became of it.
    #[serde(default)]
    is_leaving: bool,
}

impl Standing {
    /// Of a job that begins.
    fn begun(now_ms: i64) -> Self {
        Self {
            status: Status::Submitted,
            progress: 0,
            result: None,
            error: None,
            reason: None,
            updated_ms: now_ms,
            watched_ms: 0,
            brought: None,
            booked_seconds: 0,
            charges: 0,
            is_leaving: false,
        }
    }

    /// What is in the books of it.
    fn paid(&self) -> Paid {
        Paid { charges: self.charges, seconds: self.booked_seconds }
    }
}

/// A job that this process watches, or one that has ended where there is no ledger.
pub struct Training {
    id: String,
    sender: Address,
    brought: Arc<Brought>,
    model: String,
    callback: Option<String>,
    begun_ms: i64,
    /// When it began, without the time that nobody watched.
    begun: Instant,
    /// Wei a second.
    price: Rational,
    /// Seconds that it was charged for.
    seconds: Arc<AtomicU64>,
    standing: Mutex<Standing>,
    ended: Mutex<Option<Instant>>,
    /// Its row in the ledger; none off-chain.
    hands: Option<Hands>,
}

impl Training {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> Option<Instant> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Milliseconds of it that were watched so far.
    fn watched_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
    }
}

/// All jobs of this process, by id. The ids are random: who knows one may ask about it.
pub struct Trainings {
    all: Mutex<HashMap<String, Arc<Training>>>,
    /// Jobs that have ended and are told of: so many, for so long.
    kept: usize,
    kept_for: Duration,
    /// For how long a fee's line can be found in the journal.
    journal: Duration,
    /// The process stops: what is in the ledger is left to another one.
    leaving: CancellationToken,
}

impl Trainings {
    /// None yet. The ledger's journal has lines for as long as `journal`.
    pub fn new(limits: &Limits, journal: Duration) -> Self {
        Self {
            all: Mutex::default(),
            kept: limits.trainings_kept,
            kept_for: Duration::from_millis(limits.trainings_kept_ms),
            journal,
            leaving: CancellationToken::new(),
        }
    }

    /// The process stops: jobs that are in the ledger go on at another one, or in its next life.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether a fee of then may have a line that the journal has not any more: at half of its time, as two processes
    /// have two clocks, and the ledger may be away for as long.
    fn is_past_telling(&self, then_ms: i64) -> bool {
        let told_ms = i64::try_from((self.journal / 2).as_millis()).unwrap_or(i64::MAX);
        clock::now_ms().saturating_sub(then_ms) > told_ms
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Training>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more: those that ended long ago go, and the oldest of too many. How many may run is the
    /// capabilities' room.
    fn add(&self, job: &Arc<Training>) {
        let mut all = self.lock();
        all.retain(|_, job| job.ended().is_none_or(|at| at.elapsed() < self.kept_for));
        let mut ended: Vec<_> =
            all.iter().filter_map(|(id, job)| Some((job.ended()?, id.clone()))).collect();
        ended.sort_unstable();
        for (_, id) in ended.iter().take((ended.len() + 1).saturating_sub(self.kept)) {
            all.remove(id);
        }
        all.insert(job.id.clone(), Arc::clone(job));
    }

    /// It is not this process's any more.
    fn remove(&self, job: &Arc<Training>) {
        let mut all = self.lock();
        if all.get(&job.id).is_some_and(|there| Arc::ptr_eq(there, job)) {
            all.remove(&job.id);
        }
    }

    /// One of that id.
    fn get(&self, id: &str) -> Option<Arc<Training>> {
        self.lock().get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: usize, ended: bool) -> Arc<Training> {
        let brought = super::super::registry::brought("flux");
        Arc::new(Training {
            id: id.to_string(),
            sender: Address::ZERO,
            brought,
            model: String::new(),
            callback: None,
            begun_ms: 0,
            begun: Instant::now(),
            price: Rational::ZERO,
            seconds: Arc::default(),
            standing: Mutex::new(Standing::begun(0)),
            ended: Mutex::new(ended.then(Instant::now)),
            hands: None,
        })
    }

    #[test]
    fn the_oldest_ended_go_and_none_that_runs() {
        const KEPT: usize = 10;
        let all =
            Trainings::new(&Limits { trainings_kept: KEPT, ..Limits::default() }, Duration::MAX);
        all.add(&job(0, false));
        for id in 1..KEPT + 10 {
            all.add(&job(id, true));
        }
        assert!(all.get("0").is_some() && all.get("1").is_none());
        assert!(all.get(&(KEPT + 9).to_string()).is_some());
        assert!(all.lock().len() <= KEPT + 1);
        // Of two that have one id, as when it was lost and taken up again, only the one that is meant goes.
        all.remove(&job(0, false));
        assert!(all.get("0").is_some());
        all.remove(&all.get("0").unwrap());
        assert!(all.get("0").is_none());
    }
}
