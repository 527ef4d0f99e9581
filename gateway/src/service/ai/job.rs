//! One job: default model and sizes, price, attempts, result.

use super::{
    media::{Made, MediaKind},
    pipeline::Pipeline,
    request::{AiRequest, BadRequest, FieldValue},
    units::{Measure, measure},
};
use crate::{
    front::{
        caller::Caller,
        timing::{self, Phase},
    },
    media::ffprobe::NoDuration,
    service::{
        Gateway,
        attempts::{Done, Limits, Plan, Work},
        choose::Chosen,
        discovery::ai_pool,
        error::{JobError, TryError},
        fence,
        own_time::OwnTime,
        pay::{Funded, empty_payment},
        peers::Via,
        session::{Account, LEASE_MS, Purpose, SESSION_TTL_MS},
    },
    trace,
};
use bytes::Bytes;
use penstock_clients::{
    AiBody, AiLimits, PaidHeaders,
    multipart::{Form, Part},
};
use penstock_domain::{Capabilities, ManifestId, model_capability_key};
use penstock_store::{Lease, PoolKey, Saved};
use penstock_wire::{
    SegmentSpec,
    json::{
        AiResult, CaptionAnswer, ImageAnswer, LlmAnswer, MasksAnswer, SpeechAnswer, TextAnswer,
    },
};
use std::time::Duration;
use thiserror::Error;

/// The reference's bound on one request's search.
const MAX_TRIES: u32 = 20;
/// Largest answer: masks and pictures may come inside the JSON.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Largest picture or sound, and largest film.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_FILM_BYTES: u64 = 300_000_000;
/// Most pictures of one job.
const MAX_IMAGES: usize = 64;

