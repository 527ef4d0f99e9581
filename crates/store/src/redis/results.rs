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

/// The sequence number in as few bytes as it needs, and 96 bits of the hash: a pusher who finds two
/// segments with the same ones has fooled only himself.
fn field(key: &ResultKey) -> Vec<u8> {
    let seq: Vec<u8> = key.seq.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    [seq.as_slice(), key.hash.get(..12).unwrap_or_default()].concat()
}

/// Begins the short form: a line for each rendition, its format's letter and its name.
const SHORT: u8 = b'u';

/// A rendition as stored otherwise: name, format, key.
#[derive(Serialize, Deserialize)]
struct Stored(String, SegmentFormat, String);

/// Where a rendition usually lies: `stream/rendition/seq-hash.extension`.
fn usual_key(key: &ResultKey, name: &str, format: SegmentFormat) -> String {
    let hash = hex::encode(key.hash.get(..8).unwrap_or_default());
    format!("{}/{name}/{}-{hash}.{}", key.stream, key.seq, format.extension())
}

/// Redis keeps a hash of short values in a third of the room.
fn to_stored(key: &ResultKey, record: &ResultRecord) -> Result<Vec<u8>, StoreError> {
    let usual = |r: &StoredRendition| {
        usual_key(key, &r.name, r.format) == r.key.0
            && !r.name.is_empty()
            && !r.name.contains(char::is_control)
    };
    if record.renditions.iter().all(usual) {
        let mut short = vec![SHORT];
        for rendition in &record.renditions {
            let letter = match rendition.format {
                SegmentFormat::MpegTs => 't',
                SegmentFormat::Mp4 => 'm',
            };
            short.extend(format!("{letter}{}\n", rendition.name).bytes());
        }
        return Ok(short);
    }
    let stored = |r: &StoredRendition| Stored(r.name.clone(), r.format, r.key.0.clone());
    pack(&record.renditions.iter().map(stored).collect::<Vec<_>>(), RESULT)
}

fn from_stored(key: &ResultKey, bytes: &[u8]) -> Result<ResultRecord, StoreError> {
    let corrupt = || StoreError::Corrupt(RESULT);
    let Some(short) = bytes.strip_prefix(&[SHORT]) else {
        let stored: Vec<Stored> = unpack(bytes, RESULT)?;
        let whole =
            |Stored(name, format, at)| StoredRendition { name, format, key: SegmentKey(at) };
        return Ok(ResultRecord { renditions: stored.into_iter().map(whole).collect() });
    };
    let lines = std::str::from_utf8(short).map_err(|_| corrupt())?.lines();
    let renditions = lines.map(|line| {
        let (letter, name) = line.split_at_checked(1).ok_or_else(corrupt)?;
        let format = match letter {
            "t" => SegmentFormat::MpegTs,
            "m" => SegmentFormat::Mp4,
            _ => return Err(corrupt()),
        };
        let at = SegmentKey(usual_key(key, name, format));
        Ok(StoredRendition { name: name.to_owned(), format, key: at })
    });
    Ok(ResultRecord { renditions: renditions.collect::<Result<_, _>>()? })
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

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{B256, StreamId};

    #[test]
    fn both_forms_come_back() {
        let id = StreamId::new("show").unwrap();
        let key = ResultKey { stream: id, seq: 300, hash: B256::repeat_byte(7) };
        let usual = |name: &str, format| StoredRendition {
            name: name.into(),
            format,
            key: SegmentKey(usual_key(&key, name, format)),
        };
        let (ts, mp4) = (SegmentFormat::MpegTs, SegmentFormat::Mp4);
        let odd = StoredRendition { key: SegmentKey("x".into()), ..usual("odd", ts) };
        for (renditions, short) in [
            (vec![], true),
            (vec![usual("P240p30fps4x3", ts), usual("P360p30fps16x9", mp4)], true),
            (vec![usual("a\r", ts)], false),
            (vec![usual("a", ts), odd], false),
        ] {
            let record = ResultRecord { renditions };
            let stored = to_stored(&key, &record).unwrap();
            assert_eq!(stored[0] == SHORT, short);
            assert_eq!(from_stored(&key, &stored).unwrap(), record);
        }
        assert_eq!(field(&key).len(), 14);
        for bad in [&b""[..], b"u\n", b"ux", b"u\xff"] {
            let read = from_stored(&key, bad);
            assert!(read.is_err() || bad == b"u\n", "{bad:?}: {read:?}");
        }
    }
}
