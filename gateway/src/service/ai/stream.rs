//! llm answers in pieces, handed on as they come. Another orchestrator is tried until the first piece
//! is there; after that the caller has heard one voice, and a failure is the caller's to know.
//!
//! An orchestrator debits a stream before it begins (ai-pipelines.md section 6), so the job is settled
//! with its whole price as soon as the first piece has come, whatever becomes of the rest.

use super::{
    AiError, AiJob,
    events::{EventReader, TooLong},
};
use crate::{
    front::{
        caller::Caller,
        timing::{self, Phase},
    },
    service::{
        Gateway,
        attempts::{Done, Work},
        error::TryError,
        fence, heard,
        own_time::OwnTime,
        pay::Funded,
    },
    trace,
};
use penstock_clients::{AiStream, CallError, CallErrorKind, Operation, StreamLimits};
use penstock_selection::Fault;
use penstock_store::PoolKey;
use penstock_wire::json::{AiResult, LlmAnswer};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Longest piece.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// A streamed answer broke off.
#[derive(Debug, Error)]
#[error("the answer broke off: {0}")]
pub struct BrokenOff(String);

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// As the orchestrator wrote it.
    pub json: String,
    /// The same, read.
    pub answer: LlmAnswer,
}

/// An answer that has begun.
#[derive(Debug)]
struct Begun {
    upstream: AiStream,
    reader: EventReader,
    first: Piece,
    started: Instant,
}

impl Begun {
    /// The next piece; `None` at the end.
    async fn piece(
        upstream: &mut AiStream,
        reader: &mut EventReader,
    ) -> Result<Option<Piece>, TryError> {
        loop {
            if let Some(event) = reader.next_event().map_err(|TooLong| WRONG)? {
                if event == "[DONE]" {
                    return Ok(None);
                }
                let answer =
                    LlmAnswer::parse(event.as_bytes(), MAX_PIECE_BYTES).map_err(|_| WRONG)?;
                return Ok(Some(Piece { json: event, answer }));
            }
            match upstream.chunk().await? {
                Some(chunk) => reader.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

const WRONG: TryError = TryError::BadResult("not a piece of an answer");

/// An llm job whose answer is wanted in pieces.
struct Streamed<'a>(&'a AiJob);

impl Work for Streamed<'_> {
    type Output = Begun;

    async fn dispatch(
        &self,
        gateway: &Gateway,
        funded: &Funded,
        _: &OwnTime,
    ) -> Result<Done<Begun>, TryError> {
        let job = self.0;
        let mut headers = timing::span(Phase::Payment, gateway.job_headers(job, funded)).await?;
        let settings = &gateway.settings.ai;
        // Nothing is heard of an answer before its first piece, so until then another one can give it.
        let head = Duration::from_millis(settings.stream_head_ms);
        let head = head.min(settings.try_timeout.of(job.request.pipeline));
        let idle = Duration::from_millis(settings.stream_idle_ms);
        let whole = Duration::from_millis(settings.job_timeout_ms);
        let limits = StreamLimits { head, idle, whole };
        let (uri, capability) =
            (&funded.session.key.orchestrator, job.request.pipeline.capability());
        fence::may_send()?;
        if heard::is_gone() {
            return Err(TryError::Unheard { sent: false });
        }
        let started = Instant::now();
        let work = async {
            let clients = gateway.peers.of(funded.session.via);
            headers.traceparent = trace::outgoing();
            let mut upstream =
                clients.ai_stream(uri, capability, &headers, job.body(), limits).await?;
            let mut reader = EventReader::new(MAX_PIECE_BYTES);
            match Begun::piece(&mut upstream, &mut reader).await? {
                Some(first) => Ok(Begun { upstream, reader, first, started }),
                None => Err(TryError::BadResult("an answer without a piece")),
            }
        };
        let begun = async {
            tokio::select! {
                begun = tokio::time::timeout(head, work) => begun.unwrap_or_else(|_| Err(late(uri))),
                // The orchestrator is hung up on before it has said anything.
                () = heard::gone() => Err(TryError::Unheard { sent: true }),
            }
        };
        let output = timing::span(Phase::Orchestrator, begun).await?;
        // Until the answer's tokens are known, its first piece counts as one.
        let latency_score = started.elapsed().as_secs_f64();
        Ok(Done { output, used_units: Some(job.measure.units), latency_score })
    }
}

/// Nothing was said in time.
fn late(orchestrator: &str) -> TryError {
    let (operation, kind) = (Operation::AiJob, CallErrorKind::HeaderTimeout);
    CallError { operation, peer: orchestrator.to_owned(), kind }.into()
}

/// An answer on its way to a client. Dropping it hangs up on the orchestrator.
pub struct LlmStream {
    gateway: Arc<Gateway>,
    pool: PoolKey,
    caller: Caller,
    orchestrator: String,
    begun: Begun,
    next: Option<Piece>,
    tokens: u64,
    ended: bool,
}

impl Gateway {
    /// Begins an answer in pieces.
    pub async fn stream_llm(self: &Arc<Self>, job: &AiJob) -> Result<LlmStream, AiError> {
        let served = self.attempt_ai(job, &Streamed(job)).await?;
        metrics::counter!("penstock_gateway_ai_jobs_total", "pipeline" => "llm").increment(1);
        let begun = served.output;
        Ok(LlmStream {
            gateway: Arc::clone(self),
            pool: job.pool.clone(),
            caller: job.purpose.caller.clone(),
            orchestrator: served.orchestrator,
            next: Some(begun.first.clone()),
            begun,
            tokens: 0,
            ended: false,
        })
    }
}

impl LlmStream {
    /// The next piece; `None` after the last. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Piece, BrokenOff>> {
        if self.ended {
            return None;
        }
        let piece = match self.next.take() {
            Some(first) => Ok(Some(first)),
            None => Begun::piece(&mut self.begun.upstream, &mut self.begun.reader).await,
        };
        match piece {
            Ok(Some(piece)) => {
                self.tokens = self.tokens.max(piece.answer.usage.total_tokens);
                // The reference stops here too; what may follow is nobody's business.
                if piece.answer.is_last() {
                    self.done().await;
                }
                Some(Ok(piece))
            }
            Ok(None) => {
                self.done().await;
                None
            }
            Err(error) => {
                self.ended = true;
                let text = error.to_string();
                tracing::warn!(pool = %self.pool.0, orchestrator = self.orchestrator, error = text,
                    "a streamed answer broke off");
                let fault = match error {
                    TryError::BadResult(_) => Fault::BadResult,
                    _ => Fault::Unreachable,
                };
                // Nobody else has done this very job: it may be to blame.
                let (caller, pool) = (&self.caller, &self.pool);
                self.gateway.suspend_for(caller, pool, &self.orchestrator, fault, &text).await;
                Some(Err(BrokenOff(text)))
            }
        }
    }

    async fn done(&mut self) {
        self.ended = true;
        let took = self.begun.started.elapsed().as_secs_f64();
        metrics::histogram!("penstock_gateway_ai_job_seconds", "pipeline" => "llm").record(took);
        let score = took / self.tokens.max(1) as f64;
        self.gateway.record_score(&self.pool, None, &self.orchestrator, score);
    }
}
