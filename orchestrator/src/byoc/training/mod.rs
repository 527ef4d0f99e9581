//! Training jobs of brought capabilities: begun by one request, asked about by others, paid for while they
//! run (byoc.md section 9.1, as the official SDK has it; the reference knows none).
//!
//! [`submit`] is the order of a begin, [`life`] what follows, [`status`] what is known of a job and how it
//! is paid on. Here: which ones there are.

pub mod error;
mod life;
mod status;
mod submit;

pub use submit::Outcome;

use super::registry::Brought;
use crate::limits::Limits;
use penstock_domain::{Address, Rational};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};
use tokio::time::Instant;

/// What becomes of a job, in the SDK's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone)]
struct Standing {
    status: Status,
    progress: u8,
    result: Option<Value>,
    error: Option<String>,
    updated_ms: i64,
    /// When its worker last gave a result that it had not given before.
    brought: Option<Instant>,
    ended: Option<Instant>,
}

/// A job.
pub struct Training {
    id: String,
    sender: Address,
    brought: Arc<Brought>,
    model: String,
    callback: Option<String>,
    begun_ms: i64,
    begun: Instant,
    /// Wei a second.
    price: Rational,
    /// Seconds that it was charged for.
    seconds: Arc<AtomicU64>,
    standing: Mutex<Standing>,
}

impl Training {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All jobs, by id. The ids are random: who knows one may ask about it.
pub struct Trainings {
    all: Mutex<HashMap<String, Arc<Training>>>,
    /// Jobs that have ended and are told of: so many, for so long.
    kept: usize,
    kept_for: Duration,
}

impl Trainings {
    /// None yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            all: Mutex::default(),
            kept: limits.trainings_kept,
            kept_for: Duration::from_millis(limits.trainings_kept_ms),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Training>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more: those that ended long ago go, and the oldest of too many. How many may run is the
    /// capabilities' room.
    fn add(&self, job: &Arc<Training>) {
        let mut all = self.lock();
        all.retain(|_, job| job.lock().ended.is_none_or(|at| at.elapsed() < self.kept_for));
        let mut ended: Vec<_> =
            all.iter().filter_map(|(id, job)| Some((job.lock().ended?, id.clone()))).collect();
        ended.sort_unstable();
        for (_, id) in ended.iter().take((ended.len() + 1).saturating_sub(self.kept)) {
            all.remove(id);
        }
        all.insert(job.id.clone(), Arc::clone(job));
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
        let standing = Standing {
            status: Status::Running,
            progress: 0,
            result: None,
            error: None,
            updated_ms: 0,
            brought: None,
            ended: ended.then(Instant::now),
        };
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
            standing: Mutex::new(standing),
        })
    }

    #[test]
    fn the_oldest_ended_go_and_none_that_runs() {
        const KEPT: usize = 10;
        let all = Trainings::new(&Limits { trainings_kept: KEPT, ..Limits::default() });
        all.add(&job(0, false));
        for id in 1..KEPT + 10 {
            all.add(&job(id, true));
        }
        assert!(all.get("0").is_some() && all.get("1").is_none());
        assert!(all.get(&(KEPT + 9).to_string()).is_some());
        assert!(all.lock().len() <= KEPT + 1);
    }
}
