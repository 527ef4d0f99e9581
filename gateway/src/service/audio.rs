//! Speech to text: one batch AI job through the network (ai-pipelines.md sections 2 to 5).

use super::{
    Gateway,
    attempts::{Done, Limits, Plan, Work},
    discovery::ai_pool,
    error::{JobError, TryError},
    pay::{Funded, empty_payment},
    session::{Account, Purpose},
    units,
};
use crate::{
    front::{
        caller::Caller,
        timing::{self, Phase},
    },
    media::ffprobe::NoDuration,
    trace,
};
use bytes::Bytes;
use penstock_clients::{
    AiAnswer, AiBody, AiLimits, PaidHeaders,
    multipart::{Form, Part},
};
use penstock_domain::{Capabilities, Capability, ManifestId, model_capability_key};
use penstock_store::{PoolKey, Saved};
use penstock_wire::{SegmentSpec, json::TextAnswer};
use std::time::Duration;
use thiserror::Error;

/// The reference's bounds on one request's search.
const MAX_TRIES: u32 = 20;
/// Largest answer.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// A transcription asked for.
#[derive(Debug, Clone)]
pub struct AudioToText {
    /// The file.
    pub audio: Bytes,
    /// The client's name for it, made safe.
    pub file_name: String,
    /// The model, as asked.
    pub model_id: Option<String>,
    /// `true`, `false` or `word`; passed on as it came, if it came.
    pub return_timestamps: Option<String>,
}

/// Why there is no text.
#[derive(Debug, Error)]
pub enum AudioError {
    /// The caller's fault: no price can be made for it. The reference's text.
    #[error("audio duration calculation failed: {0}")]
    Duration(String),
    /// The caller's fault.
    #[error("{0}")]
    Model(&'static str),
    /// ffprobe is not there.
    #[error("{0}")]
    Machine(String),
    /// The network.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// What stays the same over the tries of one job.
struct Job<'a> {
    request: &'a AudioToText,
    model: String,
    seconds: u64,
    estimate_units: u64,
    key: PoolKey,
    purpose: Purpose,
}

impl Gateway {
    /// Transcribes. The answer is the orchestrator's JSON, checked for its shape.
    pub async fn audio_to_text(
        &self,
        caller: &Caller,
        request: &AudioToText,
    ) -> Result<Bytes, AudioError> {
        let capability = Capability::AudioToText;
        let model = self.settings.model(&capability.pipeline(), request.model_id.as_deref());
        let model = model.ok_or(AudioError::Model("model_id is required"))?;
        // The manifest id is what is signed: 64 printable characters (architecture.md rule 7).
        let account = ManifestId::new(model_capability_key(capability, &model))
            .map_err(|_| AudioError::Model("model_id must be at most 61 printable characters"))?;
        let duration_ms =
            self.audio_probe.duration_ms(&request.audio).await.map_err(|e| match e {
                NoDuration::NotAudio(why) => AudioError::Duration(why.to_owned()),
                NoDuration::Probe(error) => {
                    AudioError::Machine(format!("ffprobe cannot be run: {error}"))
                }
            })?;
        let estimate_units = units::audio_units(duration_ms)
            .ok_or_else(|| AudioError::Duration("less than a second of audio".to_owned()))?;
        let job = Job {
            request,
            seconds: estimate_units / 1000,
            estimate_units,
            key: ai_pool(capability, &model),
            purpose: Purpose::new(
                caller,
                &format!("ai:{account}"),
                Account::Fixed(account),
                Capabilities::ai_job(capability, &model, false),
            ),
            model,
        };
        Ok(self.run(job).await?)
    }

    async fn run(&self, job: Job<'_>) -> Result<Bytes, JobError> {
        let window = self.settings.ai_retry_timeout();
        let plan = Plan {
            name: job.purpose.scope.clone(),
            pool: job.key.clone(),
            purpose: job.purpose.clone(),
            estimate_units: job.estimate_units,
            sticky: None,
            limits: Limits { attempts: MAX_TRIES, budget: window, wait_for_first: window },
        };
        match self.attempt(&plan, &job).await {
            Ok(served) => {
                metrics::counter!("penstock_gateway_ai_jobs_total", "pipeline" => "audio-to-text")
                    .increment(1);
                Ok(served.output)
            }
            Err(JobError::Rejected(text)) => Err(JobError::Rejected(runner_words(&text))),
            Err(JobError::Exhausted(last)) => {
                Err(JobError::NoOrchestrators(format!("no orchestrators available: {last}")))
            }
            Err(error) => Err(error),
        }
    }

