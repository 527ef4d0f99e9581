//! One segment through the network: choose, pay, send, fetch, verify; on failure the next
//! orchestrator, within the segment's attempts and time.

use super::{
    Gateway,
    choose::Tried,
    discovery::video_pool,
    error::{JobError, TryError},
    pay::{Funded, empty_payment, read_state},
    session::{Account, Purpose, Session},
    units, verify,
};
use crate::{
    front::{
        caller::Caller,
        timing::{self, Phase},
    },
    trace,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use penstock_clients::{
    Next, PaidHeaders, PaymentContext, Rendition, SegmentAnswer, SegmentBody, SegmentTimeouts,
};
use penstock_domain::{B256, Capabilities, StreamId, VideoProfile};
use penstock_selection::Fault;
use penstock_wire::{Clip, SegmentSpec, WireError};
use std::time::{Duration, Instant};
use url::Url;

/// A segment to be transcoded.
#[derive(Debug, Clone)]
pub struct SegmentJob {
    /// On whose behalf.
    pub caller: Caller,
    /// Its stream.
    pub stream: StreamId,
    /// Its number.
    pub seq: u64,
    /// The file.
    pub data: Bytes,
    /// Keccak-256 of it.
    pub hash: B256,
    /// Milliseconds.
    pub duration_ms: u32,
    /// Renditions wanted, at least one.
    pub profiles: Vec<VideoProfile>,
    /// What that asks for.
    pub capabilities: Capabilities,
    /// Only this part.
    pub clip: Option<Clip>,
    /// The decoder has to begin anew.
    pub force_session_reinit: bool,
    /// Stretches time limits.
    pub timeout_multiplier: u32,
    /// The orchestrator that served the stream last.
    pub sticky: Option<String>,
}

/// A transcoded segment, verified.
#[derive(Debug, Clone)]
pub struct Transcoded {
    /// Who did it.
    pub orchestrator: String,
    /// In profile order.
    pub renditions: Vec<Bytes>,
}

/// How many times the same orchestrator gets a job again after it asked for a refresh or a payment.
const SAME_AGAIN: u32 = 3;
/// Downloads at once, and the time for one: the reference's 4 s, more for long segments.
const DOWNLOADS: usize = 4;
const DOWNLOAD_TIME: Duration = Duration::from_secs(4);
/// Largest rendition fetched.
const MAX_RENDITION_BYTES: u64 = 300_000_000;

impl Gateway {
    /// Has the segment transcoded.
    pub async fn transcode(&self, job: &SegmentJob) -> Result<Transcoded, JobError> {
        let key = video_pool();
        let scope = format!("stream:{}", job.stream);
        let purpose =
            Purpose::new(&job.caller, &scope, Account::TokenSession, job.capabilities.clone());
        let budget = self.segment_timeouts(job).whole.saturating_mul(2);
        let started = Instant::now();
        let mut tried = Tried::default();
        let mut last = None;
        for attempt in 0..self.settings.args.max_attempts.max(1) {
            if attempt > 0 && started.elapsed() > budget {
                break;
            }
            let sticky = job.sticky.as_deref().filter(|_| attempt == 0);
            let choosing = self.choose(&job.caller, &key, &job.capabilities, sticky, &tried);
            let entry = match timing::span(Phase::Selection, choosing).await? {
                Ok(entry) => entry,
                Err(why) => {
                    return Err(match last {
                        Some(last) => JobError::Exhausted(last),
                        None => JobError::NoOrchestrators(why),
                    });
                }
            };
            let uri = entry.transcoder;
            match self.transcode_at(job, &purpose, &uri).await {
                Ok((renditions, answer)) => {
                    let media_s = f64::from(job.duration_ms.max(1_500)) / 1000.0;
                    let score = answer.elapsed.as_secs_f64() / media_s;
                    self.record_success(&key, &uri, score).await;
                    metrics::histogram!("penstock_gateway_segment_seconds")
                        .record(answer.elapsed.as_secs_f64());
                    return Ok(Transcoded { orchestrator: uri, renditions });
                }
                Err(error) => {
                    tracing::warn!(stream = %job.stream, seq = job.seq, orchestrator = uri, attempt,
                        %error, "a segment attempt failed");
                    let text = error.to_string();
                    match after(&error) {
                        After::Stop(error) => return Err(error),
                        After::Elsewhere(None) => {}
                        After::Elsewhere(Some(fault)) => {
                            self.suspend(&key, &uri, fault, &text).await
                        }
                    }
                    metrics::counter!("penstock_gateway_segment_failovers_total").increment(1);
                    tried.0.insert(uri);
                    last = Some(text);
                }
            }
        }
        Err(JobError::Exhausted(last.unwrap_or_else(|| "out of time".to_owned())))
    }

    /// At one orchestrator, again there when only a refresh or a payment was missing.
    async fn transcode_at(
        &self,
        job: &SegmentJob,
        purpose: &Purpose,
        uri: &str,
    ) -> Result<(Vec<Bytes>, SegmentAnswer), TryError> {
        let estimate = units::segment_units(&job.profiles, job.duration_ms);
        let mut session = timing::span(Phase::Payment, self.open_session(purpose, uri)).await?;
        let mut again = 0;
        loop {
            let funded =
                timing::span(Phase::Payment, self.fund(purpose, session, estimate)).await?;
            let error = match self.submit(job, &funded).await {
                Ok(answer) => {
                    let most = units::most_segment_units(&job.profiles, job.duration_ms);
                    let used = used_pixels(answer.renditions.iter().map(|r| r.pixels), most);
                    self.settle(&funded, used.unwrap_or(most)).await;
                    used.map_err(TryError::BadResult)?;
                    self.keep_offer(&funded.session, answer.offer.as_ref()).await;
                    let fetching = self.fetch(&answer.renditions, &funded.session, job);
                    let renditions = timing::span(Phase::Orchestrator, fetching).await?;
                    verify::result(
                        job.profiles.len(),
                        &renditions,
                        &answer.sig,
                        &funded.session.offer,
                    )
                    .map_err(TryError::BadResult)?;
                    return Ok((renditions, answer));
                }
                Err(error) => error,
            };
            self.settle(&funded, spent_on_failure(&error, estimate)).await;
            let next = match &error {
                TryError::Call(call) => call.next(),
                _ => Next::Elsewhere,
            };
            again += 1;
            match next {
                Next::Refresh if again < SAME_AGAIN => {
                    session = self.refresh_session(purpose, &funded.session).await?;
                }
                Next::BuyMore if again < SAME_AGAIN => {
                    self.forfeit(&funded).await?;
                    session = self.open_session(purpose, uri).await?;
                }
                _ => return Err(error),
            }
        }
    }

    async fn submit(&self, job: &SegmentJob, funded: &Funded) -> Result<SegmentAnswer, TryError> {
        let session = &funded.session;
        let payer = self.identity.payer(&self.signer).await?;
        let credential = timing::span(Phase::Payment, self.credential(job, session)).await?;
        let headers = PaidHeaders {
            payment: empty_payment(payer.address, &session.offer),
            segment: credential,
            traceparent: trace::current(),
        };
        let timeouts = self.segment_timeouts(job);
        let body = SegmentBody::Data(job.data.clone().into());
        let uri = &session.key.orchestrator;
        let work = self.orchestrators.submit_segment(uri, &headers, body, timeouts);
        Ok(timing::span(Phase::Orchestrator, work).await?)
    }

    /// The segment's credential, signed by the signer within the payment session.
    async fn credential(&self, job: &SegmentJob, session: &Session) -> Result<String, TryError> {
        let state = session.record.payment_state.as_deref().ok_or(WireError::Missing("state"))?;
        let spec = SegmentSpec {
            manifest_id: session.record.manifest_id.clone(),
            seq: i64::try_from(job.seq).unwrap_or(i64::MAX),
            hash: job.hash,
            duration_ms: job.duration_ms,
            profiles: job.profiles.clone(),
            capabilities: Some(job.capabilities.clone()),
            auth_token: Some(session.token()?.clone()),
            storage: None,
            calc_perceptual_hash: false,
            clip: job.clip,
            force_session_reinit: job.force_session_reinit,
        };
        let trace = trace::current();
        let context = PaymentContext {
            auth_id: Some(&job.caller.auth_id),
            traceparent: trace.as_deref(),
            ..PaymentContext::default()
        };
        let unsigned = spec.to_message(Vec::new());
        Ok(self.signer.sign_segment_credentials(&read_state(state)?, &unsigned, context).await?)
    }

    /// The documented limits, but never less than `--segment-timeout-ms`: a machine that is busy
    /// for a moment must not cost a second transcode elsewhere.
    fn segment_timeouts(&self, job: &SegmentJob) -> SegmentTimeouts {
        let duration = Duration::from_millis(job.duration_ms.into());
        let documented = SegmentTimeouts::of(duration, job.timeout_multiplier.saturating_mul(100));
        let least = Duration::from_millis(self.settings.args.segment_timeout_ms);
        let whole = documented.whole.max(least);
        SegmentTimeouts { head: documented.head.max(whole / 2), whole }
    }

    /// Fetches all renditions, in order.
    async fn fetch(
        &self,
        renditions: &[Rendition],
        session: &Session,
        job: &SegmentJob,
    ) -> Result<Vec<Bytes>, TryError> {
        if renditions.len() != job.profiles.len() {
            return Err(TryError::BadResult("MismatchedSegments"));
        }
        let own = Url::parse(&session.key.orchestrator).ok().map(|u| u.origin());
        let limit = DOWNLOAD_TIME.max(Duration::from_millis(job.duration_ms.into()));
        let most = rendition_limit(job.data.len());
        let urls: Vec<String> = renditions.iter().map(|r| r.url.clone()).collect();
        stream::iter(urls)
            .map(|url| {
                let at_home = Url::parse(&url).is_ok_and(|u| Some(u.origin()) == own);
                let client = if at_home { &self.orchestrators } else { &self.elsewhere };
                async move { client.download(&url, most, limit).await }
            })
            .buffered(DOWNLOADS)
            .try_collect()
            .await
            .map_err(TryError::Call)
    }
}

/// The sum that an orchestrator reports. It decides what is bought next, so a sum beyond `most` is
/// not believed.
fn used_pixels(reported: impl Iterator<Item = u64>, most: u64) -> Result<u64, &'static str> {
    let sum = reported.fold(0, u64::saturating_add);
    if sum > most { Err("PixelMismatch") } else { Ok(sum) }
}

