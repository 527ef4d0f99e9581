//! One job: units, room, payment, work, fee, answer, in the order of ai-pipelines.md section 6.

use super::{
    bill::{Debit, Streamed},
    form,
    result::{self, BadResult, MadeFile},
};
use crate::{
    error::JobError,
    limits::Limits,
    node::Node,
    release::Reason,
    service::{counted, credentials::Admission, holds::Hold, segment::Source},
    storage::StoredFile,
    workers::ai::{AiError, AiResult},
};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use penstock_domain::model_capability_key;
use penstock_ledger::orchestrator::AccountKey;
use penstock_telemetry::step;
use penstock_wire::{
    ai::{AiRequest, Answer, Pipeline, data_url, units::units},
    net,
    worker_upload::AI_WORKER_AUTHORIZATION,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Files of answers are kept so long for the gateway to fetch.
const RESULTS_FOR: Duration = Duration::from_secs(600);
/// Files of an answer that go to their places at once.
const PLACED_AT_ONCE: usize = 4;
/// Longest model name.
const MAX_MODEL_BYTES: usize = 160;

/// A request that may be served.
#[derive(Debug)]
pub struct AiJob {
    request: AiRequest,
    model: String,
    /// Old gateways get pictures inside the JSON.
    inline_images: bool,
}

impl AiJob {
    /// Reads the body, whose size is bounded already.
    pub async fn read(
        pipeline: Pipeline,
        headers: &HeaderMap,
        body: Bytes,
        limits: &Limits,
    ) -> Result<Self, JobError> {
        let request = form::read(pipeline, headers, body, limits).await?;
        let model = request.model.clone().unwrap_or_else(|| pipeline.default_model().to_owned());
        let printable = model.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if model.len() > MAX_MODEL_BYTES || !printable {
            return Err(JobError::BadRequest(format!("invalid {}", pipeline.model_field())));
        }
        let known =
            headers.get(header::AUTHORIZATION).is_some_and(|v| v == AI_WORKER_AUTHORIZATION);
        let inline_images = pipeline.answer() == Answer::Images && !known;
        Ok(Self { request, model, inline_images })
    }

    fn pipeline(&self) -> Pipeline {
        self.request.pipeline
    }
}

impl Node {
    /// Serves the job. `running` is kept as long as work is done for it. `unheard` says that the gateway
    /// has hung up: an answer in pieces is then waited for no longer.
    pub async fn serve_ai(
        self: &Arc<Self>,
        admission: Admission,
        mut job: AiJob,
        running: impl Send + 'static,
        unheard: CancellationToken,
    ) -> Result<Response, JobError> {
        let pipeline = job.pipeline();
        let bad = |error: penstock_wire::ai::BadRequest| JobError::BadRequest(error.to_string());
        let needs_a_look = pipeline == Pipeline::AudioToText;
        let mut cost = if needs_a_look { 0 } else { units(&job.request, 0).map_err(bad)? };
        // Held from here to the end; every way out gives it back. For sound it comes before the units,
        // to bound how many files are looked at together (the reference: after).
        let reserved = self.ai_workers.reserve(pipeline.capability(), &job.model);
        let mut reserved = reserved.map_err(JobError::Ai)?;
        let file = job.request.file.take();
        let request_id = uuid::Uuid::new_v4().simple().to_string();
        let admitted = async {
            if let (true, Some(file)) = (needs_a_look, &file) {
                let seconds = self.audio_probe.duration_s(file.data.clone());
                cost = units(&job.request, seconds.await.map_err(JobError::Audio)?).map_err(bad)?;
            }
            let key = model_capability_key(pipeline.capability(), &job.model);
            let account = AccountKey::new(admission.sender, key)
                .map_err(|_| JobError::BadRequest("invalid model_id".into()))?;
            let hold = self.collect(&account, admission, cost).await?;
            let source = match file {
                None => None,
                Some(file) => {
                    Some(Source::store(self, &request_id, file.data).ok_or(JobError::Storage)?)
                }
            };
            Ok((hold, source))
        };
        let (hold, source) =
            admitted.await.inspect_err(|error: &JobError| reserved.because(error.reason()))?;
        let task = net::AiJobData {
            pipeline: pipeline.name().to_owned(),
            request_data: request_data(self, source.as_ref(), &job).into_bytes(),
        };
        let in_pieces = pipeline == Pipeline::Llm && job.request.wants_stream();
        let begun = Instant::now();
        let done = tokio::select! {
            biased;
            done = reserved.run(&task, self.ai_timeout).instrument(step!("worker", otel.kind = "client")) => done,
            () = unheard.cancelled(), if in_pieces => Err(AiError::Unheard),
        };
        drop(source);
        let outcome = if done.is_ok() { "done" } else { "failed" };
        metrics::counter!("orchestrator_jobs_total", "kind" => pipeline.name(), "outcome" => outcome)
            .increment(1);
        if done.is_ok() {
            counted::ai_job_done(pipeline.name(), &job.model);
        }
        let debit = Debit::new(Arc::clone(self), hold, cost, &request_id);
        let (result, mut reserved) = match done {
            Ok(done) => done,
            Err(error) => {
                // Work that was begun for who hung up is charged, as it is later.
                if error == AiError::Unheard {
                    drop(debit.book().await?);
                }
                return Err(JobError::Ai(error));
            }
        };
        match result {
            AiResult::Whole(upload) => {
                let work = (pipeline.capability().number(), job.model.as_str());
                self.throughput.note(Some(work), cost, begun.elapsed());
                let bad = |e: BadResult| JobError::Ai(AiError::Worker(e.to_string()));
                let made = result::read(pipeline, upload, &self.limits).map_err(bad);
                reserved.because(made.as_ref().map_or(Reason::WorkerFailed, |_| Reason::Completed));
                // The worker is free while its files go to their places.
                drop(reserved);
                let (made, files) = made?;
                let urls = self.places(&job, &request_id, files).await.map_err(bad)?;
                let body = Body::from(made.at(urls).map_err(bad)?);
                let body = debit.book().await?.with(body);
                let kind = HeaderValue::from_static("application/json");
                Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
            }
            AiResult::Words(words) => {
                Ok(words.into_response(Streamed::new(debit, reserved, running)))
            }
        }
    }

    /// Takes a payment into an account, and sets aside what a job of so many units will cost, if
    /// there is enough to begin. `None` off-chain.
    pub async fn collect(
        &self,
        account: &AccountKey,
        admission: Admission,
        units: u64,
    ) -> Result<Option<Hold>, JobError> {
        let Some(cashier) = &self.cashier else { return Ok(None) };
        cashier.take(account, admission.payment).await.map_err(JobError::Payment)?;
        let hold = cashier.begin(account, units).await.map_err(JobError::Payment)?;
        hold.map(Some).map_err(JobError::InsufficientBalance)
    }

    /// Where the files of an answer are, in their order; some go there at a time.
    async fn places(
        &self,
        job: &AiJob,
        request_id: &str,
        files: Vec<MadeFile>,
    ) -> Result<Vec<String>, BadResult> {
        let each = files.into_iter().map(|file| self.place(job, request_id, file));
        let each: Vec<_> = each.collect();
        let placed: Vec<_> = stream::iter(each).buffered(PLACED_AT_ONCE).collect().await;
        placed.into_iter().map(|url| url.ok_or(BadResult::Storage)).collect()
    }

    /// Where a gateway finds a file of an answer. Each has a folder of its own, so that many of them do
    /// not push each other out.
    async fn place(&self, job: &AiJob, request_id: &str, file: MadeFile) -> Option<String> {
        let MadeFile { index, content_type, extension, data } = file;
        if job.inline_images {
            return Some(data_url::encode(content_type, &data));
        }
        let (folder, name) = (index.to_string(), uuid::Uuid::new_v4().simple().to_string());
        let name = format!("{name}{extension}");
        let file = StoredFile { data, content_type };
        let url = self.keep(None, request_id, &folder, &name, file).await?;
        if index == 0 {
            let (storage, session) = (Arc::clone(&self.storage), request_id.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(RESULTS_FOR).await;
                storage.end_session(&session);
            });
        }
        Some(url)
    }
}

/// What the worker gets: the request's fields, the file emptied, and where the file is.
fn request_data(node: &Node, source: Option<&Source>, job: &AiJob) -> String {
    let mut fields = job.request.to_object(&job.model);
    if let Some(file_field) = job.pipeline().file_field() {
        // Workers of the reference read it as bytes, and refuse an object.
        fields.insert(file_field.to_owned(), serde_json::Value::Null);
    }
    let input_url = source.map(|source| format!("{}{}", node.service_uri(), source.path()));
    json!({ "input_url": input_url.unwrap_or_default(), "request": fields }).to_string()
}
