//! Small records with a version, for whatever needs no type of its own here: idempotency records,
//! async jobs, the recordings index, who takes an RTMP stream in. Larger bytes go to the segment
//! store.

use crate::{Cas, StoreError, UnixMs, Version, Versioned};
use async_trait::async_trait;
use bytes::Bytes;

/// Which record. Both parts may hold anything; a backend encodes what its keys cannot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocKey {
    /// The kind of record: `idem`, `job`, `caller`, `recording`, …
    pub kind: &'static str,
    /// Names it within its kind, at most [`DocKey::MAX_ID_BYTES`]. May come from a client.
    pub id: String,
}

impl DocKey {
    /// Most bytes of an id.
    pub const MAX_ID_BYTES: usize = 512;
    /// Most bytes of a record.
    pub const MAX_VALUE_BYTES: usize = 1 << 20;

    /// A key.
    pub fn new(kind: &'static str, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }

    /// Checks the id's length.
    pub fn check_size(&self) -> Result<(), StoreError> {
        if self.id.len() > Self::MAX_ID_BYTES {
            let limit_bytes = Self::MAX_ID_BYTES;
            return Err(StoreError::TooLarge { what: "a record's id", limit_bytes });
        }
        Ok(())
    }

    /// Checks the lengths of id and record.
    pub fn check_value(&self, value: &Bytes) -> Result<(), StoreError> {
        self.check_size()?;
        if value.len() > Self::MAX_VALUE_BYTES {
            let limit_bytes = Self::MAX_VALUE_BYTES;
            return Err(StoreError::TooLarge { what: "a record", limit_bytes });
        }
        Ok(())
    }
}

/// Records by kind and id, each changed by compare-and-swap.
#[async_trait]
pub trait DocStore: Send + Sync {
    /// The record, if there is one that has not expired. [`StoreError::TooLarge`] for a longer id
    /// than is taken, as in the other calls.
    async fn doc(&self, key: &DocKey, now: UnixMs) -> Result<Option<Versioned<Bytes>>, StoreError>;

    /// Writes if the stored version is `expected` (`None`: if there is none), for `ttl_ms` from
    /// `now`. A version is never given twice, not even to another record of the same key: whoever
    /// holds one from before a removal loses.
    async fn put_doc(
        &self,
        key: &DocKey,
        expected: Option<Version>,
        value: Bytes,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Cas<Bytes>, StoreError>;

    /// Forgets the record if its version is `expected`; whether it was.
    async fn remove_doc(
        &self,
        key: &DocKey,
        expected: Version,
        now: UnixMs,
    ) -> Result<bool, StoreError>;
}
