//! A stream that is published continuously (RTMP), as a use case: who may publish, who does, and
//! which number the next segment has. One publisher at a time over all replicas: the session store
//! holds a claim that names it, lapses when it falls silent, and counts its segments, so that a
//! publisher who comes back at another replica goes on where he stopped.

use super::{
    Gateway,
    error::JobError,
    held::Held,
    push::{Push, PushError, STREAM_TTL_MS},
    stream_auth::{Applicant, Ingest, NotAdmitted},
};
use crate::{
    clock,
    error::GatewayError,
    front::{caller::Caller, limits::OverLimit, workload::Workload},
    media::{
        config_header::TranscodeConfig,
        path::{self, PushPath},
    },
    rtmp::segmenter::Cut,
    trace,
};
use bytes::Bytes;
use penstock_domain::{SegmentFormat, StreamId, keccak256};
use penstock_store::{Cas, DocKey, StoreError, UnixMs};
use penstock_telemetry::go;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use thiserror::Error;

/// A claim lapses so long after its publisher was last heard of: as long as a publisher whose
/// replica died waits at the next one.
const CLAIM_MS: u64 = 4_000;
/// How long a publisher waits for another's claim to lapse before he is turned away.
const PATIENCE_MS: u64 = 6_000;
const LOOK: Duration = Duration::from_millis(100);
/// Tries of a segment that nobody can make; between them 0.5, 1, 2 and 4 s. A publisher cannot repeat
/// what he sent.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long a store that is away is waited for: longer than a failover takes. It costs the memory that
/// the segment has anyway, and each try fails at once.
pub const STORE_PATIENCE: Duration = Duration::from_secs(30);
const STORE_PAUSE: Duration = Duration::from_millis(200);
/// How long a segment waits that comes too often, and between two looks, within which the claim is renewed.
const RATE_PATIENCE_MS: u64 = 10_000;
const LONGEST_RATE_PAUSE: Duration = Duration::from_secs(1);

/// A publication that is not to be.
#[derive(Debug, Error)]
pub enum Unpublished {
    /// Webhook, key, or name.
    #[error("{0}")]
    Refused(String),
    /// Somebody else publishes it.
    #[error("the stream is being published already")]
    Taken,
    /// Stores or webhook: worth another try.
    #[error("cannot be published now: {0}")]
    Later(String),
}

impl From<StoreError> for Unpublished {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<PushError> for Unpublished {
    fn from(error: PushError) -> Self {
        match error {
            PushError::NotAdmitted(NotAdmitted::Webhook(_))
            | PushError::Job(JobError::Store(_)) => Self::Later(error.to_string()),
            // The name may be the publisher's secret, and this goes to the log.
            PushError::NotAdmitted(NotAdmitted::Id(_)) => {
                Self::Refused("the stream's name cannot be used".to_owned())
            }
            other => Self::Refused(other.to_string()),
        }
    }
}

/// What the store says about a stream's publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    owner: String,
    /// Until then it is his; 0 when he gave it back.
    until: UnixMs,
    /// The number of the next segment.
    next_seq: u64,
}

/// A claim that is ours.
#[derive(Debug)]
pub struct Publication {
    /// The stream.
    pub ingest: Ingest,
    caller: Caller,
    url: String,
    claim: Claim,
    held: Held,
    discontinuity: bool,
    /// A segment of it was handed on.
    has_begun: bool,
}

impl Publication {
    /// The stream's name, for logs.
    pub fn stream(&self) -> &StreamId {
        &self.ingest.stream
    }

    /// Goes on by the rules that its caller has now; they may be others than when it began.
    pub fn goes_on_as(&mut self, caller: Caller) -> Result<(), Unpublished> {
        caller.may_transcode().map_err(PushError::from)?;
        if caller.auth_id != self.caller.auth_id {
            return Err(Unpublished::Refused("the key is another caller's by now".to_owned()));
        }
        self.caller = caller;
        Ok(())
    }
}

