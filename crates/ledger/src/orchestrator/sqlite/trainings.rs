//! Training jobs in the file. It has one process at a time, so that whoever else watched one is dead.

use super::SqliteOrchestratorLedger;
use crate::{
    orchestrator::{
        LedgerError, NewTraining, StoredTraining, TrainingJobs, TrainingNote, Watch,
        rows::address_text,
        trainings::{read, training_columns},
    },
    sqlite::writer::{Tx, all},
};
use async_trait::async_trait;
use rusqlite::params;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl TrainingJobs for SqliteOrchestratorLedger {
    fn is_shared(&self) -> bool {
        false
    }

    async fn begin_training(&self, job: &NewTraining) -> Result<(), LedgerError> {
        let (job, process) = (job.clone(), Arc::clone(&self.process));
        self.line.run(move |tx| begin(tx, &job, &process)).await
    }

    async fn note_training(&self, note: &TrainingNote) -> Result<bool, LedgerError> {
        let (note, process) = (note.clone(), Arc::clone(&self.process));
        self.line.run(move |tx| write(tx, &note, &process)).await
    }

    async fn take_up_trainings(
        &self,
        attempt: Uuid,
        limit: u32,
        but: &[String],
    ) -> Result<Vec<StoredTraining>, LedgerError> {
        let (process, but) = (Arc::clone(&self.process), but.to_vec());
        self.line.run(move |tx| take_up(tx, &process, attempt, limit, &but)).await
    }

    async fn training(&self, id: &str) -> Result<Option<StoredTraining>, LedgerError> {
        let row =
            sqlx::query(concat!("SELECT ", training_columns!(), " FROM trainings WHERE id = ?"));
        row.bind(id).fetch_optional(self.db.readers()).await?.as_ref().map(read).transpose()
    }

    async fn units_debited(&self, job_id: &str) -> Result<Option<u64>, LedgerError> {
        let units: Option<Option<i64>> =
            sqlx::query_scalar("SELECT units FROM debits WHERE job_id = ?")
                .bind(job_id)
                .fetch_optional(self.db.readers())
                .await?;
        Ok(units.flatten().map(i64::unsigned_abs))
    }

    async fn forget_trainings(&self, ended_before_ms: i64, kept: u32) -> Result<u64, LedgerError> {
        self.line.run(move |tx| forget(tx, ended_before_ms, kept)).await
    }
}

fn begin(tx: &Tx, job: &NewTraining, process: &str) -> Result<(), LedgerError> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO trainings \
           (id, sender, session, terms, standing, process, attempt, created_ms, updated_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
    )?;
    insert.execute(params![
        job.id,
        address_text(job.account.sender()),
        job.account.session(),
        job.terms,
        job.standing,
        process,
        job.attempt.to_string(),
        job.now_ms,
    ])?;
    Ok(())
}

fn write(tx: &Tx, note: &TrainingNote, process: &str) -> Result<bool, LedgerError> {
    let mut update = tx.prepare_cached(
        "UPDATE trainings SET standing = ?4, updated_ms = ?5, \
           process = CASE WHEN ?6 THEN process END, attempt = CASE WHEN ?6 THEN attempt END, \
           ended_ms = CASE WHEN ?7 THEN ?5 END \
         WHERE id = ?1 AND process = ?2 AND attempt = ?3",
    )?;
    let changed = update.execute(params![
        note.id,
        process,
        note.attempt.to_string(),
        note.standing,
        note.now_ms,
        note.then == Watch::On,
        note.then == Watch::Ended,
    ])?;
    Ok(changed == 1)
}

fn take_up(
    tx: &Tx,
    process: &str,
    attempt: Uuid,
    limit: u32,
    but: &[String],
) -> Result<Vec<StoredTraining>, LedgerError> {
    let mut find = tx.prepare_cached(concat!(
        "SELECT ",
        training_columns!(),
        " FROM trainings WHERE ended_ms IS NULL AND \
         (process IS NULL OR process <> ?1 OR attempt = ?3) \
         ORDER BY process IS NOT ?1, created_ms, id LIMIT ?2"
    ))?;
    let attempt = attempt.to_string();
    let most = (limit as usize).saturating_add(but.len());
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut found = all(&mut find, params![process, most, attempt], |row| read(row))?;
    found.retain(|job| !but.contains(&job.id));
    found.truncate(limit as usize);
    let mut take =
        tx.prepare_cached("UPDATE trainings SET process = ?2, attempt = ?3 WHERE id = ?1")?;
    for job in &found {
        take.execute(params![job.id, process, attempt])?;
    }
    Ok(found)
}

fn forget(tx: &Tx, ended_before_ms: i64, kept: u32) -> Result<u64, LedgerError> {
    let mut delete = tx.prepare_cached(
        "DELETE FROM trainings WHERE ended_ms < ?1 OR id IN (SELECT id FROM trainings \
         WHERE ended_ms IS NOT NULL ORDER BY ended_ms DESC, id DESC LIMIT -1 OFFSET ?2)",
    )?;
    Ok(delete.execute(params![ended_before_ms, kept])? as u64)
}
