//! One segment at one orchestrator: sign, send, fetch, verify. Who gets it, and what happens when
//! that fails, is `attempts`.

use super::{
    Gateway,
    attempts::{Done, Limits, Plan, Work},
    choose::Chosen,
    discovery::video_pool,
    doubling::Doubling,
    error::{JobError, TryError},
    own_time::OwnTime,
    pay::{Funded, empty_payment},
    seen,
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
    CallError, CallErrorKind, OrchestratorClient, PaidHeaders, Rendition, SegmentAnswer,
    SegmentBody, SegmentTimeouts,
};
use penstock_domain::{B256, Capabilities, StreamId, VideoProfile};
use penstock_wire::{Clip, SegmentSpec};
use std::time::Duration;
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

/// Downloads at once, and the time for one: the reference's 4 s, more for long segments.
const DOWNLOADS: usize = 4;
const DOWNLOAD_TIME: Duration = Duration::from_secs(4);
/// Largest rendition fetched.
const MAX_RENDITION_BYTES: u64 = 300_000_000;

impl Gateway {
    /// Has the segment transcoded.
    pub async fn transcode(&self, job: &SegmentJob) -> Result<Transcoded, JobError> {
        let plan = Plan {
            name: format!("{}/{}", job.stream, job.seq),
            capability: seen::VIDEO,
            model: None,
            pool: video_pool(),
            purpose: Purpose::new(
                &job.caller,
                &format!("stream:{}", job.stream),
                Account::TokenSession,
                job.capabilities.clone(),
            ),
            estimate_units: units::segment_units(&job.profiles, job.duration_ms),
            sticky: job.sticky.as_deref(),
            limits: Limits {
                attempts: self.settings.args.max_attempts,
                charged: self.settings.args.max_attempts,
                budget: self.segment_timeouts(job).whole.saturating_mul(2),
                wait_for_first: Duration::ZERO,
            },
        };
        let served = self.attempt(&plan, job).await?;
        Ok(Transcoded { orchestrator: served.orchestrator, renditions: served.output })
    }

    async fn submit(
        &self,
        job: &SegmentJob,
        funded: &Funded,
        clock: &OwnTime,
    ) -> Result<SegmentAnswer, TryError> {
        let session = &funded.session;
        let payer = self.identity.payer(&self.signer).await?;
        let credential = timing::span(Phase::Payment, self.credential(job, session)).await?;
        let mut headers = PaidHeaders {
            payment: empty_payment(payer.address, &session.offer),
            segment: credential,
            traceparent: None,
        };
        let timeouts = self.segment_timeouts(job);
        let body = SegmentBody::Data(job.data.clone().into());
        let uri = &session.key.orchestrator;
        let client = self.peers.of(session.via);
        let _runs = clock.run();
        let work = async {
            headers.traceparent = trace::outgoing();
            client.submit_segment(uri, &headers, body, timeouts).await
        };
        Ok(timing::span(Phase::Orchestrator, work).await?)
    }

    /// The segment's credential, signed by the signer within the payment session.
    async fn credential(&self, job: &SegmentJob, session: &Session) -> Result<String, TryError> {
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
        let unsigned = spec.to_message(Vec::new());
        self.sign_credential(&job.caller, session, &unsigned).await
    }

    /// The documented limits, but never less than the operator's: one that is silent is left soon, one
    /// that is at work is not left for a busy moment, which would cost a second transcode.
    fn segment_timeouts(&self, job: &SegmentJob) -> SegmentTimeouts {
        let duration = Duration::from_millis(job.duration_ms.into());
        let documented = SegmentTimeouts::of(duration, job.timeout_multiplier.saturating_mul(100));
        let least = Duration::from_millis;
        let args = &self.settings.args;
        let whole = documented.whole.max(least(args.segment_timeout_ms));
        let head = documented.head.max(least(args.segment_head_timeout_ms));
        SegmentTimeouts { head: head.min(whole), whole }
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
                let client = if at_home { self.peers.of(session.via) } else { &self.elsewhere };
                fetch_paid(client, url, most, limit)
            })
            .buffered(DOWNLOADS)
            .try_collect()
            .await
            .map_err(TryError::Call)
    }
}

/// A result is paid for: before it is given up and bought elsewhere, it is asked for once more.
async fn fetch_paid(
    client: &OrchestratorClient,
    url: String,
    most: u64,
    limit: Duration,
) -> Result<Bytes, CallError> {
    match client.download(&url, most, limit).await {
        Err(error) if may_be_there_yet(&error) => client.download(&url, most, limit).await,
        done => done,
    }
}