/// Most bytes of one rendition: a peer must not make much of little. A short segment of a still
/// picture may grow, so there is a floor.
fn rendition_limit(source_bytes: usize) -> u64 {
    (source_bytes as u64).saturating_mul(4).clamp(16 << 20, MAX_RENDITION_BYTES)
}

/// Units that a failed call may have been charged for. Errors before the 200, and jobs that failed,
/// cost nothing; of a call that broke off nothing is known, so its estimate is taken for spent. So it
/// is for an answer that is no result: it was charged all the same.
pub(super) fn spent_on_failure(error: &TryError, estimate_units: u64) -> u64 {
    use penstock_clients::CallErrorKind as K;
    match error {
        TryError::Call(call) if call.operation.carries_payment() => match &call.kind {
            K::HeaderTimeout | K::BodyTimeout | K::Broken(_) => estimate_units,
            K::Answer(_) | K::AnswerTooLong { .. } | K::NoResult => estimate_units,
            _ => 0,
        },
        TryError::BadResult(_) => estimate_units,
        _ => 0,
    }
}

/// What a failed try means for the job.
#[derive(Debug)]
pub(super) enum After {
    /// Nobody else could do better.
    Stop(JobError),
    /// Try another, and suspend this one if it is at fault.
    Elsewhere(Option<Fault>),
}