    async fn transcribe(&self, job: &Job<'_>, funded: &Funded) -> Result<AiAnswer, TryError> {
        let session = &funded.session;
        let payer = self.identity.payer(&self.signer).await?;
        let headers = PaidHeaders {
            payment: empty_payment(payer.address, &session.offer),
            segment: timing::span(Phase::Payment, self.job_credential(job, funded)).await?,
            traceparent: trace::current(),
        };
        let limits = AiLimits {
            timeout: Duration::from_millis(self.settings.args.ai_job_timeout_ms),
            max_bytes: MAX_ANSWER_BYTES,
        };
        let body = AiBody::Multipart(form(job));
        let uri = &session.key.orchestrator;
        let work = self.orchestrators.ai_job(uri, Capability::AudioToText, &headers, body, limits);
        let answer = timing::span(Phase::Orchestrator, work).await?;
        // Not a text: a broken orchestrator must not be answered with.
        TextAnswer::parse(&answer.body, MAX_ANSWER_BYTES as usize)
            .map_err(|_| TryError::BadResult("not a transcription"))?;
        Ok(answer)
    }

    /// The credential that came with the last payment, or a new one when the token has changed
    /// since. With credit in hand this asks nobody.
    async fn job_credential(&self, job: &Job<'_>, funded: &Funded) -> Result<String, TryError> {
        let session = &funded.session;
        if let Some(known) = &session.record.credential {
            return Ok(known.clone());
        }
        let manifest = session.record.manifest_id.clone();
        let capabilities = Some(job.purpose.job.clone());
        let unsigned = SegmentSpec::empty(manifest, capabilities, session.token()?.clone())
            .to_message(Vec::new());
        let signed = self.sign_credential(&job.purpose.caller, session, &unsigned).await?;
        self.keep_credential(funded, &signed).await?;
        Ok(signed)
    }

    /// Stores a credential for the following jobs; if somebody holds the lease they will do it.
    async fn keep_credential(&self, funded: &Funded, signed: &str) -> Result<(), TryError> {
        use penstock_store::Lease;
        let (key, owner, now) = (&funded.session.key, self.owner(), crate::clock::now());
        let lease_ms = super::session::LEASE_MS;
        let Lease::Granted { fence, .. } =
            self.store.lease_session(key, &owner, lease_ms, now).await?
        else {
            return Ok(());
        };
        if let Some(mut record) = self.store.session(key, now).await?
            && record.credential.is_none()
        {
            record.credential = Some(signed.to_owned());
            let ttl = super::session::SESSION_TTL_MS;
            let _: Saved = self.store.save_session(key, fence, &record, ttl, now).await?;
        }
        self.store.release_session(key, fence, now).await?;
        Ok(())
    }
}

impl Work for Job<'_> {
    type Output = Bytes;

    async fn dispatch(&self, gateway: &Gateway, funded: &Funded) -> Result<Done<Bytes>, TryError> {
        let answer = gateway.transcribe(self, funded).await?;
        let took = answer.elapsed.as_secs_f64();
        metrics::histogram!("penstock_gateway_ai_job_seconds").record(took);
        Ok(Done {
            output: answer.body,
            used_units: Some(self.estimate_units),
            latency_score: took / self.seconds.max(1) as f64,
        })
    }
}

/// The file first, then the fields (ai-pipelines.md section 3). `metadata` is ours: the seconds
/// that are paid for.
fn form(job: &Job<'_>) -> Form {
    let length = job.request.audio.len() as u64;
    let file = Part::stream_with_length(job.request.audio.clone(), length)
        .file_name(job.request.file_name.clone());
    let mut form = Form::new().part("audio", file).text("model_id", job.model.clone());
    if let Some(timestamps) = &job.request.return_timestamps {
        form = form.text("return_timestamps", timestamps.clone());
    }
    form.text("metadata", format!("{{\"duration\":\"{}\"}}", job.seconds))
}

/// What a runner said after `returned 400`, without the punctuation before it.
fn runner_words(text: &str) -> String {
    let words = text.split_once("returned 400").map_or(text, |(_, after)| after);
    let words = words.trim().trim_start_matches(':').trim();
    if words.is_empty() { "bad request".to_owned() } else { words.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_words() {
        assert_eq!(runner_words("audio-to-text container returned 400: not audio\n"), "not audio");
        assert_eq!(runner_words("x returned 400"), "bad request");
        assert_eq!(runner_words("file too large"), "file too large");
    }
}