/// Whether a download failed for a reason that may have passed already.
fn may_be_there_yet(error: &CallError) -> bool {
    use CallErrorKind as K;
    match &error.kind {
        K::Connect(_) | K::Broken(_) => true,
        K::Status { status, .. } => *status >= 500,
        _ => false,
    }
}

impl Work for SegmentJob {
    type Output = Vec<Bytes>;

    async fn dispatch(
        &self,
        gateway: &Gateway,
        funded: &Funded,
        clock: &OwnTime,
    ) -> Result<Done<Vec<Bytes>>, TryError> {
        let answer = gateway.submit(self, funded, clock).await?;
        let most = units::most_segment_units(&self.profiles, self.duration_ms);
        let used = used_pixels(answer.renditions.iter().map(|r| r.pixels), most);
        // Settled before the result is looked at: it was charged whether or not it is any good.
        gateway.settle(funded, used.unwrap_or(most)).await;
        let used = used.map_err(TryError::BadResult)?;
        gateway.keep_offer(&funded.session, answer.offer.as_ref()).await;
        let fetching = gateway.fetch(&answer.renditions, &funded.session, self);
        let renditions = timing::span(Phase::Orchestrator, fetching).await?;
        let offer = &funded.session.offer;
        verify::result(self.profiles.len(), &renditions, &answer.sig, offer)
            .map_err(TryError::BadResult)?;
        seen::transcoded(answer.elapsed, self.duration_ms, used);
        let latency_score = answer.elapsed.as_secs_f64() / media_s(self.duration_ms);
        Ok(Done { output: renditions, used_units: Some(used), latency_score })
    }

    fn score_of(&self, took: Duration) -> Option<f64> {
        Some(took.as_secs_f64() / media_s(self.duration_ms))
    }

    fn tells_own_time(&self) -> bool {
        true
    }

    fn share<'a>(&self, gateway: &'a Gateway) -> &'a Doubling {
        &gateway.doubling.segments
    }

    fn company_after(&self, gateway: &Gateway, at: &Chosen) -> Option<Duration> {
        let least_ms = gateway.settings.args.segment_hedge_after_ms;
        let after = patience(least_ms, self.duration_ms, at.latency_score)?;
        Some(after.saturating_mul(self.timeout_multiplier.max(1)))
    }
}

/// What a score is of (selection.md section 7.2).
fn media_s(duration_ms: u32) -> f64 {
    f64::from(duration_ms.max(1_500)) / 1000.0
}

/// How long to wait before another one gets the segment as well: `least_ms`, but never less than it takes to play
/// the segment twice, nor than thrice what this one took last. So one that falls silent costs less than a
/// viewer's buffer holds, and where all are slow nobody is asked twice for that.
fn patience(least_ms: u64, duration_ms: u32, last_score: Option<f64>) -> Option<Duration> {
    if least_ms == 0 {
        return None;
    }
    let last_s = last_score.unwrap_or(0.0) * media_s(duration_ms);
    let thrice = Duration::try_from_secs_f64(3.0 * last_s).ok()?;
    let twice = 2 * Duration::from_millis(duration_ms.into());
    Some(Duration::from_millis(least_ms).max(twice).max(thrice))
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
    fn who_is_always_slow_is_waited_for() {
        let ms = Duration::from_millis;
        assert_eq!(patience(4_000, 2_000, None), Some(ms(4_000)));
        assert_eq!(patience(4_000, 2_000, Some(0.3)), Some(ms(4_000)), "as fast as most");
        assert_eq!(patience(4_000, 10_000, Some(0.3)), Some(ms(20_000)), "a long segment");
        assert_eq!(patience(4_000, 2_000, Some(2.5)), Some(ms(15_000)), "it took 5 s before");
        assert_eq!(
            patience(4_000, 100, Some(2.0)),
            Some(ms(9_000)),
            "a score is of 1.5 s at least"
        );
        assert_eq!(patience(0, 2_000, None), None, "never");
        for odd in [f64::NAN, f64::INFINITY, -1.0, f64::MAX] {
            assert_eq!(patience(4_000, 2_000, Some(odd)), None, "{odd}");
        }
    }

    #[test]
    fn a_rendition_is_bounded_by_its_source() {
        assert_eq!(rendition_limit(0), 16 << 20);
        assert_eq!(rendition_limit(5 << 20), 20 << 20);
        assert_eq!(rendition_limit(usize::MAX), MAX_RENDITION_BYTES);
    }
}
