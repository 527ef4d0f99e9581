//! Training jobs of brought capabilities, as the books keep them: a job outlives the process that watches it. Here is
//! whose it is and who watches it; what was agreed and how it stands are the orchestrator's own words.

use super::{AccountKey, LedgerError, rows};
use async_trait::async_trait;
use std::fmt;
use uuid::Uuid;

/// A job that begins.
#[derive(Clone, PartialEq, Eq)]
pub struct NewTraining {
    /// Unlike all others.
    pub id: String,
    /// Who pays for it.
    pub account: AccountKey,
    /// What does not change: the orchestrator's words, and bounded by it. Never shown: where its worker is, and what
    /// the worker is told, are among them.
    pub terms: String,
    /// How it stands at first, in the same way.
    pub standing: String,
    /// Who watches it: an attempt of this process.
    pub attempt: Uuid,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// A job in the books.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredTraining {
    /// Unlike all others.
    pub id: String,
    /// Who pays for it.
    pub account: AccountKey,
    /// What was agreed when it began.
    pub terms: String,
    /// How it stood when that was last noted.
    pub standing: String,
    /// Unix milliseconds at which it began.
    pub created_ms: i64,
    /// Unix milliseconds at which it ended, if it has.
    pub ended_ms: Option<i64>,
}

/// What its watcher has to say of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingNote {
    /// Which.
    pub id: String,
    /// Who says it. Whoever does not watch the job any more is not listened to.
    pub attempt: Uuid,
    /// How it stands.
    pub standing: String,
    /// Who watches it from now on.
    pub then: Watch,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Who watches a job after a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The same as before.
    On,
    /// Nobody: another process may take it up.
    Left,
    /// Nobody: it has ended.
    Ended,
}

/// The books' part in training jobs. Every method is one transaction, durable when it returns `Ok`.
#[async_trait]
pub trait TrainingJobs {
    /// Whether processes on other hosts may watch jobs of these books, too.
    fn is_shared(&self) -> bool;

    /// Keeps a job that begins, in the hands of this process.
    async fn begin_training(&self, job: &NewTraining) -> Result<(), LedgerError>;

    /// Notes how a job stands. `false`: it is not in the hands of that attempt of this process any more, and nothing
    /// was noted; another one goes on with it, or it has ended.
    async fn note_training(&self, note: &TrainingNote) -> Result<bool, LedgerError>;

    /// Jobs that go on and that nobody watches, the oldest first, at most `limit`: of nobody, or of a process that is
    /// dead to the others. They are this process's from now on, by this `attempt`. After an error they may be so all
    /// the same: the same `attempt` and `limit` again give those that are first, and once it has succeeded, the next
    /// look needs an attempt of its own. None of those `but`: they are for others.
    async fn take_up_trainings(
        &self,
        attempt: Uuid,
        limit: u32,
        but: &[String],
    ) -> Result<Vec<StoredTraining>, LedgerError>;

    /// One job, whoever watches it, also for a while after its end.
    async fn training(&self, id: &str) -> Result<Option<StoredTraining>, LedgerError>;

    /// Units that were booked for a job id, for as long as the journal has that line; `None` if there is none, or none
    /// that says it.
    async fn units_debited(&self, job_id: &str) -> Result<Option<u64>, LedgerError>;

    /// Forgets jobs that ended before `ended_before_ms`, and all but the last `kept` that have ended. How many.
    async fn forget_trainings(&self, ended_before_ms: i64, kept: u32) -> Result<u64, LedgerError>;
}

impl fmt::Debug for NewTraining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, account, .. } = self;
        f.debug_struct("NewTraining")
            .field("id", id)
            .field("account", account)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredTraining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, account, ended_ms, .. } = self;
        let mut shown = f.debug_struct("StoredTraining");
        shown.field("id", id).field("account", account).field("ended_ms", ended_ms);
        shown.finish_non_exhaustive()
    }
}

/// What [`read`] reads.
macro_rules! training_columns {
    () => {
        "id, sender, session, terms, standing, created_ms, ended_ms"
    };
}
pub(in crate::orchestrator) use training_columns;

/// One row.
pub(in crate::orchestrator) fn read(
    row: &impl rows::Fields,
) -> Result<StoredTraining, LedgerError> {
    let sender = rows::address(row, "sender")?;
    let account = AccountKey::new(sender, row.text("session")?);
    Ok(StoredTraining {
        id: row.text("id")?,
        account: account.map_err(|_| rows::corrupt("balance key"))?,
        terms: row.text("terms")?,
        standing: row.text("standing")?,
        created_ms: row.int("created_ms")?,
        ended_ms: row.maybe_int("ended_ms")?,
    })
}
