//! A PostgreSQL that has gone silent: its host died, or packets to it vanish. The server's own
//! timeouts are of no use then, and the kernel gives a connection up after a quarter of an hour. So
//! everything that is asked has a limit here, on our side, and connections from before the silence
//! are not used again.

use super::Fault;
use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a caller waits for a connection before the ledger counts as away.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long PostgreSQL may take before it counts as away. SQLite has no use for them: it waits for
/// nobody but the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For each step of a write and each read that a payment waits for. Above the server's own
    /// limit for a statement (10 s), which says more when the server is there to say it.
    pub answer: Duration,
    /// For a report, which may read much. Above the server's own limit for one (120 s).
    pub report: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(12), report: Duration::from_secs(125) }
    }
}

/// Asks with limits, and remembers when one ran out.
#[derive(Debug, Clone)]
pub struct Watch {
    limits: Limits,
    silent_at: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    pub fn new(limits: Limits) -> Self {
        Self { limits, silent_at: Arc::default() }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A step of a write, or a read that a payment waits for.
    pub async fn answer<T, E: Fault>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.within(self.limits.answer, work).await
    }

    /// A read that may be long.
    pub async fn report<T, E: Fault>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.within(self.limits.report, work).await
    }

    async fn within<T, E: Fault>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        // Until the end: connections that go back with it shall be seen to be suspect.
        let mut work = pin!(tokio::time::timeout(limit, work));
        if let Ok(answer) = work.as_mut().await {
            return answer;
        }
        *self.silent_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        tracing::error!(?limit, "PostgreSQL does not answer; its connections are given up");
        Err(timed_out().into())
    }

    /// Whether a connection of this age was made before the last silence.
    pub fn is_suspect(&self, age: Duration) -> bool {
        let silent_at = *self.silent_at.lock().unwrap_or_else(PoisonError::into_inner);
        silent_at.is_some_and(|at| age >= at.elapsed())
    }
}

/// For whatever had a limit.
pub fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "PostgreSQL does not answer"))
}