pub(super) fn after(error: &TryError) -> After {
    use penstock_clients::Fault as Whose;
    let call = match error {
        TryError::Call(call) => call,
        TryError::Store(error) => return After::Stop(JobError::Store(error.clone())),
        TryError::BadResult(_) => return After::Elsewhere(Some(Fault::BadResult)),
        TryError::TooDear { .. } | TryError::PriceAboveLimit => {
            return After::Elsewhere(Some(Fault::Price));
        }
        TryError::LeaseBusy => return After::Elsewhere(None),
        TryError::Offer(_) => return After::Elsewhere(Some(Fault::Failed)),
    };
    match call.next() {
        Next::Reject => After::Stop(JobError::Rejected(call.message())),
        Next::PriceTooHigh => After::Elsewhere(Some(Fault::Price)),
        Next::Busy => After::Elsewhere(Some(Fault::Busy)),
        // The signer's own trouble is the same for every orchestrator, except what it says about
        // one orchestrator's offer (400s), which another one's may not have.
        Next::RetrySame if call.operation.is_signer() => {
            After::Stop(JobError::Signer(call.message()))
        }
        Next::GiveUp if matches!(call.status(), Some(401 | 403 | 404) | None) => {
            After::Stop(JobError::Signer(call.message()))
        }
        _ if call.fault() == Whose::Network => After::Elsewhere(Some(Fault::Unreachable)),
        _ => After::Elsewhere(Some(Fault::Failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_pixels_are_believed_within_reason() {
        assert_eq!(used_pixels([3, 4].into_iter(), 7), Ok(7));
        assert_eq!(used_pixels([3, 5].into_iter(), 7), Err("PixelMismatch"));
        assert_eq!(used_pixels([u64::MAX, 2].into_iter(), 7), Err("PixelMismatch"));
    }

    #[test]
    fn an_answer_that_is_no_result_was_charged() {
        assert_eq!(spent_on_failure(&TryError::BadResult("x"), 5), 5);
        assert_eq!(spent_on_failure(&TryError::LeaseBusy, 5), 0);
    }

    #[test]
    fn a_rendition_is_bounded_by_its_source() {
        assert_eq!(rendition_limit(0), 16 << 20);
        assert_eq!(rendition_limit(5 << 20), 20 << 20);
        assert_eq!(rendition_limit(usize::MAX), MAX_RENDITION_BYTES);
    }
}
