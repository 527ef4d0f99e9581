//! Stream records: what the first segment of a stream decides for the following ones, on whichever
//! replica they arrive. Concurrent changes are settled by compare-and-swap on a version.

use crate::{StoreError, UnixMs};
use async_trait::async_trait;
use penstock_domain::{AuthId, SegmentFormat, StreamId, VideoProfile};
use serde::{Deserialize, Serialize};

/// Grows with each write of a record, and is never given twice: not after a removal, and not after
/// the store lost its last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u64);

/// A record and the version it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Give this back when writing.
    pub version: Version,
    /// The record.
    pub value: T,
}

/// The outcome of a compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cas<T> {
    /// Written; this is its new version.
    Stored(Version),
    /// Somebody else was first. `None`: it was removed or expired meanwhile.
    Conflict(Option<Versioned<T>>),
}

/// Whose a stream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOwner {
    /// The caller who began it.
    pub auth_id: AuthId,
    /// Hash of the key that it was published with, if it was with one.
    pub key: Option<String>,
}

/// What is known about a stream. Small on purpose: an idle stream costs at most 4 KiB
/// (architecture.md, numbers to design for).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Who began it; `None` in what a replica wrote that knew no owners.
    #[serde(default)]
    pub owner: Option<StreamOwner>,
    /// When the first segment arrived.
    pub created_at: UnixMs,
    /// When the newest segment arrived.
    pub last_used_at: UnixMs,
    /// Container of the first segment; later ones may differ.
    pub format: SegmentFormat,
    /// The renditions, in answer order; empty means "store only".
    pub profiles: Vec<VideoProfile>,
    /// Codec, size and pixel format of the newest source, as one word: a change tells the
    /// orchestrator to begin its decoder anew (ingest-playback.md section 3.4).
    pub source_format: Option<String>,
    /// `Content-Resolution` of the newest segment that said one, else 0×0.
    pub source_width: u32,
    /// See `source_width`.
    pub source_height: u32,
    /// The orchestrator that served the last segment: kept while it is fast enough.
    pub orchestrator: Option<String>,
    /// Segments finished, for the stream list.
    pub segments: u64,
    /// Bytes of those segments.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_bytes: u64,
    /// Bytes of their renditions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rendition_bytes: u64,
    /// The name in the URL that it is pushed to, where that is another than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_as: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Streams by name.
#[async_trait]
pub trait StreamStore: Send + Sync {
    /// The record, if there is one that has not expired.
    async fn stream(
        &self,
        id: &StreamId,
        now: UnixMs,
    ) -> Result<Option<Versioned<StreamRecord>>, StoreError>;

    /// Writes if the stored version is `expected` (`None`: if there is none), for `ttl_ms` from `now`.
    async fn put_stream(
        &self,
        id: &StreamId,
        expected: Option<Version>,
        record: &StreamRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Cas<StreamRecord>, StoreError>;

    /// Forgets a stream; whether there was one.
    async fn remove_stream(&self, id: &StreamId, now: UnixMs) -> Result<bool, StoreError>;

    /// Up to `limit` streams, most recently used first.
    async fn recent_streams(
        &self,
        limit: usize,
        now: UnixMs,
    ) -> Result<Vec<(StreamId, StreamRecord)>, StoreError>;
}
