//! One segment: from what was signed to what is stored, and what it costs.

use super::{counted, holds::Hold};
use crate::{
    clock,
    delivery::Due,
    node::Node,
    release::Kind,
    storage::StoredFile,
    workers::transcoders::{Rendition, TranscodeError, TranscodeJob, Transcoded},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use penstock_domain::{B256, Capabilities, Rational, VideoProfile, keccak256};
use penstock_keys::KeyError;
use penstock_payments::{RenditionRate, estimated_pixels, fee};
use penstock_telemetry::step;
use penstock_wire::{AuthToken, OrchestratorOffer, SegmentCredential, SegmentSpec, net};
use std::{sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument;

/// A rendition smaller than this is none.
const MIN_RENDITION_BYTES: usize = 25;
/// Shortest time a worker gets, and how many times the segment's length (both as the reference).
const MIN_TIMEOUT: Duration = Duration::from_secs(8);
const TIMEOUT_FACTOR: u32 = 4;
/// Renditions that are written to a bucket together.
const STORED_AT_ONCE: usize = 4;

/// Why a segment has no result. The texts go to the gateway inside a 200.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// No worker did it.
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
    /// Not as many renditions as were asked for.
    #[error("MismatchedSegments")]
    Mismatched,
    /// A rendition of next to nothing.
    #[error("ZeroSegments")]
    Empty,
    /// The source does not fit into memory.
    #[error("ErrTranscoderUnavailable")]
    NoMemory,
    /// The result could not be signed.
    #[error("could not sign results")]
    Sign(#[from] KeyError),
    /// The fee could not be booked: unpaid results are not handed out.
    #[error("could not account for the work")]
    Unaccounted,
}

/// Pixels that a segment is expected to have, for what is set aside while it is worked on. The
/// gateway's own estimate is a little higher.
pub fn expected_pixels(credential: &SegmentCredential) -> u64 {
    let rates: Vec<_> = credential
        .profiles
        .iter()
        .map(|p| RenditionRate { width: p.width, height: p.height, fps: p.fps, fps_den: p.fps_den })
        .collect();
    let pixels = estimated_pixels(&rates, credential.duration_ms.into());
    u64::try_from(pixels).unwrap_or(u64::MAX)
}

/// A segment that was let in.
pub struct SegmentWork {
    /// As signed.
    pub credential: SegmentCredential,
    /// What it asks for.
    pub capabilities: Capabilities,
    /// Its session.
    pub token: AuthToken,
    /// Its share of the balance that pays, if work is paid.
    pub hold: Option<Hold>,
    /// The segment.
    pub data: Bytes,
    /// The data's share of the memory for bodies.
    pub share: Option<OwnedSemaphorePermit>,
    /// Goes back with the result.
    pub info: OrchestratorOffer,
}

impl SegmentWork {
    /// How long its gateway waits for it, and a worker may take.
    pub fn budget(&self) -> Duration {
        let duration = Duration::from_millis(self.credential.duration_ms.into());
        MIN_TIMEOUT.max(duration * TIMEOUT_FACTOR)
    }

    /// Has it transcoded, stores and signs the renditions, books the fee, and says so.
    pub async fn run(mut self, node: Arc<Node>) -> (net::TranscodeResult, Due) {
        let transcoded = self.transcode(&node).await;
        let outcome = if transcoded.is_ok() { "done" } else { "failed" };
        metrics::counter!("orchestrator_jobs_total", "kind" => "segment", "outcome" => outcome)
            .increment(1);
        let (result, fee) = match transcoded {
            Ok((data, fee)) => (net::transcode_result::Result::Data(data), fee),
            Err(error) => {
                tracing::warn!(%error, session = self.token.session_id, seq = self.credential.seq,
                    "segment failed");
                (net::transcode_result::Result::Error(error.to_string()), Rational::ZERO)
            }
        };
        self.data.clear();
        drop(self.share.take());
        let result = net::TranscodeResult {
            seq: self.credential.seq,
            result: Some(result),
            info: Some((&self.info).into()),
        };
        (result, Due::new(Kind::Transcoding, fee))
    }

    /// The result, and what it cost.
    async fn transcode(
        &self,
        node: &Arc<Node>,
    ) -> Result<(net::TranscodeData, Rational), SegmentError> {
        let source = Source::store(node, &self.token.session_id, self.data.clone())
            .ok_or(SegmentError::NoMemory)?;
        let begun = Instant::now();
        let job = self.job(node, &source);
        let working = Box::pin(node.transcoders.transcode(&job));
        let transcoded = working.instrument(step!("worker", otel.kind = "client")).await?;
        drop(source);
        check(&transcoded, self.credential.profiles.len())?;
        let made = transcoded.renditions.iter().map(|r| r.pixels).fold(0, u64::saturating_add);
        let took = begun.elapsed();
        node.throughput.note(None, made, took);
        counted::segment_done(took, self.credential.duration_ms, made);
        let sig = match &node.signer {
            Some(signer) => {
                let hashes: Vec<B256> =
                    transcoded.renditions.iter().map(|r| keccak256(&r.data)).collect();
                signer.sign_transcode_result(&hashes).await?.as_bytes().to_vec()
            }
            None => Vec::new(),
        };
        let segments = self.store(node, &transcoded.renditions).instrument(step!("store")).await;
        let pixels = segments.iter().map(|s| s.pixels.unsigned_abs()).fold(0, u64::saturating_add);
        let fee = self.debit(node, pixels).await?;
        Ok((net::TranscodeData { segments, sig }, fee))
    }

    fn job(&self, node: &Node, source: &Source) -> TranscodeJob {
        let spec = SegmentSpec {
            manifest_id: self.credential.manifest_id.clone(),
            seq: self.credential.seq,
            hash: B256::ZERO,
            duration_ms: self.credential.duration_ms,
            profiles: self.credential.profiles.clone(),
            capabilities: Some(self.capabilities.clone()),
            auth_token: Some(self.token.clone()),
            storage: None,
            calc_perceptual_hash: self.credential.calc_perceptual_hash,
            clip: self.credential.clip,
            force_session_reinit: self.credential.force_session_reinit,
        };
        let seg_data = net::SegData {
            // What a worker is told: 32 zero bytes, not an absent hash.
            hash: B256::ZERO.to_vec(),
            ..spec.to_message(Vec::new())
        };
        let orch_id = match &node.cashier {
            Some(cashier) => cashier.recipient.to_string(),
            None => "offchain".to_owned(),
        };
        TranscodeJob {
            session_id: self.token.session_id.clone(),
            notify: net::NotifySegment {
                url: format!("{}{}", node.service_uri(), source.path()),
                seg_data: Some(seg_data),
                task_id: 0,
                profiles: b"invalid".to_vec(),
                orch_id,
                traceparent: String::new(),
            },
            capabilities: self.capabilities.clone(),
            timeout: self.budget(),
        }
    }

    /// Stores the renditions, some at a time. One that cannot be stored ends the list, as in the
    /// reference; what is not in the list is not charged.
    async fn store(
        &self,
        node: &Node,
        renditions: &[Rendition],
    ) -> Vec<net::TranscodedSegmentData> {
        let each = self.credential.profiles.iter().zip(renditions);
        let each: Vec<_> =
            each.map(|(profile, made)| self.store_one(node, profile, made)).collect();
        let stored: Vec<_> = stream::iter(each).buffered(STORED_AT_ONCE).collect().await;
        stored.into_iter().map_while(|one| one).collect()
    }

    async fn store_one(
        &self,
        node: &Node,
        profile: &VideoProfile,
        rendition: &Rendition,
    ) -> Option<net::TranscodedSegmentData> {
        let name = format!("{}.{}", self.credential.seq, profile.format.extension());
        let content_type = profile.format.content_type();
        let media = StoredFile { data: rendition.data.clone(), content_type };
        let hash = async {
            let Some(hash) = &rendition.perceptual_hash else { return Some(String::new()) };
            let content_type = penstock_wire::worker_upload::PERCEPTUAL_HASH;
            let file = StoredFile { data: hash.clone(), content_type };
            self.keep(node, profile, &format!("{name}.phash"), file).await
        };
        let (url, hash) = tokio::join!(self.keep(node, profile, &name, media), hash);
        let (url, perceptual_hash_url) = (url?, hash?);
        Some(net::TranscodedSegmentData {
            url,
            // More pixels than 2^63 are a worker's lie; they cost that much and no more.
            pixels: i64::try_from(rendition.pixels).unwrap_or(i64::MAX),
            perceptual_hash_url,
        })
    }

    async fn keep(
        &self,
        node: &Node,
        profile: &VideoProfile,
        name: &str,
        file: StoredFile,
    ) -> Option<String> {
        let (bucket, session) = (self.credential.storage.as_ref(), &self.token.session_id);
        node.keep(bucket, session, &profile.name, name, file).await
    }

    async fn debit(&self, node: &Node, pixels: u64) -> Result<Rational, SegmentError> {
        let (Some(cashier), Some(hold)) = (&node.cashier, &self.hold) else {
            return Ok(Rational::ZERO);
        };
        let job_id = format!(
            "segment/{}/{}/{}/{}",
            self.token.session_id,
            self.credential.seq,
            clock::now_ms(),
            uuid::Uuid::new_v4().simple()
        );
        // The same job id a second time books nothing, so one retry of a busy ledger is safe.
        for last in [false, true] {
            match cashier.debit(hold, job_id.clone(), pixels).await {
                Ok(()) => return Ok(fee(pixels, &hold.price)),
                Err(error) if last => {
                    tracing::error!(%error, job_id, pixels, "a fee could not be booked");
                }
                Err(_) => {}
            }
        }
        Err(SegmentError::Unaccounted)
    }
}

fn check(transcoded: &Transcoded, profiles: usize) -> Result<(), SegmentError> {
    if transcoded.renditions.len() != profiles {
        return Err(SegmentError::Mismatched);
    }
    if transcoded.renditions.iter().any(|r| r.data.len() < MIN_RENDITION_BYTES) {
        return Err(SegmentError::Empty);
    }
    Ok(())
}

/// A source that waits for a worker, under a name that cannot be guessed. Gone when dropped.
pub struct Source {
    node: Arc<Node>,
    session: String,
    name: String,
}

/// The folder of sources; no profile can have this name, for it has a slash.
const SOURCES: &str = "/sources";

impl Source {
    /// Stores it; `None` if it does not fit.
    pub fn store(node: &Arc<Node>, session: &str, data: Bytes) -> Option<Self> {
        let secret: [u8; 16] = crate::secrets::random().ok()?;
        let name = format!("{}.tempfile", hex::encode(secret));
        let file = StoredFile { data, content_type: "application/octet-stream" };
        let stored = node.storage.save(session, SOURCES, &name, file);
        stored.then(|| Self { node: Arc::clone(node), session: session.to_owned(), name })
    }

    /// Where the worker finds it, below the service URI.
    pub fn path(&self) -> String {
        format!("/stream/{}/{}", self.session, self.name)
    }

    /// What is stored under such a name.
    pub fn find(node: &Node, session: &str, name: &str) -> Option<StoredFile> {
        node.storage.get(session, SOURCES, name)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.node.storage.remove(&self.session, SOURCES, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendition(size: usize) -> Rendition {
        Rendition { data: vec![0; size].into(), pixels: 1, perceptual_hash: None }
    }

    #[test]
    fn results_are_checked() {
        let made = |sizes: &[usize]| Transcoded {
            renditions: sizes.iter().map(|s| rendition(*s)).collect(),
            decoded_pixels: 1,
        };
        assert!(check(&made(&[25, 99]), 2).is_ok());
        assert_eq!(check(&made(&[25]), 2).unwrap_err().to_string(), "MismatchedSegments");
        assert_eq!(check(&made(&[24, 99]), 2).unwrap_err().to_string(), "ZeroSegments");
    }
}
