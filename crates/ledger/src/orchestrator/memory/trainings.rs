//! Training jobs in memory. A disk has one process that lives: whoever else watched one is dead.

use super::{MemoryOrchestratorLedger, most};
use crate::orchestrator::{
    LedgerError, NewTraining, StoredTraining, TrainingJobs, TrainingNote, Watch,
};
use async_trait::async_trait;
use std::cmp::Reverse;
use uuid::Uuid;

/// A job, and who watches it: the process and its attempt.
pub type Kept = (StoredTraining, Option<(u64, Uuid)>);

#[async_trait]
impl TrainingJobs for MemoryOrchestratorLedger {
    fn is_shared(&self) -> bool {
        false
    }

    async fn begin_training(&self, job: &NewTraining) -> Result<(), LedgerError> {
        let watcher = (self.process.number(), job.attempt);
        let job = job.clone();
        let stored = StoredTraining {
            id: job.id,
            account: job.account,
            terms: job.terms,
            standing: job.standing,
            created_ms: job.now_ms,
            ended_ms: None,
        };
        self.write(|rows| drop(rows.trainings.insert(stored.id.clone(), (stored, Some(watcher)))))
    }

    async fn note_training(&self, note: &TrainingNote) -> Result<bool, LedgerError> {
        let mine = Some((self.process.number(), note.attempt));
        self.write(|rows| {
            let found = rows.trainings.get_mut(&note.id).filter(|(_, watcher)| *watcher == mine);
            let Some((job, watcher)) = found else { return false };
            job.standing.clone_from(&note.standing);
            if note.then != Watch::On {
                *watcher = None;
            }
            job.ended_ms = (note.then == Watch::Ended).then_some(note.now_ms);
            true
        })
    }

    async fn take_up_trainings(
        &self,
        attempt: Uuid,
        limit: u32,
        but: &[String],
    ) -> Result<Vec<StoredTraining>, LedgerError> {
        let number = self.process.number();
        let mine = Some((number, attempt));
        self.write(|rows| {
            let free = rows.trainings.values_mut().filter(|(job, watcher)| {
                let is_free = |(process, _)| process != number || *watcher == mine;
                job.ended_ms.is_none() && watcher.is_none_or(is_free) && !but.contains(&job.id)
            });
            let mut free: Vec<_> = free.collect();
            free.sort_by_cached_key(|(job, watcher)| {
                (*watcher != mine, job.created_ms, job.id.clone())
            });
            let taken = free.into_iter().take(most(limit)).map(|(job, watcher)| {
                *watcher = mine;
                job.clone()
            });
            taken.collect()
        })
    }

    async fn training(&self, id: &str) -> Result<Option<StoredTraining>, LedgerError> {
        self.read(|rows| rows.trainings.get(id).map(|(job, _)| job.clone()))
    }

    async fn units_debited(&self, job_id: &str) -> Result<Option<u64>, LedgerError> {
        self.read(|rows| {
            let (_, line) = rows.debits.get(job_id)?;
            line.work.as_ref().map(|(units, _)| *units)
        })
    }

    async fn forget_trainings(&self, ended_before_ms: i64, kept: u32) -> Result<u64, LedgerError> {
        self.write(|rows| {
            let ended = rows.trainings.values().filter_map(|(job, _)| {
                job.ended_ms.map(|ended_ms| (Reverse((ended_ms, job.id.clone())), ended_ms))
            });
            let mut ended: Vec<_> = ended.collect();
            ended.sort();
            let mut gone = 0;
            for (n, (Reverse((_, id)), ended_ms)) in ended.into_iter().enumerate() {
                if n >= most(kept) || ended_ms < ended_before_ms {
                    rows.trainings.remove(&id);
                    gone += 1;
                }
            }
            gone
        })
    }
}