impl Gateway {
    /// Begins a publication to `rtmp://…/{path}`; `url` is the whole address with its query.
    pub async fn publish(
        &self,
        path: &str,
        url: String,
        caller: Caller,
    ) -> Result<Publication, Unpublished> {
        caller.may_transcode().map_err(PushError::from)?;
        let (name, key) = path::split(path);
        let random;
        let name = match name {
            "" => {
                random = hex::encode(rand::random::<[u8; 4]>());
                &random
            }
            name => name,
        };
        let who = Applicant {
            external: name,
            url: &url,
            caller: &caller,
            wishes: &TranscodeConfig::default(),
        };
        let mut ingest = self.decide(who).await?;
        // What the publisher calls it may be his secret; recordings go by the public name.
        ingest.external = ingest.stream.to_string();
        // With a webhook its word counts; else the first publisher's key keeps others away.
        ingest.key = match (&self.webhook, key) {
            (Some(_), _) | (None, "") => None,
            (None, key) => Some(hex::encode(keccak256(key.as_bytes()))),
        };
        // His from now on: nobody else's push comes before his first segment.
        let seen = self.store.stream(&ingest.stream, clock::now()).await?;
        self.join(&ingest, seen, SegmentFormat::MpegTs, |_| ()).await?;
        let (claim, held, discontinuity) = self.claim(&ingest.stream).await?;
        tracing::info!(stream = %ingest.stream, next_seq = claim.next_seq, "a publication began");
        metrics::counter!("livepeer_stream_created_total", go::labels([])).increment(1);
        Ok(Publication { ingest, caller, url, claim, held, discontinuity, has_begun: false })
    }

