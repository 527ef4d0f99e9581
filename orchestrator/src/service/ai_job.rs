//! One audio-to-text job: units, room, payment, work, fee, in the order of ai-pipelines.md
//! section 6.

use super::{audio, credentials::Admission, holds::Hold, segment::Source};
use crate::{clock, error::JobError, node::Node};
use bytes::Bytes;
use penstock_domain::{Capability, model_capability_key};
use penstock_ledger::orchestrator::AccountKey;
use penstock_wire::net;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Units of one second of audio: the price is for a millisecond.
const UNITS_PER_SECOND: u64 = 1000;

/// A job's request, decoded.
#[derive(Debug)]
pub struct AudioRequest {
    /// The file.
    pub audio: Bytes,
    /// The model; the wire's default if the caller named none.
    pub model: String,
    /// The other fields, as texts.
    pub fields: Map<String, Value>,
}

/// Model of audio-to-text when a request names none (ai-pipelines.md section 1).
pub const DEFAULT_AUDIO_MODEL: &str = "openai/whisper-large-v3";

impl Node {
    /// Serves the job; the answer is JSON.
    pub async fn audio_to_text(
        self: &Arc<Self>,
        admission: Admission,
        request: AudioRequest,
    ) -> Result<Bytes, JobError> {
        let capability = Capability::AudioToText;
        // Held from here to the end; every way out gives it back. It also bounds how many files are
        // looked at together, which is why it comes before the units (the reference: after).
        let reserved = self.ai_workers.reserve(capability, &request.model).map_err(JobError::Ai)?;
        let seconds = audio::duration_s(&self.ffprobe, request.audio.clone())
            .await
            .map_err(JobError::Audio)?;
        let units = seconds.saturating_mul(UNITS_PER_SECOND);
        let key = model_capability_key(capability, &request.model);
        let account = AccountKey::new(admission.sender, key)
            .map_err(|_| JobError::BadRequest("invalid model_id".into()))?;
        let hold = self.collect(&account, admission, units).await?;
        let request_id = uuid::Uuid::new_v4().simple().to_string();
        let source =
            Source::store(self, &request_id, request.audio.clone()).ok_or(JobError::Storage)?;
        let job = net::AiJobData {
            pipeline: capability.pipeline(),
            request_data: request_data(self, &source, request).into(),
        };
        let done = reserved.run(&job, self.ai_timeout).await;
        let outcome = if done.is_ok() { "done" } else { "failed" };
        metrics::counter!("orchestrator_jobs_total", "kind" => "audio-to-text", "outcome" => outcome)
            .increment(1);
        let result = done.map_err(JobError::Ai)?;
        drop(source);
        if let (Some(cashier), Some(hold)) = (&self.cashier, &hold) {
            let job_id = format!("ai/{request_id}/{}", clock::now_ms());
            cashier.debit(hold, job_id, units).await.map_err(JobError::Info)?;
        }
        Ok(result.answer)
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
        hold.map(Some).ok_or(JobError::InsufficientBalance)
    }
}

/// What the worker gets: the request's fields, the file emptied, and where the file is.
fn request_data(node: &Node, source: &Source, request: AudioRequest) -> String {
    let mut fields = request.fields;
    fields.insert("audio".into(), json!({}));
    fields.insert("model_id".into(), Value::String(request.model));
    let input_url = format!("{}{}", node.service_uri(), source.path());
    json!({ "input_url": input_url, "request": fields }).to_string()
}
