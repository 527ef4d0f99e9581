//! One AI job from notice to uploaded result.

use super::{
    client::{Call, LONGEST_JOB, RunnerClient, RunnerError, RunnerHttp, error_name},
    film::{FilmError, FilmMaker},
    job::{self, AiJob, BadJob},
    pool::{Lease, NoCapacity, Pool},
    result::{self, ResultParts},
    words::Pieces,
};
use crate::{
    limits::Limits,
    link::{
        download::Downloader,
        multipart::{Mixed, Part},
        upload::{Outcome, Uploader},
    },
    video::work::report_upload,
};
use bytes::Bytes;
use penstock_telemetry::{
    step,
    trace::{self, Traceparent},
};
use penstock_wire::{
    ai::{Answer, Pipeline},
    json::{ImageAnswer, MediaAnswer},
    net,
};
use std::{future::Future, sync::Arc, time::Duration};
use tempfile::TempDir;
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;

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
    #[error(transparent)]
    Film(#[from] FilmError),
}

/// A result, ready to be sent.
enum Ready {
    /// All of it.
    Whole(Mixed, Option<TempDir>),
    /// A stream that has begun.
    Stream(reqwest::Body),
}

/// Everything a job needs.
#[derive(Debug)]
pub struct AiWork {
    /// The runners.
    pub pool: Arc<Pool>,
    /// Connections to them.
    pub http: RunnerHttp,
    /// Fetches inputs.
    pub downloader: Downloader,
    /// Sends results.
    pub uploader: Uploader,
    /// Makes films of frames.
    pub films: FilmMaker,
    /// How much is taken.
    pub limits: Limits,
}

impl AiWork {
    /// Works on a notice.
    pub fn handle(self: &Arc<Self>, notice: net::NotifyAiJob) -> impl Future<Output = ()> + use<> {
        let work = self.clone();
        let caller = Traceparent::parse(&notice.traceparent);
        let operation = notice
            .ai_job_data
            .as_ref()
            .and_then(|job| Pipeline::ALL.iter().find(|p| p.name() == job.pipeline))
            .map_or("unknown", |pipeline| pipeline.name());
        let span = trace::accept(operation, caller);
        let working = async move {
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
            let sending = async {
                match done {
                    Ok(Ready::Whole(mixed, _folder)) => {
                        let duration_ms = started.elapsed().as_millis();
                        tracing::info!(task_id, pipeline, duration_ms, "job done");
                        let outcome = Outcome::Done(mixed);
                        work.uploader.ai(task_id, &pipeline, &outcome, deadline).await
                    }
                    Ok(Ready::Stream(body)) => {
                        let sent =
                            work.uploader.ai_stream(task_id, &pipeline, body, deadline).await;
                        let duration_ms = started.elapsed().as_millis();
                        tracing::info!(task_id, pipeline, duration_ms, "stream over");
                        sent
                    }
                    Err(error) => {
                        tracing::warn!(task_id, pipeline, %error, "job failed");
                        let outcome = Outcome::Failed(error.to_string());
                        work.uploader.ai(task_id, &pipeline, &outcome, deadline).await
                    }
                }
            };
            let sent = sending.instrument(step!("upload", otel.kind = "client")).await;
            report_upload(task_id, sent);
        };
        trace::scope_if(caller, working).instrument(span)
    }

    async fn run(&self, job: &AiJob, deadline: Instant) -> Result<Ready, JobError> {
        let input = match &job.input_url {
            None => Bytes::new(),
            Some(url) => {
                let fetched = Instant::now() + DOWNLOAD_LIMIT;
                let input = self.downloader.to_memory(url, self.limits.ai_input_bytes, fetched);
                let input = input.instrument(step!("download")).await;
                input.map_err(|e| BadJob::request(job.pipeline().name(), e))?.into()
            }
        };
        let call = job.call(input);
        match self.attempt(job, call.clone(), deadline).await {
            // The runner died under the job. Once more with the next one: a second death would
            // be the job's fault.
            Err(JobError::Runner(RunnerError::Unreachable { reason, .. })) => {
                let task_id = job.task_id;
                tracing::warn!(task_id, reason, "the runner was lost, trying once more");
                self.attempt(job, call, deadline).await
            }
            other => other,
        }
    }

    async fn attempt(&self, job: &AiJob, call: Call, deadline: Instant) -> Result<Ready, JobError> {
        let lease = self.pool.lease(job.pipeline().capability(), &job.model_id, PATIENCE).await?;
        let client = RunnerClient::new(self.http.clone(), lease.live.endpoint.clone());
        let left = deadline.saturating_duration_since(Instant::now());
        let live = lease.live.clone();
        let done = if job.pipeline() == Pipeline::Llm && job.request.wants_stream() {
            begin(&client, call, left, lease, self.limits.ai_piece_bytes).await
        } else {
            let running = client.run(call, left);
            let answer = running.instrument(step!("runner", otel.kind = "client")).await;
            // The next job may have the runner while this one's result is made and sent.
            drop(lease);
            match answer {
                Ok(answer) => self.whole(job, &answer, deadline).await,
                Err(error) => Err(error.into()),
            }
        };
        if matches!(done, Err(JobError::Runner(RunnerError::Unreachable { .. }))) {
            // Its keeper notices within moments; until then the pool would lend it again.
            self.pool.forgotten(&live, PATIENCE).await;
        }
        done
    }

    /// The result of a runner's answer.
    async fn whole(
        &self,
        job: &AiJob,
        answer: &[u8],
        deadline: Instant,
    ) -> Result<Ready, JobError> {
        let pipeline = job.pipeline();
        if pipeline.answer() == Answer::Film {
            let left = deadline.saturating_duration_since(Instant::now());
            let film = self.films.make(&job.request, answer, left).await?;
            let name = format!("{}.mp4", random_name());
            let image = MediaAnswer { url: name.clone(), seed: film.seed, nsfw: film.nsfw };
            let answer = ImageAnswer { images: vec![image] };
            let json = serde_json::to_string(&answer).map_err(|_| FilmError::Malformed)?;
            let part = Part::file("video/mp4", film.path, film.bytes);
            let parts = vec![named(part, &name), Part::bytes("application/json", json)];
            return Ok(Ready::Whole(Mixed::new(rand::random(), parts), Some(film.folder)));
        }
        let ResultParts { files, json } =
            result::parts(pipeline, answer, &self.limits, random_name)
                .ok_or_else(|| RunnerError::Malformed { name: error_name(pipeline) })?;
        let mut parts: Vec<_> = files
            .into_iter()
            .map(|file| named(Part::bytes(file.content_type, file.data), &file.name))
            .collect();
        parts.push(Part::bytes("application/json", json));
        Ok(Ready::Whole(Mixed::new(rand::random(), parts), None))
    }
}

/// Begins a stream: what a runner refuses can be said in words. The upload begins with the runner's answer,
/// before it has said anything, because only by its end an orchestrator can say that nobody listens any more.
async fn begin(
    client: &RunnerClient,
    call: Call,
    limit: Duration,
    lease: Lease,
    piece_bytes: usize,
) -> Result<Ready, JobError> {
    let pieces = Pieces::new(client.stream(call, limit).await?, piece_bytes);
    Ok(Ready::Stream(reqwest::Body::wrap_stream(pieces.body(lease))))
}

fn named(part: Part, name: &str) -> Part {
    part.with_header("Content-Disposition", format!("attachment; filename={name}"))
}

/// A file name that nobody has used.
fn random_name() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