    async fn claim(&self, stream: &StreamId) -> Result<(Claim, Held, bool), Unpublished> {
        let owner = self.owner().0;
        let place = claim_key(stream);
        let began = clock::now();
        loop {
            let now = clock::now();
            let found = self.store.doc(&place, now).await?;
            let (version, old) = match found {
                Some(found) => {
                    (Some(found.version), serde_json::from_slice::<Claim>(&found.value).ok())
                }
                None => (None, None),
            };
            if old.as_ref().is_some_and(|old| old.until > now) {
                if now.since_ms(began) >= PATIENCE_MS {
                    return Err(Unpublished::Taken);
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let window = self.store.window(stream, now).await?.unwrap_or_default();
            let shown = window.entries.last().into_iter().chain(window.waiting.last());
            let after = shown.map(|entry| entry.seq.saturating_add(1)).max();
            let next_seq = next_number(old.as_ref(), after);
            let discontinuity = old.is_some() || after.is_some();
            let until = now.plus_ms(CLAIM_MS);
            let claim = Claim { owner: owner.clone(), until, next_seq };
            let put = self.store.put_doc(&place, version, coded(&claim), STREAM_TTL_MS, now);
            if let Cas::Stored(version) = put.await? {
                return Ok((claim, Held { key: place, version }, discontinuity));
            }
        }
    }

    /// The publisher is still there. Fails with `Taken` when the claim is somebody else's by now.
    pub async fn keep_publication(&self, one: &mut Publication) -> Result<(), Unpublished> {
        let now = clock::now();
        self.write_claim(one, now.plus_ms(CLAIM_MS)).await
    }

    /// The publisher is gone; the next one need not wait.
    pub async fn end_publication(&self, mut one: Publication) {
        metrics::counter!("livepeer_stream_ended_total", go::labels([])).increment(1);
        if let Err(error) = self.write_claim(&mut one, UnixMs(0)).await {
            tracing::info!(stream = %one.stream(), %error, "a publication's claim lapses by itself");
        }
    }

    async fn write_claim(&self, one: &mut Publication, until: UnixMs) -> Result<(), Unpublished> {
        one.claim.until = until;
        let ours = |value: &Bytes| {
            serde_json::from_slice::<Claim>(value).is_ok_and(|c| c.owner == one.claim.owner)
        };
        let value = coded(&one.claim);
        match one.held.write(self.store.as_ref(), &value, STREAM_TTL_MS, ours).await? {
            true => Ok(()),
            false => Err(Unpublished::Taken),
        }
    }

    /// Counts a segment among its publisher's requests, as if it had been pushed. One that comes too often
    /// waits, here and the publisher with it; a day that is used up ends the publication.
    pub async fn count_segment(&self, one: &mut Publication) -> Result<(), Unpublished> {
        let began = clock::now();
        let waited = |for_ms: u64| clock::now().since_ms(began) < for_ms;
        loop {
            let pause = match self.take_request(&one.caller).await {
                Ok(_) => return Ok(()),
                Err(GatewayError::OverLimit(OverLimit::Rate { retry_after_ms, .. }))
                    if waited(RATE_PATIENCE_MS) =>
                {
                    Duration::from_millis(retry_after_ms).min(LONGEST_RATE_PAUSE)
                }
                Err(GatewayError::OverLimit(over)) => {
                    return Err(Unpublished::Refused(over.to_string()));
                }
                Err(error) => return Err(Unpublished::Later(error.to_string())),
            };
            tokio::time::sleep(pause).await;
            self.keep_publication(one).await?;
        }
    }

    /// Gives a segment its number and has it transcoded and shown; the work goes on by itself, and
    /// has `held` until it is done. The number is stored first: nobody else uses it.
    pub async fn publish_segment(
        self: &Arc<Self>,
        one: &mut Publication,
        cut: Cut,
        held: Arc<dyn Send + Sync>,
    ) -> Result<impl Future<Output = ()> + use<>, Unpublished> {
        let seq = one.claim.next_seq;
        one.claim.next_seq += 1;
        if let Err(error) = self.keep_publication(one).await {
            one.claim.next_seq = seq;
            return Err(error);
        }
        if !std::mem::replace(&mut one.has_begun, true) {
            metrics::counter!("livepeer_stream_started_total", go::labels([])).increment(1);
        }
        let discontinuity = cut.discontinuity || std::mem::take(&mut one.discontinuity);
        let stream = one.stream().clone();
        let (gateway, ingest) = (Arc::clone(self), one.ingest.clone());
        let (caller, url, data) = (one.caller.clone(), one.url.clone(), cut.data);
        let duration_ms = cut.duration_ms;
        let make = move || Push {
            caller: caller.clone(),
            path: PushPath { stream: stream.clone(), seq, format: SegmentFormat::MpegTs },
            data: data.clone(),
            duration_ms,
            resolution: (0, 0),
            clip: None,
            config: TranscodeConfig::default(),
            url: url.clone(),
            ingest: Some(ingest.clone()),
            discontinuity,
        };
        let work = async move {
            gateway.push_published(make).await;
            drop(held);
        };
        let work = self.jobs.spawn(trace::of_its_own("segment", work));
        Ok(async move {
            if work.await.is_err() {
                tracing::warn!("a published segment's work broke off");
            }
        })
    }

    async fn push_published(&self, make: impl Fn() -> Push) {
        let mut tries = Tries::default();
        loop {
            let push = make();
            let (stream, seq) = (push.path.stream.clone(), push.path.seq);
            let (why, error) = match self.workloads.enter(Workload::Video, &push.caller).await {
                Err(busy) => (Failed::Work, busy.to_string()),
                Ok(_place) => match self.push(push).await {
                    Ok(_) => return,
                    Err(error) => match why_repeat(&error) {
                        Some(why) => (why, error.to_string()),
                        None => {
                            tracing::warn!(%stream, seq, %error, "a published segment is lost");
                            break;
                        }
                    },
                },
            };
            let first = tries == Tries::default();
            let Some(pause) = tries.next(why, tokio::time::Instant::now()) else {
                tracing::warn!(%stream, seq, error, "a published segment is lost");
                break;
            };
            if first || why == Failed::Work {
                tracing::warn!(%stream, seq, error, "a published segment has to wait");
            }
            tokio::time::sleep(pause).await;
        }
        metrics::counter!("penstock_gateway_rtmp_segments_lost_total").increment(1);
    }
}

/// Why a try failed that is worth another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// The store is away: nothing was tried.
    Store,
    /// Nobody could do it.
    Work,
}

/// The tries of one segment so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tries {
    failed: u32,
    /// Since when the store is away.
    away: Option<tokio::time::Instant>,
}

