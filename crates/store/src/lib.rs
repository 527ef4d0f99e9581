//! The gateway's session store: everything that outlives a request (architecture.md rule 1).
//!
//! One small trait per concern, each beside the record it stores; [`SessionStore`] is all of them.
//! [`MemoryStore`] is the embedded backend; a shared one implements the same traits and passes the
//! same `conformance` suite (feature `testing`). [`SegmentStore`] is the port for media bytes.
//!
//! House rules for every backend:
//! - **Time is an argument** (`now`). A backend never reads a clock to decide anything, so tests
//!   advance time instead of sleeping and two replicas disagree at most by their clocks.
//! - **Everything expires.** Each write says for how long; reading does not extend a life.
//! - **Everything is bounded.** A full backend refuses (sessions, credit, streams) or forgets what
//!   expires first (caches); it never grows without limit.
//! - **Money does not depend on it.** Losing the store loses unspent credit, never a ticket.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod credit;
mod disk;
mod doc;
mod error;
mod hls;
mod limit;
mod member;
mod memory;
mod names;
mod packed;
mod pool;
mod record;
mod redis;
mod reputation;
mod result;
mod s3;
mod segments;
mod session;
mod stream;
mod time;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod idle;

pub use credit::{CreditKey, CreditStore, HoldId, MAX_CREDIT_UNITS, Reserve};
pub use disk::DiskSegments;
pub use doc::{DocKey, DocStore};
pub use error::{SEGMENT, StoreError};
pub use hls::{HlsEntry, HlsInsert, HlsRules, HlsStore, HlsTrack, HlsWindow};
pub use limit::{Limit, LimitStore, Rule, Taken};
pub use member::{MemberStore, Sight};
pub use memory::{MemoryLimits, MemoryStore};
pub use packed::{pack, unpack};
pub use pool::{Pool, PoolEntry, PoolKey, PoolStore};
pub use record::{OpenRecord, RecordFile, RecordStore};
pub use redis::{BadRedisUrl, RedisLimits, RedisOptions, RedisSegments, RedisStore, RedisUrl};
pub use reputation::{ReputationStore, Standing};
pub use result::{Begin, CLAIM_MS, ResultKey, ResultRecord, ResultStore, StoredRendition};
pub use s3::{S3Options, S3Segments};
pub use segments::{MemorySegments, SegmentKey, SegmentStore, StoredSegment};
pub use session::{
    Fence, Lease, OrchestratorSessionStore, OwnerId, PendingPurchase, Saved, SessionKey,
    SessionRecord, scope_of, stream_of_scope,
};
pub use stream::{Cas, StreamOwner, StreamRecord, StreamStore, Version, Versioned};
pub use time::UnixMs;

use async_trait::async_trait;

/// The whole port: what a gateway replica needs to be a function of its stores.
#[async_trait]
pub trait SessionStore:
    StreamStore
    + OrchestratorSessionStore
    + CreditStore
    + ReputationStore
    + PoolStore
    + HlsStore
    + ResultStore
    + DocStore
    + LimitStore
    + MemberStore
    + 'static
{
    /// Whether the backend can be reached, for `/readyz`.
    async fn ping(&self) -> Result<(), StoreError>;
}
