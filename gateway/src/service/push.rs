//! One pushed segment, from bytes to answer: stream record, replay, probe, transcode, publish.

use super::{
    Gateway,
    claimed::Claimed,
    error::JobError,
    patience::patiently,
    recording::{Recorded, Uploaded},
    stream_auth::{Applicant, Ingest, NotAdmitted, Seen},
    transcode::{SegmentJob, Transcoded},
};
use crate::{
    clock,
    front::caller::{Caller, NotAllowed},
    media::{
        config_header::{TranscodeConfig, in_container},
        mixed::Part,
        path::PushPath,
        probe::{Probe, is_container, probe},
        recording::{Run, Track},
    },
};
use bytes::Bytes;
use penstock_domain::{
    Capabilities, PixelFormat, SegmentFormat, StreamId, VideoCodec, VideoJob, keccak256,
};
use penstock_store::{
    Begin, CLAIM_MS, Cas, HlsEntry, HlsInsert, HlsTrack, OwnerId, ResultKey, ResultRecord,
    SegmentKey, StoreError, StoredRendition, StoredSegment, StreamOwner, StreamRecord, UnixMs,
    Versioned,
};
use penstock_telemetry::go;
use penstock_wire::Clip;
use std::{convert::Infallible, sync::Arc, time::Duration};
use thiserror::Error;

/// How long a stream is remembered after its last push: its record, window, media and answers.
pub const STREAM_TTL_MS: u64 = 300_000;
/// So often a claim on a segment is renewed by its holder, and again when the store did not hear of it;
/// and so often others look at it.
const CLAIM_RENEW: Duration = Duration::from_secs(1);
const CLAIM_AGAIN: Duration = Duration::from_millis(100);
/// Each so many renewals the stream is noted to be in use.
const NOTE_EACH: u32 = 4;
const CLAIM_LOOK: Duration = Duration::from_millis(25);
/// Tries at a contended stream record. Each loses only to another that won.
const CAS_TRIES: u32 = 64;
/// Longest segment (ingest-playback.md section 3.2).
pub const MAX_DURATION_MS: u32 = 300_000;

/// A push, checked as far as its headers go.
#[derive(Debug)]
pub struct Push {
    /// On whose behalf.
    pub caller: Caller,
    /// Where to.
    pub path: PushPath,
    /// The whole segment.
    pub data: Bytes,
    /// `Content-Duration`.
    pub duration_ms: u32,
    /// `Content-Resolution`, 0×0 if unsaid.
    pub resolution: (u32, u32),
    /// `Content-Slice-From`, `Content-Slice-To`.
    pub clip: Option<Clip>,
    /// `Livepeer-Transcode-Configuration`.
    pub config: TranscodeConfig,
    /// The URL as its pusher sees it, for the stream webhook.
    pub url: String,
    /// The stream, if it was admitted already.
    pub ingest: Option<Ingest>,
    /// Its times do not go on from the segment before.
    pub discontinuity: bool,
}

/// Why a push has no result.
#[derive(Debug, Error)]
pub enum PushError {
    /// Not a container of the kind that the file name says.
    #[error("Error getting codec info")]
    NoMedia,
    /// A video codec that nobody transcodes.
    #[error("Unknown input stream codec")]
    UnknownCodec,
    /// An H.264 pixel format that no capability stands for.
    #[error("Unsupported input pixel format")]
    PixelFormat,
    /// The caller's account does not have video.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// The stream may not begin.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// The renditions, each with its bytes, could not be made.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl From<StoreError> for PushError {
    fn from(error: StoreError) -> Self {
        Self::Job(error.into())
    }
}

