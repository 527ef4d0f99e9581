//! A PostgreSQL that has gone silent: its host died, or packets to it vanish. The server's own
//! timeouts are of no use then, and the kernel gives a connection up after a quarter of an hour. So
//! everything that is asked has a limit here, on our side, and connections from before the silence
//! are not used again.

use super::LedgerError;
use sqlx::{Connection as _, Executor as _, postgres::PgPoolOptions};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a caller waits for a connection before the ledger counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

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

/// How connections come back to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// With nothing to do.
    Idle,
    /// Maybe from the middle of a transaction, which is rolled back.
    MayBeInTransaction,
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

    /// A step of a write, or a read that a payment waits for.
    pub async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.within(self.limits.answer, work).await
    }

    /// A read that may be long.
    pub async fn report<T>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.within(self.limits.report, work).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        if let Ok(answer) = tokio::time::timeout(limit, work).await {
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

    /// A pool that gives no suspect connection out, and that takes none back which does not answer.
    pub fn pool(&self, connections: u32, released: Released) -> PgPoolOptions {
        let (watch, limit) = (self.clone(), self.limits.answer);
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A question before each use would double the round trips of a small batch.
            .test_before_acquire(false)
            .before_acquire(move |_, meta| {
                let is_good = !watch.is_suspect(meta.age);
                Box::pin(async move { Ok(is_good) })
            })
            // The pool itself asks without a limit, and keeps the place until there is an answer.
            .after_release(move |connection, _| {
                Box::pin(async move {
                    let ask = async {
                        match released {
                            Released::Idle => connection.ping().await,
                            // Of no effect, but for a warning, if it is in none.
                            Released::MayBeInTransaction => {
                                connection.execute("ROLLBACK").await.map(drop)
                            }
                        }
                    };
                    let answer = tokio::time::timeout(limit, ask).await;
                    answer.unwrap_or_else(|_| Err(timed_out())).map(|()| true)
                })
            })
    }
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "PostgreSQL does not answer"))
}
