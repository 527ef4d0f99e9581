//! The segment store: media bytes by key, and the bounded in-memory implementation.

use crate::{StoreError, UnixMs};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// Where a segment's bytes are: a relative path such as `show/source/12-1a2b3c4d.ts`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentKey(pub String);

/// Bytes and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    /// The file.
    pub data: Bytes,
    /// Its container.
    pub format: SegmentFormat,
}

/// Media bytes. A key is written once; writing it again replaces the value.
#[async_trait]
pub trait SegmentStore: Send + Sync + 'static {
    /// Stores for `ttl_ms` from `now`.
    async fn put(
        &self,
        key: &SegmentKey,
        segment: StoredSegment,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError>;
    /// The bytes, if they are still there.
    async fn get(&self, key: &SegmentKey, now: UnixMs)
    -> Result<Option<StoredSegment>, StoreError>;
    /// Forgets; whether there was something.
    async fn remove(&self, key: &SegmentKey, now: UnixMs) -> Result<bool, StoreError>;
    /// Whether the store can be reached, for `/readyz`.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// In memory, at most `max_bytes` of media: what expires first is dropped to make room, because a
/// live window moves on anyway.
#[derive(Debug)]
pub struct MemorySegments {
    max_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<SegmentKey, (StoredSegment, UnixMs)>,
    by_expiry: BTreeSet<(UnixMs, SegmentKey)>,
    bytes: usize,
}

impl Inner {
    fn remove(&mut self, key: &SegmentKey) -> bool {
        let Some((segment, expiry)) = self.by_key.remove(key) else { return false };
        self.by_expiry.remove(&(expiry, key.clone()));
        self.bytes = self.bytes.saturating_sub(segment.data.len());
        true
    }

    fn drop_while(&mut self, mut too_many: impl FnMut(&Self, UnixMs) -> bool) {
        while let Some((expiry, key)) = self.by_expiry.first().cloned() {
            if !too_many(self, expiry) {
                return;
            }
            self.remove(&key);
        }
    }
}

impl MemorySegments {
    /// A store of at most `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, inner: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic while holding the lock cannot leave the maps half changed in a harmful way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SegmentStore for MemorySegments {
    async fn put(
        &self,
        key: &SegmentKey,
        segment: StoredSegment,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let len = segment.data.len();
        if len > self.max_bytes {
            return Err(StoreError::TooLarge { what: crate::SEGMENT, limit_bytes: self.max_bytes });
        }
        let expiry = now.plus_ms(ttl_ms);
        let mut inner = self.lock();
        inner.remove(key);
        let max = self.max_bytes;
        inner.drop_while(|inner, expiry| expiry <= now || inner.bytes.saturating_add(len) > max);
        inner.bytes = inner.bytes.saturating_add(len);
        inner.by_expiry.insert((expiry, key.clone()));
        inner.by_key.insert(key.clone(), (segment, expiry));
        Ok(())
    }

    async fn get(
        &self,
        key: &SegmentKey,
        now: UnixMs,
    ) -> Result<Option<StoredSegment>, StoreError> {
        let inner = self.lock();
        Ok(inner
            .by_key
            .get(key)
            .filter(|(_, expiry)| *expiry > now)
            .map(|(segment, _)| segment.clone()))
    }

    async fn remove(&self, key: &SegmentKey, now: UnixMs) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let live = inner.by_key.get(key).is_some_and(|(_, expiry)| *expiry > now);
        inner.remove(key);
        Ok(live)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