impl Gateway {
    /// Handles a push; the renditions, in profile order.
    pub async fn push(&self, push: Push) -> Result<Vec<Part>, PushError> {
        push.caller.may_transcode()?;
        if !is_container(&push.data, push.path.format) {
            return Err(PushError::NoMedia);
        }
        let probed = probe(&push.data, push.path.format);
        if probed.unknown_video {
            return Err(PushError::UnknownCodec);
        }
        if probed.odd_pixel_format && !probed.zero_frames {
            return Err(PushError::PixelFormat);
        }
        let (ingest, seen) = match &push.ingest {
            Some(ingest) => {
                (ingest.clone(), self.store.stream(&ingest.stream, clock::now()).await?)
            }
            None => {
                let who = Applicant {
                    external: push.path.stream.as_str(),
                    url: &push.url,
                    caller: &push.caller,
                    wishes: &push.config,
                };
                self.admitted(who).await?
            }
        };
        let stream = self.stream_for(&push, ingest, seen, &probed).await?;
        let key = ResultKey {
            stream: stream.ingest.stream.clone(),
            seq: push.path.seq,
            hash: keccak256(&push.data),
        };
        let owner = self.owner();
        let claim = self.claim_on(&key, &owner);
        loop {
            match self.store.begin_result(&key, &owner, CLAIM_MS, clock::now()).await? {
                Begin::Done(record) => {
                    claim.is_over();
                    if let Some(parts) = self.stored_parts(&record).await? {
                        metrics::counter!("penstock_gateway_segments_replayed_total").increment(1);
                        return Ok(parts);
                    }
                    // The bytes are gone before their record: made again, stored under their old
                    // names. Two requests may do so at once; the record stays the same.
                    return Ok(self.make(&push, &stream, &probed, &key).await?);
                }
                Begin::InProgress { .. } => tokio::time::sleep(CLAIM_LOOK).await,
                Begin::Ours => {
                    let made = tokio::select! {
                        made = self.make(&push, &stream, &probed, &key) => made,
                        never = self.keep_claim(&key, &owner) => match never {},
                    };
                    match &made {
                        Ok(_) => claim.is_over(),
                        Err(_) => claim.give_back().await,
                    }
                    return Ok(made?);
                }
            }
        }
    }

    /// The claim on a segment, which is about to be made.
    fn claim_on(&self, key: &ResultKey, owner: &OwnerId) -> Claimed {
        let (store, key, owner) = (Arc::clone(&self.store), key.clone(), owner.clone());
        let undo = move || {
            let (store, key, owner) = (Arc::clone(&store), key.clone(), owner.clone());
            async move { store.abandon_result(&key, &owner, clock::now()).await }
        };
        Claimed::new("a segment", Duration::from_millis(CLAIM_MS), &self.give_backs, undo)
    }

    /// Renews the claim until dropped, and keeps the stream from being taken for silent meanwhile. A
    /// store that is away for longer than the claim lasts stops nothing: what is paid for is finished,
    /// and whoever began it anew gets the answer that was stored first.
    async fn keep_claim(&self, key: &ResultKey, owner: &OwnerId) -> Infallible {
        let (mut pause, mut renewals) = (CLAIM_RENEW, 0_u32);
        loop {
            tokio::time::sleep(pause).await;
            match self.store.begin_result(key, owner, CLAIM_MS, clock::now()).await {
                Ok(_) => {
                    renewals = renewals.wrapping_add(1);
                    pause = CLAIM_RENEW;
                }
                Err(error) => {
                    if pause == CLAIM_RENEW {
                        tracing::warn!(%error, stream = %key.stream, "a claim was not renewed");
                    }
                    pause = CLAIM_AGAIN;
                    continue;
                }
            }
            if renewals.is_multiple_of(NOTE_EACH)
                && let Err(error) = self.change_record(&key.stream, |_| {}).await
            {
                tracing::warn!(%error, "a stream at work was not noted as such");
            }
        }
    }

