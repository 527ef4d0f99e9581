//! Finished segments, for replay: the same (stream, sequence, hash) again gets the stored answer and
//! is neither transcoded nor paid a second time.

use crate::{OwnerId, SegmentKey, StoreError, UnixMs};
use async_trait::async_trait;
use penstock_domain::{B256, SegmentFormat, StreamId};
use serde::{Deserialize, Serialize};

/// How long a claim on a segment lasts after its holder was last heard of. Shorter than the window
/// waits at a gap ([`crate::HlsRules::gap_wait_ms`]): who takes over from a holder that died still finds the
/// segment's place.
pub const CLAIM_MS: u64 = 4_000;

/// Which result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultKey {
    /// The stream.
    pub stream: StreamId,
    /// Its sequence number.
    pub seq: u64,
    /// Keccak-256 of the pushed bytes.
    pub hash: B256,
}

/// One rendition of a finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRendition {
    /// Rendition name.
    pub name: String,
    /// Container.
    pub format: SegmentFormat,
    /// Where its bytes are.
    pub key: SegmentKey,
}

/// What a push was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// In profile order; empty for a stream without renditions.
    pub renditions: Vec<StoredRendition>,
}

/// The outcome of beginning a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Nobody did this yet: it is ours to do.
    Ours,
    /// Another request is at it until then at the latest: wait and ask again.
    InProgress {
        /// When its claim lapses.
        until: UnixMs,
    },
    /// Done: answer with this.
    Done(ResultRecord),
}

/// Results by segment.
#[async_trait]
pub trait ResultStore: Send + Sync {
    /// Claims the segment for `claim_ms`, unless it is done or claimed by another owner.
    async fn begin_result(
        &self,
        key: &ResultKey,
        owner: &OwnerId,
        claim_ms: u64,
        now: UnixMs,
    ) -> Result<Begin, StoreError>;

    /// Stores the answer for `ttl_ms` from `now` and ends the claim. The first answer stays: two
    /// claims of one segment (after one lapsed) must not give two answers. What is stored.
    async fn finish_result(
        &self,
        key: &ResultKey,
        record: &ResultRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<ResultRecord, StoreError>;

    /// Gives an unfinished claim back, so that a retry can begin at once.
    async fn abandon_result(
        &self,
        key: &ResultKey,
        owner: &OwnerId,
        now: UnixMs,
    ) -> Result<(), StoreError>;
}
