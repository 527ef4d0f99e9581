//! One AI job from notice to uploaded result.

use super::{
    client::{LONGEST_JOB, RunnerClient, RunnerError},
    job::{self, AiJob, BadJob},
    pool::{NoCapacity, Pool},
};
use crate::{
    link::{
        download::Downloader,
        multipart::{Mixed, Part},
        upload::{Outcome, Uploader},
    },
    video::work::report_upload,
};
use bytes::Bytes;
use penstock_wire::net;
use std::{future::Future, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::time::Instant;

/// What runners take is 50 MB; a little more is read, so that they are the ones to say so.
const MAX_INPUT_BYTES: u64 = 51 << 20;
/// How long a job waits for a runner that is being restarted.
const PATIENCE: Duration = Duration::from_secs(20);
/// For fetching the input.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(60);

/// Why a job has no result; the text goes to the orchestrator.
#[derive(Debug, Error)]
enum JobError {
    #[error(transparent)]
    Bad(#[from] BadJob),
    #[error(transparent)]
    NoCapacity(#[from] NoCapacity),
    #[error(transparent)]
    Runner(#[from] RunnerError),
}

/// Everything a job needs.
#[derive(Debug)]
pub struct AiWork {
    /// The runners.
    pub pool: Arc<Pool>,
    /// Connections to them.
    pub http: reqwest::Client,
    /// Fetches inputs.
    pub downloader: Downloader,
    /// Sends results.
    pub uploader: Uploader,
}

impl AiWork {
    /// Works on a notice.
    pub fn handle(self: &Arc<Self>, notice: net::NotifyAiJob) -> impl Future<Output = ()> + use<> {
        let work = self.clone();
        async move {
            let deadline = Instant::now() + LONGEST_JOB;
            let task_id = notice.task_id;
            let pipeline =
                notice.ai_job_data.as_ref().map(|d| d.pipeline.clone()).unwrap_or_default();
            let started = Instant::now();
            let done = match job::read(&notice) {
                Ok(job) => work.run(&job, deadline).await,
                Err(bad) => Err(bad.into()),
            };
            let result = if done.is_ok() { "ok" } else { "failed" };
            // Only names that exist become labels.
            let label = penstock_domain::Capability::from_pipeline(&pipeline)
                .map_or_else(|| "unknown".to_owned(), |c| c.pipeline());
            metrics::counter!("penstock_worker_jobs_total", "pipeline" => label.clone(), "result" => result)
                .increment(1);
            metrics::histogram!("penstock_worker_job_seconds", "pipeline" => label)
                .record(started.elapsed().as_secs_f64());
            let outcome = match done {
                Ok(json) => {
                    let duration_ms = started.elapsed().as_millis();
                    tracing::info!(task_id, pipeline, duration_ms, "job done");
                    let part = Part::bytes("application/json", json);
                    Outcome::Done(Mixed::new(rand::random(), vec![part]))
                }
                Err(error) => {
                    tracing::warn!(task_id, pipeline, %error, "job failed");
                    Outcome::Failed(error.to_string())
                }
            };
            report_upload(task_id, work.uploader.ai(task_id, &pipeline, &outcome, deadline).await);
        }
    }

    async fn run(&self, job: &AiJob, deadline: Instant) -> Result<String, JobError> {
        let pipeline = job.capability.pipeline();
        let fetched = Instant::now() + DOWNLOAD_LIMIT;
        let input = self.downloader.to_memory(&job.input_url, MAX_INPUT_BYTES, fetched).await;
        let input = Bytes::from(input.map_err(|e| BadJob::request(&pipeline, e))?);
        let answer = match self.call(job, input.clone(), deadline).await {
            // The runner died under the job. Once more with the next one: a second death would
            // be the job's fault.
            Err(JobError::Runner(RunnerError::Unreachable { reason, .. })) => {
                tracing::warn!(
                    task_id = job.task_id,
                    reason,
                    "the runner was lost, trying once more"
                );
                self.call(job, input, deadline).await
            }
            other => other,
        }?;
        let result = job.result(answer).ok_or(RunnerError::Malformed { name: pipeline })?;
        Ok(result)
    }

    async fn call(
        &self,
        job: &AiJob,
        input: Bytes,
        deadline: Instant,
    ) -> Result<serde_json::Value, JobError> {
        let lease = self.pool.lease(job.capability, &job.model_id, PATIENCE).await?;
        let client = RunnerClient::new(self.http.clone(), lease.live.endpoint.clone());
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = client.run(job.call(input), limit).await;
        if matches!(answer, Err(RunnerError::Unreachable { .. })) {
            // Its keeper notices within moments; until then the pool would lend it again.
            self.pool.forgotten(&lease.live, PATIENCE).await;
        }
        Ok(answer?)
    }
}
