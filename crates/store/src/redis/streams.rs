//! Stream records, and the HLS window beside them.

use super::{
    RedisStore, args,
    codec::{self, live, pack, unpack},
    keep_ms,
    link::Keep,
    script,
};
use crate::{
    Cas, HlsEntry, HlsInsert, HlsRules, HlsStore, HlsTrack, HlsWindow, StoreError, StreamRecord,
    StreamStore, UnixMs, Version, Versioned,
};
use async_trait::async_trait;
use penstock_domain::StreamId;

const RECORD: &str = "stream record";
const WINDOW: &str = "HLS window";
/// Tries at a contended window; each loses only to another that won.
const TRIES: u32 = 256;

impl RedisStore {
    /// The bytes of a versioned record.
    pub(super) async fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.link.ask(redis::cmd("GET").arg(key).to_owned()).await
    }

    /// Writes `value` if the version is `expected`; else gives back what is there, whole.
    pub(super) async fn swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: &[u8],
        ttl_ms: u64,
        now: UnixMs,
        keep: Keep,
    ) -> Result<Result<Version, Vec<u8>>, StoreError> {
        let expected = expected.map(|v| codec::token(v.0)).unwrap_or_default();
        let args = args![
            expected,
            codec::fresh_token(now),
            codec::wide_time(now.plus_ms(ttl_ms)),
            codec::time(now),
            keep_ms(ttl_ms),
            value,
        ];
        let (done, answer): (u8, Vec<u8>) = self.link.run(&script::CAS, &[key], args, keep).await?;
        Ok(match done {
            1 => Ok(Version(codec::read_token(&answer)?)),
            _ => Err(answer),
        })
    }
}

fn record(stored: &[u8], now: UnixMs) -> Result<Option<Versioned<StreamRecord>>, StoreError> {
    let Some(Versioned { version, value }) = live(Some(stored), now, RECORD)? else {
        return Ok(None);
    };
    Ok(Some(Versioned { version, value: unpack(value, RECORD)? }))
}

#[async_trait]
impl StreamStore for RedisStore {
    async fn stream(
        &self,
        id: &StreamId,
        now: UnixMs,
    ) -> Result<Option<Versioned<StreamRecord>>, StoreError> {
        match self.stored(&self.keys.stream(id)).await? {
            Some(stored) => record(&stored, now),
            None => Ok(None),
        }
    }

    async fn put_stream(
        &self,
        id: &StreamId,
        expected: Option<Version>,
        value: &StreamRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Cas<StreamRecord>, StoreError> {
        let key = self.keys.stream(id);
        let packed = pack(value, RECORD)?;
        match self.swap(&key, expected, &packed, ttl_ms, now, Keep::Here).await? {
            Err(current) => Ok(Cas::Conflict(record(&current, now)?)),
            Ok(version) => {
                // The list is for people: in a cluster it lies elsewhere than the record.
                let listed = codec::time(value.last_used_at);
                let most = self.limits.listed_streams;
                let args = args![listed, id.as_str(), keep_ms(ttl_ms), most.to_string()];
                let list = [self.keys.streams()];
                self.link.run::<u8, _>(&script::LIST_STREAM, &list, args, Keep::Here).await?;
                Ok(Cas::Stored(version))
            }
        }
    }

    async fn remove_stream(&self, id: &StreamId, now: UnixMs) -> Result<bool, StoreError> {
        let (key, args) = (self.keys.stream(id), args!["", codec::time(now), keep_ms(0)]);
        self.link.run(&script::REMOVE, &[key], args, Keep::Here).await
    }

    async fn recent_streams(
        &self,
        limit: usize,
        now: UnixMs,
    ) -> Result<Vec<(StreamId, StreamRecord)>, StoreError> {
        let list = self.keys.streams();
        let (mut streams, mut from) = (Vec::new(), 0);
        while streams.len() < limit {
            let page = limit.clamp(16, 256);
            let mut range = redis::cmd("ZREVRANGE");
            range.arg(&list).arg(from).arg(from + page - 1);
            let names: Vec<String> = self.link.ask(range).await?;
            let last = names.len() < page;
            let ids = names.into_iter().filter_map(|name| StreamId::new(name).ok());
            let found = futures::future::try_join_all(ids.map(|id| async move {
                let found = self.stream(&id, now).await?;
                Ok::<_, StoreError>((id, found))
            }))
            .await?;
            let mut gone = redis::cmd("ZREM");
            gone.arg(&list);
            let mut removed = 0;
            for (id, found) in found {
                match found {
                    Some(found) => streams.push((id, found.value)),
                    None => {
                        gone.arg(id.as_str());
                        removed += 1;
                    }
                }
            }
            if removed > 0 {
                self.link.ask::<u64>(gone).await?;
            }
            if last {
                break;
            }
            from += page - removed;
        }
        streams.sort_by(|(a_id, a), (b_id, b)| {
            b.last_used_at.cmp(&a.last_used_at).then(a_id.cmp(b_id))
        });
        streams.truncate(limit);
        Ok(streams)
    }
}

#[async_trait]
impl HlsStore for RedisStore {
    async fn publish(
        &self,
        stream: &StreamId,
        tracks: &[HlsTrack],
        entry: HlsEntry,
        rules: HlsRules,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<HlsInsert, StoreError> {
        let key = self.keys.window(stream);
        let mut stored = self.stored(&key).await?;
        for _ in 0..TRIES {
            let current = live(stored.as_deref(), now, WINDOW)?;
            let mut window = match &current {
                Some(current) => unpack::<HlsWindow>(current.value, WINDOW)?,
                None => HlsWindow::default(),
            };
            let outcome = window.insert(tracks, entry.clone(), rules, now);
            let expected = current.map(|c| c.version);
            let packed = pack(&window, WINDOW)?;
            match self.swap(&key, expected, &packed, ttl_ms, now, Keep::Replicated).await? {
                Ok(_) => return Ok(outcome),
                Err(current) => stored = Some(current),
            }
        }
        Err(StoreError::Unavailable("an HLS window is contended beyond reason".to_owned()))
    }

    async fn window(
        &self,
        stream: &StreamId,
        now: UnixMs,
    ) -> Result<Option<HlsWindow>, StoreError> {
        let stored = self.stored(&self.keys.window(stream)).await?;
        let current = live(stored.as_deref(), now, WINDOW)?;
        current.map(|c| unpack(c.value, WINDOW)).transpose()
    }
}
