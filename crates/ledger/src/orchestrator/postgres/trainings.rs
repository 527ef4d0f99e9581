//! Training jobs, and which process watches each: what a process that is dead to the others watched is anybody's. No
//! transaction here locks anything else.

use super::{Answer, PostgresOrchestratorLedger};
use crate::orchestrator::{
    NewTraining, StoredTraining, TrainingJobs, TrainingNote, Watch,
    rows::address_text,
    trainings::{read, training_columns},
};
use async_trait::async_trait;
use uuid::Uuid;

#[async_trait]
impl TrainingJobs for PostgresOrchestratorLedger {
    fn is_shared(&self) -> bool {
        true
    }

    async fn begin_training(&self, job: &NewTraining) -> Answer<()> {
        let process = self.process;
        self.settle("BEGIN", |mut tx| async move {
            sqlx::query(
                "INSERT INTO trainings \
                   (id, sender, session, terms, standing, process, attempt, created_ms, updated_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
            )
            .bind(&job.id)
            .bind(address_text(job.account.sender()))
            .bind(job.account.session())
            .bind(&job.terms)
            .bind(&job.standing)
            .bind(process.as_bytes().as_slice())
            .bind(job.attempt.as_bytes().as_slice())
            .bind(job.now_ms)
            .execute(&mut *tx)
            .await?;
            Ok(Some((tx, ())))
        })
        .await
    }

    async fn note_training(&self, note: &TrainingNote) -> Answer<bool> {
        let process = self.process;
        self.settle("BEGIN", |mut tx| async move {
            let changed = sqlx::query(
                "UPDATE trainings SET standing = $4, updated_ms = $5, \
                   process = CASE WHEN $6 THEN process END, \
                   attempt = CASE WHEN $6 THEN attempt END, \
                   ended_ms = CASE WHEN $7 THEN $5 END \
                 WHERE id = $1 AND process = $2 AND attempt = $3",
            )
            .bind(&note.id)
            .bind(process.as_bytes().as_slice())
            .bind(note.attempt.as_bytes().as_slice())
            .bind(&note.standing)
            .bind(note.now_ms)
            .bind(note.then == Watch::On)
            .bind(note.then == Watch::Ended)
            .execute(&mut *tx)
            .await?;
            Ok(Some((tx, changed.rows_affected() == 1)))
        })
        .await
    }

    async fn take_up_trainings(
        &self,
        attempt: Uuid,
        limit: u32,
        but: &[String],
    ) -> Answer<Vec<StoredTraining>> {
        let process = self.process;
        self.settle("BEGIN", |mut tx| async move {
            let taken = sqlx::query(concat!(
                "UPDATE trainings SET process = $1, attempt = $2 WHERE id IN (SELECT id FROM trainings \
                   WHERE ended_ms IS NULL AND (process IS NULL OR (process = $1 AND attempt = $2) OR \
                     (process <> $1 AND NOT EXISTS (SELECT 1 FROM processes p \
                      WHERE p.id = trainings.process AND p.lease_until > clock_timestamp()))) \
                     AND id <> ALL ($4) \
                   ORDER BY process IS DISTINCT FROM $1, created_ms, id LIMIT $3 FOR UPDATE OF trainings SKIP LOCKED) \
                 RETURNING ",
                training_columns!()
            ))
            .bind(process.as_bytes().as_slice())
            .bind(attempt.as_bytes().as_slice())
            .bind(i64::from(limit))
            .bind(but)
            .fetch_all(&mut *tx)
            .await?;
            let mut taken = taken.iter().map(read).collect::<Answer<Vec<_>>>()?;
            taken.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
            Ok(Some((tx, taken)))
        })
        .await
    }

    async fn training(&self, id: &str) -> Answer<Option<StoredTraining>> {
        self.pools
            .read(|mut reader| async move {
                let row = sqlx::query(concat!(
                    "SELECT ",
                    training_columns!(),
                    " FROM trainings WHERE id = $1"
                ));
                row.bind(id).fetch_optional(&mut *reader).await?.as_ref().map(read).transpose()
            })
            .await
    }

    async fn units_debited(&self, job_id: &str) -> Answer<Option<u64>> {
        self.pools
            .read(|mut reader| async move {
                let units: Option<Option<i64>> =
                    sqlx::query_scalar("SELECT units FROM debits WHERE job_id = $1")
                        .bind(job_id)
                        .fetch_optional(&mut *reader)
                        .await?;
                Ok(units.flatten().map(i64::unsigned_abs))
            })
            .await
    }

    async fn forget_trainings(&self, ended_before_ms: i64, kept: u32) -> Answer<u64> {
        self.settle(super::LIGHT, |mut tx| async move {
            let gone = sqlx::query(
                "DELETE FROM trainings WHERE ended_ms < $1 OR id IN (SELECT id FROM trainings \
                 WHERE ended_ms IS NOT NULL ORDER BY ended_ms DESC, id DESC OFFSET $2)",
            )
            .bind(ended_before_ms)
            .bind(i64::from(kept))
            .execute(&mut *tx)
            .await?;
            Ok(Some((tx, gone.rows_affected())))
        })
        .await
    }
}
