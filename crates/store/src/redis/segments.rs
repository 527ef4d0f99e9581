//! Media bytes in Redis: for a short window of small segments, where no disk is shared. Each is one
//! string, with its end and format in front.

use super::{
    codec, keep_ms,
    keys::Keys,
    link::{Link, Purpose},
};
use crate::{SegmentKey, SegmentStore, StoreError, StoredSegment, UnixMs};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use std::sync::Arc;

const CORRUPT: StoreError = StoreError::Corrupt("segment");
/// Width of the end and the format.
const HEAD: usize = 17;

/// See the module. Made by [`super::RedisStore::segments`].
#[derive(Debug)]
pub struct RedisSegments {
    link: Arc<Link>,
    keys: Keys,
    max_bytes: usize,
}

impl RedisSegments {
    /// Of segments of at most so many bytes each.
    pub async fn open(options: super::RedisOptions, max_bytes: usize) -> Self {
        let keys = Keys::new(&options.prefix);
        Self { link: Link::open(options, Purpose::Media).await, keys, max_bytes }
    }
}

fn read(stored: &[u8], now: UnixMs) -> Result<Option<StoredSegment>, StoreError> {
    let (head, data) = stored.split_at_checked(HEAD).ok_or(CORRUPT)?;
    let (ends, format) = head.split_at_checked(16).ok_or(CORRUPT)?;
    if codec::read_time(ends)? <= now {
        return Ok(None);
    }
    let format = match format {
        b"t" => SegmentFormat::MpegTs,
        b"m" => SegmentFormat::Mp4,
        _ => return Err(CORRUPT),
    };
    Ok(Some(StoredSegment { data: Bytes::copy_from_slice(data), format }))
}

#[async_trait]
impl SegmentStore for RedisSegments {
    async fn put(
        &self,
        key: &SegmentKey,
        segment: StoredSegment,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        if segment.data.len() > self.max_bytes {
            return Err(StoreError::TooLarge { what: crate::SEGMENT, limit_bytes: self.max_bytes });
        }
        let mut stored = codec::wide_time(now.plus_ms(ttl_ms)).into_bytes();
        stored.push(match segment.format {
            SegmentFormat::MpegTs => b't',
            SegmentFormat::Mp4 => b'm',
        });
        stored.extend_from_slice(&segment.data);
        let mut set = redis::cmd("SET");
        set.arg(self.keys.segment(&key.0)).arg(stored).arg("PX").arg(keep_ms(ttl_ms));
        self.link.ask::<String>(set).await.map(drop)
    }

    async fn get(
        &self,
        key: &SegmentKey,
        now: UnixMs,
    ) -> Result<Option<StoredSegment>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.segment(&key.0));
        let stored: Option<Vec<u8>> = self.link.ask(get).await?;
        stored.map_or(Ok(None), |stored| read(&stored, now))
    }

    async fn remove(&self, key: &SegmentKey, now: UnixMs) -> Result<bool, StoreError> {
        let mut get = redis::cmd("GETDEL");
        get.arg(self.keys.segment(&key.0));
        let stored: Option<Vec<u8>> = self.link.ask(get).await?;
        Ok(stored.map_or(Ok(None), |stored| read(&stored, now))?.is_some())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.link.ping().await
    }
}