    /// Does the work, publishes it, stores the answer.
    async fn make(
        &self,
        push: &Push,
        stream: &StreamUse,
        probed: &Probe,
        key: &ResultKey,
    ) -> Result<Vec<Part>, JobError> {
        let profiles = &stream.record.profiles;
        metrics::counter!("livepeer_segment_source_emerged_total", go::labels([])).increment(1);
        metrics::histogram!("livepeer_source_segment_duration_seconds", go::labels([]))
            .record(f64::from(push.duration_ms) / 1_000.0);
        let source = self.save(key, "source", push.path.format, push.data.clone()).await?;
        let (orchestrator, files) = if profiles.is_empty() {
            (None, Vec::new())
        } else if probed.zero_frames {
            // Declared video without a frame: nothing to transcode, the timeline goes on
            // (ingest-playback.md section 4).
            (None, vec![push.data.clone(); profiles.len()])
        } else {
            let job = segment_job(push, stream, probed, key);
            let Transcoded { orchestrator, renditions } = self.transcode(&job).await?;
            (Some(orchestrator), renditions)
        };
        let mut tracks = vec![source_track(push, probed)];
        let mut hls_files = vec![("source".to_owned(), source)];
        let mut record = ResultRecord { renditions: Vec::new() };
        let mut parts = Vec::new();
        for (profile, data) in profiles.iter().zip(files) {
            let format = if probed.zero_frames { push.path.format } else { profile.format };
            let at = self.save(key, &profile.name, format, data.clone()).await?;
            let found = probe(&data, format);
            tracks.push(HlsTrack {
                name: profile.name.clone(),
                width: profile.width,
                height: profile.height,
                bandwidth: bits_per_second(data.len(), push.duration_ms),
                codecs: found.codecs(),
            });
            hls_files.push((profile.name.clone(), at.clone()));
            record.renditions.push(StoredRendition { name: profile.name.clone(), format, key: at });
            parts.push(Part { name: profile.name.clone(), format, data });
        }
        penstock_failpoint::hit("gateway.after_transcode");
        let entry = HlsEntry {
            seq: push.path.seq,
            duration_ms: push.duration_ms,
            at: clock::now(),
            discontinuity: push.discontinuity,
            files: hls_files,
        };
        let published = patiently(|| {
            let (store, entry) = (&self.store, entry.clone());
            store.publish(&key.stream, &tracks, entry, self.hls, STREAM_TTL_MS, clock::now())
        });
        if published.await? != HlsInsert::Taken {
            metrics::counter!("penstock_gateway_segments_not_shown_total").increment(1);
            tracing::info!(stream = %key.stream, seq = key.seq, "transcoded, but not shown: late or a duplicate");
        }
        penstock_failpoint::hit("gateway.after_publish");
        let recorded = async {
            // What stands in for renditions is none (ingest-playback.md section 4).
            let records = self.recordings.records(stream.ingest.record_store.as_ref());
            if records && !probed.zero_frames {
                self.record_made(push, stream, key, &tracks, &parts).await;
            }
        };
        tokio::join!(recorded, self.upload_made(push, stream, &parts));
        // Last: a repeated push is answered from this record and does nothing else, so that whatever
        // else there is to do has to be done before.
        patiently(|| self.store.finish_result(key, &record, STREAM_TTL_MS, clock::now())).await?;
        penstock_failpoint::hit("gateway.after_result");
        let bytes = |part: &Part| part.data.len() as u64;
        let bytes = (push.data.len() as u64, parts.iter().map(bytes).sum());
        if let Err(error) = self.note_finished(key, orchestrator, bytes).await {
            tracing::warn!(%error, stream = %key.stream, "a stream's record was not kept up");
        }
        metrics::counter!("penstock_gateway_segments_total").increment(1);
        Ok(parts)
    }

    /// Puts a segment where header or webhook want it as well.
    async fn upload_made(&self, push: &Push, stream: &StreamUse, parts: &[Part]) {
        let Some(store) = stream.ingest.object_store.clone() else { return };
        let source = ("source".to_owned(), push.path.format, push.data.clone());
        let renditions = parts.iter().map(|p| (p.name.clone(), p.format, p.data.clone()));
        let files = std::iter::once(source).chain(renditions).collect();
        let (name, seq) = (self.stored_name(&stream.ingest), push.path.seq);
        self.recordings.upload(&self.jobs, Uploaded { store, name, seq, files }).await;
    }

    /// By which name a stream lies in object stores. A webhook has seen the name in the URL; anybody's
    /// header may lead from any name to a stream of his own, and must not get into another's recording
    /// by it.
    fn stored_name(&self, ingest: &Ingest) -> String {
        match &self.webhook {
            Some(_) => ingest.external.clone(),
            None => ingest.stream.to_string(),
        }
    }

