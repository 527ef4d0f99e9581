//! Records of other kinds: versioned bytes, as they are.

use super::{RedisStore, args, codec, keep_ms, link::Keep, script};
use crate::{Cas, DocKey, DocStore, StoreError, UnixMs, Version, Versioned};
use async_trait::async_trait;
use bytes::Bytes;

fn record(stored: &[u8], now: UnixMs) -> Result<Option<Versioned<Bytes>>, StoreError> {
    let found = codec::live(Some(stored), now, "record")?;
    Ok(found.map(|f| Versioned { version: f.version, value: Bytes::copy_from_slice(f.value) }))
}

#[async_trait]
impl DocStore for RedisStore {
    async fn doc(&self, key: &DocKey, now: UnixMs) -> Result<Option<Versioned<Bytes>>, StoreError> {
        key.check_size()?;
        match self.stored(&self.keys.doc(key)).await? {
            Some(stored) => record(&stored, now),
            None => Ok(None),
        }
    }

    async fn put_doc(
        &self,
        key: &DocKey,
        expected: Option<Version>,
        value: Bytes,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Cas<Bytes>, StoreError> {
        key.check_value(&value)?;
        let key = self.keys.doc(key);
        match self.swap(&key, expected, &value, ttl_ms, now, Keep::Replicated).await? {
            Ok(version) => Ok(Cas::Stored(version)),
            Err(current) => Ok(Cas::Conflict(record(&current, now)?)),
        }
    }

    async fn remove_doc(
        &self,
        key: &DocKey,
        expected: Version,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        key.check_size()?;
        let args = args![codec::token(expected.0), codec::time(now), keep_ms(0)];
        self.link.run(&script::REMOVE, &[self.keys.doc(key)], args, Keep::Replicated).await
    }
}