/// Why there is no result.
#[derive(Debug, Error)]
pub enum AiError {
    /// The caller's to change.
    #[error(transparent)]
    Bad(#[from] BadRequest),
    /// The caller's account does not have this model.
    #[error("this caller may not use {0}")]
    NotAllowed(String),
    /// The gateway's machine lacks a program.
    #[error("{0}")]
    Machine(String),
    /// The network.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// A request that can be tried: checked, priced, and on somebody's account.
#[derive(Debug, Clone)]
pub struct AiJob {
    /// What is asked.
    pub request: AiRequest,
    /// The model that serves it.
    pub model: String,
    /// Its price.
    pub measure: Measure,
    /// Whole seconds of the sound.
    seconds: u64,
    /// Who may take it.
    pub pool: PoolKey,
    /// On whose account, into which one at the orchestrator.
    pub purpose: Purpose,
}

impl Gateway {
    /// Checks and prices a request. Nothing is asked of the network.
    pub async fn prepare(&self, caller: &Caller, mut request: AiRequest) -> Result<AiJob, AiError> {
        let pipeline = request.pipeline;
        let model = self.settings.ai.model(pipeline, request.model.as_deref());
        if !caller.may_use(&format!("{}/{model}", pipeline.name())) {
            return Err(AiError::NotAllowed(format!("{}/{model}", pipeline.name())));
        }
        let capability = pipeline.capability();
        // The manifest id is what is signed: 64 printable characters (architecture.md rule 7).
        let account = ManifestId::new(model_capability_key(capability, &model))
            .map_err(|_| BadRequest::Model)?;
        fill(&mut request);
        let duration_ms = match &request.file {
            Some(file) if pipeline == Pipeline::AudioToText => {
                Some(self.audio_ms(&file.data).await?)
            }
            _ => None,
        };
        let measure = measure(&request, &model, duration_ms)?;
        Ok(AiJob {
            seconds: duration_ms.unwrap_or_default() / 1_000,
            measure,
            pool: ai_pool(capability, &model),
            purpose: Purpose::new(
                caller,
                &format!("ai:{account}"),
                Account::Fixed(account),
                Capabilities::ai_job(capability, &model, false),
            ),
            model,
            request,
        })
    }

    async fn audio_ms(&self, file: &[u8]) -> Result<u64, AiError> {
        self.audio_probe.duration_ms(file).await.map_err(|e| match e {
            NoDuration::NotAudio(why) => BadRequest::Duration(why.to_owned()).into(),
            NoDuration::Probe(error) => AiError::Machine(format!("ffprobe cannot be run: {error}")),
        })
    }

    /// Has the job done.
    pub async fn run_ai(&self, job: &AiJob) -> Result<Made, AiError> {
        let served = self.attempt_ai(job, job).await?;
        let pipeline = job.request.pipeline.name();
        metrics::counter!("penstock_gateway_ai_jobs_total", "pipeline" => pipeline).increment(1);
        Ok(served.output)
    }

    /// Tries `work`, which is `job` in one form or another, until somebody does it.
    pub(super) async fn attempt_ai<W: Work>(
        &self,
        job: &AiJob,
        work: &W,
    ) -> Result<crate::service::attempts::Served<W::Output>, AiError> {
        let settings = &self.settings.ai;
        let plan = Plan {
            name: job.pool.0.clone(),
            capability: job.request.pipeline.name(),
            model: Some(job.model.clone()),
            pool: job.pool.clone(),
            purpose: job.purpose.clone(),
            estimate_units: job.measure.units,
            sticky: None,
            // Who refuses at once costs nothing, and who fails after a while must not end the job.
            limits: Limits {
                attempts: MAX_TRIES,
                charged: self.settings.args.max_attempts,
                budget: Duration::from_millis(settings.job_timeout_ms),
                wait_for_first: Duration::from_millis(settings.retry_timeout_ms),
            },
        };
        match self.attempt(&plan, work).await {
            Ok(served) => Ok(served),
            Err(JobError::Rejected(text)) => Err(JobError::Rejected(runner_words(&text)).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// What every paid call of this job carries.
    pub(super) async fn job_headers(
        &self,
        job: &AiJob,
        funded: &Funded,
    ) -> Result<PaidHeaders, TryError> {
        let payer = self.identity.payer(&self.signer).await?;
        Ok(PaidHeaders {
            payment: empty_payment(payer.address, &funded.session.offer),
            segment: self.job_credential(&job.purpose, funded).await?,
            traceparent: None,
        })
    }

    /// The credential that came with the last payment, or a new one when the token has changed
    /// since. With credit in hand this asks nobody.
    pub(in crate::service) async fn job_credential(
        &self,
        purpose: &Purpose,
        funded: &Funded,
    ) -> Result<String, TryError> {
        let session = &funded.session;
        if let Some(known) = &session.record.credential {
            return Ok(known.clone());
        }
        let manifest = session.record.manifest_id.clone();
        let capabilities = Some(purpose.job.clone());
        let unsigned = SegmentSpec::empty(manifest, capabilities, session.token()?.clone())
            .to_message(Vec::new());
        let signed = self.sign_credential(&purpose.caller, session, &unsigned).await?;
        self.keep_credential(funded, &signed).await?;
        Ok(signed)
    }

    /// Stores a credential for the following jobs; if somebody holds the lease they will do it.
    async fn keep_credential(&self, funded: &Funded, signed: &str) -> Result<(), TryError> {
        let (key, owner, now) = (&funded.session.key, self.owner(), crate::clock::now());
        // Given back when this returns.
        let claim = self.lease_claim(key, &owner);
        let Lease::Granted { fence, .. } =
            self.store.lease_session(key, &owner, LEASE_MS, now).await?
        else {
            claim.is_over();
            return Ok(());
        };
        if let Some(mut record) = self.store.session(key, now).await?
            && record.credential.is_none()
        {
            record.credential = Some(signed.to_owned());
            let _: Saved =
                self.store.save_session(key, fence, &record, SESSION_TTL_MS, now).await?;
        }
        claim.give_back().await;
        Ok(())
    }

    /// The answer with its files, or why it is none.
    async fn made(&self, job: &AiJob, body: Bytes, home: (&str, Via)) -> Result<Made, TryError> {
        match job.request.pipeline {
            Pipeline::TextToImage
            | Pipeline::ImageToImage
            | Pipeline::Upscale
            | Pipeline::ImageToVideo => {
                let (kind, most) = match job.request.pipeline {
                    Pipeline::ImageToVideo => (MediaKind::Video, MAX_FILM_BYTES),
                    _ => (MediaKind::Image, MAX_FILE_BYTES),
                };
                let answer: ImageAnswer = shape(&body)?;
                if answer.images.is_empty() || answer.images.len() > MAX_IMAGES {
                    return Err(TryError::BadResult("no images, or too many"));
                }
                let fetches = answer.images.iter().enumerate();
                let fetches =
                    fetches.map(|(n, image)| self.fetch_media(&image.url, home, kind, n, most));
                let files = futures::future::try_join_all(fetches).await?;
                Ok(Made::Images { answer, files })
            }
            Pipeline::TextToSpeech => {
                let answer: SpeechAnswer = shape(&body)?;
                let (url, kind) = (&answer.audio.url, MediaKind::Audio);
                let file = self.fetch_media(url, home, kind, 0, MAX_FILE_BYTES).await?;
                Ok(Made::Speech { answer, file })
            }
            Pipeline::AudioToText => shape::<TextAnswer>(&body).map(|_| Made::Json(body)),
            Pipeline::SegmentAnything2 => shape::<MasksAnswer>(&body).map(|_| Made::Json(body)),
            Pipeline::ImageToText => shape::<CaptionAnswer>(&body).map(|_| Made::Json(body)),
            Pipeline::Llm => shape::<LlmAnswer>(&body).map(|_| Made::Json(body)),
        }
    }
}

/// A broken orchestrator must not be answered with.
fn shape<T: AiResult>(body: &[u8]) -> Result<T, TryError> {
    T::parse(body, MAX_ANSWER_BYTES as usize)
        .map_err(|_| TryError::BadResult("not the answer asked for"))
}

impl Work for AiJob {
    type Output = Made;

    async fn dispatch(
        &self,
        gateway: &Gateway,
        funded: &Funded,
        _: &OwnTime,
    ) -> Result<Done<Made>, TryError> {
        let mut headers = timing::span(Phase::Payment, gateway.job_headers(self, funded)).await?;
        let limits = AiLimits {
            timeout: gateway.settings.ai.try_timeout.of(self.request.pipeline),
            max_bytes: MAX_ANSWER_BYTES,
        };
        let uri = &funded.session.key.orchestrator;
        let capability = self.request.pipeline.capability();
        fence::may_send()?;
        let work = async {
            let clients = gateway.peers.of(funded.session.via);
            headers.traceparent = trace::outgoing();
            let answer = clients.ai_job(uri, capability, &headers, self.body(), limits).await?;
            let tokens = match self.request.pipeline {
                Pipeline::Llm => shape::<LlmAnswer>(&answer.body)?.usage.total_tokens.max(1),
                _ => 1,
            };
            let made = gateway.made(self, answer.body, (uri, funded.session.via)).await?;
            Ok::<_, TryError>((made, answer.elapsed, tokens))
        };
        let (output, elapsed, tokens) = timing::span(Phase::Orchestrator, work).await?;
        let pipeline = self.request.pipeline.name();
        metrics::histogram!("penstock_gateway_ai_job_seconds", "pipeline" => pipeline)
            .record(elapsed.as_secs_f64());
        let divisor = self.measure.score_divisor * tokens as f64;
        let latency_score = elapsed.as_secs_f64() / divisor.max(f64::MIN_POSITIVE);
        Ok(Done { output, used_units: Some(self.measure.units), latency_score })
    }

    fn score_of(&self, took: Duration) -> Option<f64> {
        // Of text the divisor is known only when it is there.
        let is_known = self.request.pipeline != Pipeline::Llm;
        is_known.then(|| took.as_secs_f64() / self.measure.score_divisor.max(f64::MIN_POSITIVE))
    }

    fn company_after(&self, gateway: &Gateway, _at: &Chosen) -> Option<Duration> {
        gateway.settings.selection.hedge_after
    }
}

impl AiJob {
    /// What is sent: JSON, or the file first and then the fields (section 3).
    pub(super) fn body(&self) -> AiBody {
        let (Some(name), Some(file)) = (self.request.pipeline.file_field(), &self.request.file)
        else {
            return AiBody::Json(self.request.to_json(&self.model));
        };
        let part = Part::stream_with_length(file.data.clone(), file.data.len() as u64)
            .file_name(file.name.clone());
        let fields = self.request.to_form(&self.model);
        let mut form =
            fields.into_iter().fold(Form::new().part(name, part), |f, (n, v)| f.text(n, v));
        if self.request.pipeline == Pipeline::AudioToText {
            // Ours: the seconds that are paid for.
            form = form.text("metadata", format!("{{\"duration\":\"{}\"}}", self.seconds));
        }
        AiBody::Multipart { form, file_bytes: file.data.len() as u64 }
    }
}

/// What the reference sets before sending (section 3).
fn fill(request: &mut AiRequest) {
    let side = |default| FieldValue::Int(default);
    match request.pipeline {
        Pipeline::TextToImage => {
            request.fill("height", side(512));
            request.fill("width", side(512));
        }
        Pipeline::ImageToVideo => {
            request.fill("height", side(576));
            request.fill("width", side(1_024));
        }
        _ => {}
    }
    if matches!(request.pipeline, Pipeline::TextToImage | Pipeline::ImageToImage) {
        request.at_least("num_images_per_prompt", 1);
    }
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

    #[test]
    fn sizes_and_numbers_that_are_left_open() {
        let film = filled(Pipeline::ImageToVideo, &[]);
        assert_eq!((film.int("height"), film.int("width")), (Some(576), Some(1_024)));
        let none = [
            ("prompt", FieldValue::Text("a".into())),
            ("num_images_per_prompt", FieldValue::Int(-3)),
        ];
        let pictures = filled(Pipeline::TextToImage, &none);
        assert_eq!(pictures.int("num_images_per_prompt"), Some(1));
        assert_eq!(pictures.int("width"), Some(512));
    }

    fn filled(pipeline: Pipeline, fields: &[(&'static str, FieldValue)]) -> AiRequest {
        let data = Bytes::from_static(b"x");
        let file = pipeline
            .file_field()
            .map(|_| crate::service::ai::Upload { name: "f".into(), data: data.clone() });
        let mut request = AiRequest::of_values(pipeline, None, file, fields.to_vec()).unwrap();
        fill(&mut request);
        request
    }
}