impl Tries {
    /// The pause before the next one, if there is to be one.
    fn next(&mut self, why: Failed, now: tokio::time::Instant) -> Option<Duration> {
        match why {
            Failed::Store => {
                let away = now.duration_since(*self.away.get_or_insert(now));
                (away < STORE_PATIENCE).then_some(STORE_PAUSE)
            }
            Failed::Work => {
                self.away = None;
                self.failed += 1;
                (self.failed < TRIES).then(|| FIRST_PAUSE * 2_u32.pow(self.failed - 1))
            }
        }
    }
}

/// Why the same segment may succeed a little later.
fn why_repeat(error: &PushError) -> Option<Failed> {
    match error {
        PushError::Job(JobError::Rejected(_) | JobError::Forbidden(_)) => None,
        PushError::Job(JobError::Store(error)) => error.is_retryable().then_some(Failed::Store),
        PushError::Job(_) => Some(Failed::Work),
        _ => None,
    }
}

/// A publisher that stopped says which number is next: his last segments may still be in work. One
/// that vanished took with him what was not shown yet, so his numbers are used again.
fn next_number(old: Option<&Claim>, after_shown: Option<u64>) -> u64 {
    match (old, after_shown) {
        (Some(old), _) if old.until == UnixMs(0) => old.next_seq,
        (Some(old), Some(after)) => after.min(old.next_seq),
        (Some(old), None) => old.next_seq,
        (None, after) => after.unwrap_or(0),
    }
}

fn coded(claim: &Claim) -> Bytes {
    // Plain fields: it cannot fail.
    Bytes::from(serde_json::to_vec(claim).unwrap_or_default())
}

fn claim_key(stream: &StreamId) -> DocKey {
    DocKey::new("rtmp", stream.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_waits_for_the_store_by_time_and_for_people_by_number() {
        let (mut tries, began) = (Tries::default(), tokio::time::Instant::now());
        let at = |s| began + Duration::from_secs(s);
        // However often it fails at once.
        for n in 0..200 {
            assert_eq!(tries.next(Failed::Store, began + STORE_PAUSE * n / 2), Some(STORE_PAUSE));
        }
        assert_eq!(tries.next(Failed::Store, at(29)), Some(STORE_PAUSE));
        assert_eq!(tries.next(Failed::Store, at(30)), None);
        let mut tries = Tries::default();
        let pauses: Vec<_> = (0..5).map(|n| tries.next(Failed::Work, at(n))).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [ms(500), ms(1_000), ms(2_000), ms(4_000), None]);
        // A store that was there between is away anew.
        let mut tries = Tries::default();
        assert!(tries.next(Failed::Store, at(0)).is_some());
        assert!(tries.next(Failed::Work, at(29)).is_some());
        assert!(tries.next(Failed::Store, at(31)).is_some());
    }

    #[test]
    fn what_is_worth_another_try() {
        let why = |error: JobError| why_repeat(&PushError::Job(error));
        let away = StoreError::Unavailable("away".into());
        assert_eq!(why(JobError::Store(away)), Some(Failed::Store));
        assert_eq!(why(JobError::Store(StoreError::Corrupt("x"))), None);
        assert_eq!(why(JobError::NoOrchestrators("none".into())), Some(Failed::Work));
        assert_eq!(why(JobError::Rejected("bad".into())), None);
        assert_eq!(why(JobError::Forbidden("no video".into())), None);
        assert_eq!(why_repeat(&PushError::NoMedia), None);
    }

    #[test]
    fn numbers_go_on() {
        let claim = |until, next_seq| Claim { owner: "a".into(), until: UnixMs(until), next_seq };
        assert_eq!(next_number(None, None), 0);
        assert_eq!(next_number(None, Some(7)), 7, "pushed by HTTP before");
        assert_eq!(next_number(Some(&claim(0, 9)), Some(7)), 9, "7 and 8 are in work");
        assert_eq!(next_number(Some(&claim(5, 9)), Some(7)), 7, "7 and 8 died");
        assert_eq!(next_number(Some(&claim(5, 9)), None), 9);
    }
}
