//! Orchestrator pools: who answered the last discovery for a capability, and when that was.

use crate::{OwnerId, StoreError, UnixMs};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Which pool: `video`, or `ai:{capability number}_{model}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolKey(pub String);

/// One orchestrator that answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolEntry {
    /// The URI that was asked.
    pub asked_uri: String,
    /// The service URI it named (`OrchestratorInfo.transcoder`).
    pub transcoder: String,
    /// Score from discovery: ≥ 1 is trusted (selection.md section 1).
    pub score: f64,
    /// From the question until the answer, dialling included.
    pub latency_ms: u64,
    /// The answer, protobuf.
    pub info: Vec<u8>,
    /// When it last answered: an entry that fails a refresh is kept until it is too old, a
    /// non-empty pool is never replaced by an error.
    pub last_seen: UnixMs,
}

/// A pool with its age.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// When the last refresh ended.
    pub refreshed_at: UnixMs,
    /// Lowest latency first.
    pub entries: Vec<PoolEntry>,
}

/// Pools by capability.
#[async_trait]
pub trait PoolStore: Send + Sync {
    /// The pool, however old; `None` when it was never filled or has expired.
    async fn pool(&self, key: &PoolKey, now: UnixMs) -> Result<Option<Pool>, StoreError>;

    /// Replaces the pool, for `ttl_ms` from `now`.
    async fn put_pool(
        &self,
        key: &PoolKey,
        pool: &Pool,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError>;

    /// Asks for the right to refresh it: true for one owner per `hold_ms`, so that a cold pool is
    /// refreshed once per fleet and not once per replica.
    async fn begin_pool_refresh(
        &self,
        key: &PoolKey,
        owner: &OwnerId,
        hold_ms: u64,
        now: UnixMs,
    ) -> Result<bool, StoreError>;

    /// Gives that right back.
    async fn end_pool_refresh(
        &self,
        key: &PoolKey,
        owner: &OwnerId,
        now: UnixMs,
    ) -> Result<(), StoreError>;
}