    /// Records a segment.
    async fn record_made(
        &self,
        push: &Push,
        stream: &StreamUse,
        key: &ResultKey,
        tracks: &[HlsTrack],
        parts: &[Part],
    ) {
        // The window knows whether the pusher has begun to count anew.
        let window = self.store.window(&key.stream, clock::now()).await.ok().flatten();
        let source = (push.path.format, push.data.clone());
        let files = std::iter::once(source)
            .chain(parts.iter().map(|part| (part.format, part.data.clone())))
            .zip(tracks)
            .map(|((format, data), track)| (recording_track(track), format, data));
        let segment = Recorded {
            store: stream.ingest.record_store.clone(),
            name: self.stored_name(&stream.ingest),
            run: Run {
                began: stream.record.created_at.0,
                counted_from: window.map_or(0, |window| window.run_start),
            },
            seq: push.path.seq,
            duration_ms: push.duration_ms,
            discontinuity: push.discontinuity,
            mark: hex::encode(key.hash.get(..4).unwrap_or_default()),
            files: files.collect(),
        };
        self.recordings.record(&self.jobs, segment).await;
    }

    /// The stream's record, made by its first segment and touched by each.
    async fn stream_for(
        &self,
        push: &Push,
        ingest: Ingest,
        seen: Seen,
        probed: &Probe,
    ) -> Result<StreamUse, PushError> {
        let joined = self.join(&ingest, seen, push.path.format, |record| {
            let format = probed.fingerprint();
            let changed = format.is_some()
                && record.source_format.is_some()
                && record.source_format != format;
            record.source_format = format.or(record.source_format.take());
            if push.resolution != (0, 0) {
                (record.source_width, record.source_height) = push.resolution;
            }
            changed
        });
        let (record, media_changed) = joined.await?;
        Ok(StreamUse { record, ingest, media_changed })
    }

    /// Begins a stream or goes on with it, if it is the pusher's, and changes its record.
    pub async fn join<T>(
        &self,
        ingest: &Ingest,
        seen: Seen,
        format: SegmentFormat,
        change: impl Fn(&mut StreamRecord) -> T,
    ) -> Result<(StreamRecord, T), PushError> {
        let id = &ingest.stream;
        let mut stored = seen;
        for _ in 0..CAS_TRIES {
            let now = clock::now();
            if stored.as_ref().is_some_and(|found| !self.may_join(&found.value, ingest, now)) {
                return Err(NotAdmitted::Denied.into());
            }
            let live = self.is_live(&stored, now);
            let expected = stored.as_ref().map(|found| found.version);
            let mut record = match stored {
                Some(Versioned { value, .. }) if live => value,
                _ => new_stream(ingest, format, now),
            };
            let changed = change(&mut record);
            record.last_used_at = now;
            let external = Some(&ingest.external).filter(|name| **name != id.as_str());
            record.pushed_as = external.cloned().or(record.pushed_as);
            record.owner.get_or_insert_with(|| owner_of(ingest));
            match self.store.put_stream(id, expected, &record, STREAM_TTL_MS, now).await? {
                Cas::Stored(_) => {
                    if !live {
                        tracing::info!(stream = %id, renditions = record.profiles.len(), "a stream began");
                    }
                    return Ok((record, changed));
                }
                Cas::Conflict(other) => stored = other,
            }
        }
        let contended = "the stream record is contended beyond reason".to_owned();
        Err(JobError::Internal(contended).into())
    }

    async fn note_finished(
        &self,
        key: &ResultKey,
        orchestrator: Option<String>,
        (source_bytes, rendition_bytes): (u64, u64),
    ) -> Result<(), JobError> {
        // A count for people, and a preference: not worth failing a finished segment for contention.
        self.change_record(&key.stream, |record| {
            record.segments = record.segments.saturating_add(1);
            record.source_bytes = record.source_bytes.saturating_add(source_bytes);
            record.rendition_bytes = record.rendition_bytes.saturating_add(rendition_bytes);
            record.orchestrator = orchestrator.clone().or(record.orchestrator.take());
        })
        .await
    }

