//! Finished segments: one hash per stream, so that their number is bounded and they lie beside the
//! window.

use super::{
    RedisStore, args,
    codec::{self, pack, unpack},
    keep_ms,
    link::Keep,
    script,
};
use crate::{
    Begin, OwnerId, ResultKey, ResultRecord, ResultStore, SegmentKey, StoreError, StoredRendition,
    UnixMs,
};
use async_trait::async_trait;
use penstock_domain::SegmentFormat;
use serde::{Deserialize, Serialize};

const RESULT: &str = "segment's result";

/// The sequence number and half of the hash: a pusher who finds two segments with the same half
/// has fooled only himself.
fn field(key: &ResultKey) -> Vec<u8> {
    let half = key.hash.get(..16).unwrap_or_default();
    [key.seq.to_be_bytes().as_slice(), half].concat()
}

/// A rendition as stored: its name and format, and its key where it is not the usual one.
#[derive(Serialize, Deserialize)]
struct Stored(
    String,
    SegmentFormat,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<String>,
);

/// Where a rendition usually lies: `stream/rendition/seq-hash.extension`.
fn usual_key(key: &ResultKey, name: &str, format: SegmentFormat) -> String {
    let hash = hex::encode(key.hash.get(..8).unwrap_or_default());
    format!("{}/{name}/{}-{hash}.{}", key.stream, key.seq, format.extension())
}

fn to_stored(key: &ResultKey, record: &ResultRecord) -> Result<Vec<u8>, StoreError> {
    let stored = |r: &StoredRendition| {
        let usual = usual_key(key, &r.name, r.format) == r.key.0;
        Stored(r.name.clone(), r.format, (!usual).then(|| r.key.0.clone()))
    };
    pack(&record.renditions.iter().map(stored).collect::<Vec<_>>(), RESULT)
}

fn from_stored(key: &ResultKey, bytes: &[u8]) -> Result<ResultRecord, StoreError> {
    let stored: Vec<Stored> = unpack(bytes, RESULT)?;
    let renditions = stored.into_iter().map(|Stored(name, format, at)| {
        let at = SegmentKey(at.unwrap_or_else(|| usual_key(key, &name, format)));
        StoredRendition { name, format, key: at }
    });
    Ok(ResultRecord { renditions: renditions.collect() })
}

#[async_trait]
impl ResultStore for RedisStore {
    async fn begin_result(
        &self,
        key: &ResultKey,
        owner: &OwnerId,
        claim_ms: u64,
        now: UnixMs,
    ) -> Result<Begin, StoreError> {
        let args = args![
            field(key),
            owner.0,
            codec::wide_time(now.plus_ms(claim_ms)),
            codec::time(now),
            keep_ms(claim_ms),
        ];
        let at = [self.keys.results(&key.stream)];
        let (outcome, answer): (u8, Vec<u8>) =
            self.link.run(&script::BEGIN_RESULT, &at, args, Keep::Here).await?;
        Ok(match outcome {
            0 => Begin::Ours,
            1 => Begin::InProgress { until: codec::read_time(&answer)? },
            _ => Begin::Done(from_stored(key, &answer)?),
        })
    }

    async fn finish_result(
        &self,
        key: &ResultKey,
        record: &ResultRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<ResultRecord, StoreError> {
        let args = args![
            field(key),
            codec::wide_time(now.plus_ms(ttl_ms)),
            to_stored(key, record)?,
            codec::time(now),
            keep_ms(ttl_ms),
            self.limits.results.to_string(),
        ];
        let at = [self.keys.results(&key.stream)];
        let stored: Vec<u8> =
            self.link.run(&script::FINISH_RESULT, &at, args, Keep::Replicated).await?;
        from_stored(key, &stored)
    }

    async fn abandon_result(
        &self,
        key: &ResultKey,
        owner: &OwnerId,
        _now: UnixMs,
    ) -> Result<(), StoreError> {
        let (at, args) = ([self.keys.results(&key.stream)], args![field(key), owner.0]);
        self.link.run::<u8, _>(&script::ABANDON_RESULT, &at, args, Keep::Here).await.map(drop)
    }
}
