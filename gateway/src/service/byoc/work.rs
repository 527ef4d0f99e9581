//! One try of a brought job at one orchestrator.

use super::BroughtJob;
use crate::{
    front::timing::{self, Phase},
    service::{
        Gateway,
        attempts::{Done, Work},
        error::TryError,
        fence,
        own_time::OwnTime,
        pay::Funded,
    },
    trace,
};
use bytes::{Bytes, BytesMut};
use penstock_clients::{AiStream, BYOC_REFUSALS, ByocJob, CallErrorKind, StreamLimits};
use std::time::{Duration, Instant};

/// Beyond what the job may take: the way there and back; for a stream twice that, so that the
/// orchestrator is the one to end it.
const GRACE: Duration = Duration::from_secs(5);
/// Largest answer that is not a stream.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The value of `Livepeer`: the job request, signed for whoever does it.
#[derive(Debug)]
pub(super) struct Signed(pub String);

/// A try.
pub(super) struct Tried<'a> {
    pub job: &'a BroughtJob,
    pub signed: &'a Signed,
}

/// An answer, or its beginning.
#[derive(Debug)]
pub(super) struct Begun {
    pub content_type: Option<String>,
    pub metadata: Option<String>,
    pub balance: Option<String>,
    pub body: BegunBody,
}

/// Its body.
#[derive(Debug)]
pub(super) enum BegunBody {
    /// All of it.
    Whole(Bytes),
    /// A stream, and what was set aside for it.
    Events(Box<AiStream>, Box<Funded>),
}

impl Work for Tried<'_> {
    type Output = Begun;

    async fn dispatch(
        &self,
        gateway: &Gateway,
        funded: &Funded,
        _: &OwnTime,
    ) -> Result<Done<Begun>, TryError> {
        fence::may_send()?;
        let started = Instant::now();
        let begun = timing::span(Phase::Orchestrator, self.begin(gateway, funded)).await;
        let took = started.elapsed();
        let output = match begun {
            Ok(output) => output,
            Err(error) => {
                // The orchestrator charges the time that its worker took to fail. Settled here, because
                // the loop knows of failures that cost nothing or everything.
                gateway.settle(funded, seconds_charged(&error, took)).await;
                return Err(error);
            }
        };
        let used_units = match &output.body {
            BegunBody::Whole(_) => Some(seconds(took)),
            // Settled when it ends.
            BegunBody::Events(..) => None,
        };
        Ok(Done { output, used_units, latency_score: took.as_secs_f64() })
    }
}

impl Tried<'_> {
    async fn begin(&self, gateway: &Gateway, funded: &Funded) -> Result<Begun, TryError> {
        let (job, request) = (self.job, &self.job.request);
        let sent = ByocJob {
            path: job.path.clone(),
            job: self.signed.0.clone(),
            capability: request.capability.clone(),
            traceparent: trace::outgoing(),
            content_type: job.content_type.clone(),
            body: job.body.clone(),
        };
        let whole = Duration::from_secs(request.timeout_seconds.into()) + GRACE;
        let limits = StreamLimits { head: whole, idle: whole + GRACE, whole: whole + GRACE };
        let client = gateway.peers.of(funded.session.via);
        let mut answer = client.byoc_job(&funded.session.key.orchestrator, sent, limits).await?;
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let content_type = header("content-type");
        let metadata = header("x-metadata").filter(|text| !text.is_empty());
        let balance = header("livepeer-balance").or_else(|| header("livepeer-payment-balance"));
        let body = if answer.is_events() {
            BegunBody::Events(Box::new(answer), Box::new(funded.clone()))
        } else {
            BegunBody::Whole(whole_body(&mut answer).await?)
        };
        Ok(Begun { content_type, metadata, balance, body })
    }
}

async fn whole_body(answer: &mut AiStream) -> Result<Bytes, TryError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
            return Err(TryError::BadResult("an answer that is too large"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Whole seconds, begun ones counted.
fn seconds(took: Duration) -> u64 {
    took.as_secs() + u64::from(took.subsec_nanos() > 0)
}

/// Seconds that a failed try was charged: those that refuse before the worker is asked charge nothing.
fn seconds_charged(error: &TryError, took: Duration) -> u64 {
    let TryError::Call(call) = error else { return seconds(took) };
    match &call.kind {
        CallErrorKind::Connect(_) | CallErrorKind::Url(_) | CallErrorKind::Request(_) => 0,
        CallErrorKind::Status { status: 400, message, .. }
            if BYOC_REFUSALS.iter().any(|words| message.trim().starts_with(words)) =>
        {
            0
        }
        CallErrorKind::Status { status: 503, message, .. }
            if message.trim().starts_with(NO_CAPACITY) =>
        {
            0
        }
        _ => seconds(took),
    }
}

/// How an orchestrator says that it has no room (byoc.md section 5.1).
const NO_CAPACITY: &str = "No capacity available for capability";

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_clients::{CallError, Operation};

    #[test]
    fn begun_seconds_count() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_secs(2)), 2);
        assert_eq!(seconds(Duration::from_millis(2_001)), 3);
    }

    #[test]
    fn what_failures_cost() {
        let took = Duration::from_millis(2_500);
        let charged = |kind| {
            let call = CallError { operation: Operation::ByocJob, peer: String::new(), kind };
            seconds_charged(&call.into(), took)
        };
        let said = |status, message: &str| CallErrorKind::Status {
            status,
            message: message.to_owned(),
            code: None,
            retry_after_s: None,
        };
        assert_eq!(charged(said(400, "Insufficient balance for request\n")), 0);
        assert_eq!(charged(said(503, NO_CAPACITY)), 0);
        assert_eq!(charged(CallErrorKind::Connect(String::new())), 0);
        assert_eq!(charged(said(400, "no such style")), 3);
        assert_eq!(charged(said(500, "job not able to be processed")), 3);
        assert_eq!(charged(CallErrorKind::HeaderTimeout), 3);
        assert_eq!(seconds_charged(&TryError::BadResult("x"), took), 3);
    }
}