    /// Changes the record of a stream, if there is one; it counts as used now.
    async fn change_record(
        &self,
        stream: &StreamId,
        change: impl Fn(&mut StreamRecord),
    ) -> Result<(), JobError> {
        for _ in 0..CAS_TRIES {
            let now = clock::now();
            let Some(Versioned { version, mut value }) = self.store.stream(stream, now).await?
            else {
                return Ok(());
            };
            change(&mut value);
            value.last_used_at = now;
            let put = self.store.put_stream(stream, Some(version), &value, STREAM_TTL_MS, now);
            if let Cas::Stored(_) = put.await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Stores one file under the name that its content decides.
    async fn save(
        &self,
        key: &ResultKey,
        rendition: &str,
        format: SegmentFormat,
        data: Bytes,
    ) -> Result<SegmentKey, JobError> {
        let hash = hex::encode(key.hash.get(..8).unwrap_or_default());
        let name = format!("{}/{rendition}/{}-{hash}.{}", key.stream, key.seq, format.extension());
        let at = SegmentKey(name);
        patiently(|| {
            let segment = StoredSegment { data: data.clone(), format };
            self.segments.put(&at, segment, STREAM_TTL_MS, clock::now())
        })
        .await?;
        Ok(at)
    }

    /// A stored answer's bytes, if all of them are still there.
    async fn stored_parts(&self, record: &ResultRecord) -> Result<Option<Vec<Part>>, JobError> {
        let mut parts = Vec::with_capacity(record.renditions.len());
        for rendition in &record.renditions {
            let Some(found) = self.segments.get(&rendition.key, clock::now()).await? else {
                return Ok(None);
            };
            let (name, format) = (rendition.name.clone(), rendition.format);
            parts.push(Part { name, format, data: found.data });
        }
        Ok(Some(parts))
    }
}

fn new_stream(ingest: &Ingest, format: SegmentFormat, now: UnixMs) -> StreamRecord {
    StreamRecord {
        owner: Some(owner_of(ingest)),
        created_at: now,
        last_used_at: now,
        format,
        profiles: in_container(ingest.profiles.clone(), format),
        source_format: None,
        source_width: 0,
        source_height: 0,
        orchestrator: None,
        segments: 0,
        source_bytes: 0,
        rendition_bytes: 0,
        pushed_as: None,
    }
}

fn owner_of(ingest: &Ingest) -> StreamOwner {
    StreamOwner { auth_id: ingest.owner.clone(), key: ingest.key.clone() }
}

/// A stream as one push sees it.
struct StreamUse {
    record: StreamRecord,
    ingest: Ingest,
    /// The source's format differs from the segment before.
    media_changed: bool,
}

fn segment_job(push: &Push, stream: &StreamUse, probed: &Probe, key: &ResultKey) -> SegmentJob {
    let job = VideoJob {
        input_codec: probed.video.unwrap_or(VideoCodec::H264),
        pixel_format: probed.pixel_format.unwrap_or(PixelFormat::Yuv420_8),
        profiles: &stream.record.profiles,
        sliced: push.clip.is_some(),
        ..VideoJob::default()
    };
    SegmentJob {
        caller: push.caller.clone(),
        stream: key.stream.clone(),
        seq: push.path.seq,
        data: push.data.clone(),
        hash: key.hash,
        duration_ms: push.duration_ms,
        profiles: stream.record.profiles.clone(),
        capabilities: Capabilities::of_set(job.capabilities()),
        clip: push.clip,
        force_session_reinit: push.config.force_session_reinit
            || stream.ingest.force_session_reinit
            || stream.media_changed,
        timeout_multiplier: push.config.timeout_multiplier.max(stream.ingest.timeout_multiplier),
        sticky: stream.record.orchestrator.clone(),
    }
}

fn source_track(push: &Push, probed: &Probe) -> HlsTrack {
    let (width, height) = match push.resolution {
        (0, _) | (_, 0) => (probed.width, probed.height),
        said => said,
    };
    HlsTrack {
        name: "source".to_owned(),
        width,
        height,
        bandwidth: bits_per_second(push.data.len(), push.duration_ms),
        codecs: probed.codecs(),
    }
}

fn recording_track(track: &HlsTrack) -> Track {
    let resolution = match (track.width, track.height) {
        (0, _) | (_, 0) => String::new(),
        (width, height) => format!("{width}x{height}"),
    };
    Track {
        name: track.name.clone(),
        bandwidth: track.bandwidth,
        resolution,
        codecs: track.codecs.clone().unwrap_or_default(),
    }
}

fn bits_per_second(bytes: usize, duration_ms: u32) -> u64 {
    let bits = (bytes as u64).saturating_mul(8_000);
    bits.checked_div(u64::from(duration_ms)).unwrap_or(0)
}
