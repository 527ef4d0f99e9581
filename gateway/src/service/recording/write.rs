//! Storing a finished segment and indexing it; or only putting its files where the pusher or the webhook
//! wants them too (`objectStore`).

use super::{RecordingError, Recordings};
use crate::{
    clock,
    media::{
        config_header::StoreUrl,
        recording::{Index, Run, Track, folder_name},
    },
};
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use penstock_store::{RecordStore, StoreError, UnixMs};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::task::TaskTracker;

/// The pusher's answer waits so long for its segment to be recorded; then it goes on by itself.
const WAIT: Duration = Duration::from_secs(2);
/// A store for which one has waited in vain is not waited for again for so long.
const NOT_WAITED_FOR: Duration = Duration::from_secs(30);
/// For all of one segment; a store that is slower loses it, and the stream goes on
/// (ingest-playback.md section 7).
const RECORD_TIME: Duration = Duration::from_secs(60);
/// Tries of one file, and the pause after the first.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);
/// Segments in one part of an index, each of which rewrites its part; and how long one may grow.
const PART_SEGMENTS: usize = 60;
pub(super) const PART_MS: u64 = 3_600_000;

/// A finished segment.
#[derive(Debug)]
pub struct Recorded {
    /// The store that was named for the stream, if one was.
    pub store: Option<StoreUrl>,
    /// The recording's name.
    pub name: String,
    /// Which counting of the pusher.
    pub run: Run,
    /// Its number.
    pub seq: u64,
    /// Milliseconds.
    pub duration_ms: u32,
    /// Its times do not go on.
    pub discontinuity: bool,
    /// Tells it from another of its number.
    pub mark: String,
    /// Source first.
    pub files: Vec<(Track, SegmentFormat, Bytes)>,
}

/// A finished segment's files for a store that was named for the stream, where they are plainly
/// `{stream}/{rendition}/{seq}.{ts|mp4}` as with the reference. Nothing here reads them again.
#[derive(Debug)]
pub struct Uploaded {
    /// The store.
    pub store: StoreUrl,
    /// The stream's name, as in recordings.
    pub name: String,
    /// The segment's number.
    pub seq: u64,
    /// Rendition, source first.
    pub files: Vec<(String, SegmentFormat, Bytes)>,
}

/// What is stored behind a pusher's answer, if it takes long.
struct Storing {
    /// The store's address; the operator's own has none.
    store: String,
    name: String,
    seq: u64,
    bytes: usize,
    /// Counters of what was stored and what was not.
    done: &'static str,
    lost: &'static str,
}

/// A part of an index in work.
#[derive(Debug)]
pub(super) struct Part {
    name: String,
    begun: UnixMs,
    segments: usize,
    index: Index,
}

impl Part {
    fn new(now: UnixMs) -> Self {
        // Nanoseconds, as in the reference; parts of one run and replica follow each other.
        let name = format!("playlist_{}{:06}.json", now.0, rand::random_range(0..1_000_000));
        Self { name, begun: now, segments: 0, index: Index::default() }
    }

    fn is_full(&self, now: UnixMs) -> bool {
        self.segments >= PART_SEGMENTS || now.since_ms(self.begun) >= PART_MS
    }
}

impl Recordings {
    /// Stores a segment and indexes it. What cannot be stored in time is missing in the recording,
    /// nowhere else: a store that is slow or away does not hold up the stream.
    pub async fn record(self: &Arc<Self>, jobs: &TaskTracker, segment: Recorded) {
        let storing = Storing {
            store: segment.store.as_ref().map(|url| url.0.clone()).unwrap_or_default(),
            name: segment.name.clone(),
            seq: segment.seq,
            bytes: segment.files.iter().map(|(_, _, data)| data.len()).sum(),
            done: "penstock_gateway_segments_recorded_total",
            lost: "penstock_gateway_segments_unrecorded_total",
        };
        let recordings = Arc::clone(self);
        self.behind(jobs, storing, async move { recordings.store_all(segment).await }).await;
    }

    /// Puts a segment's files into the store that was named for them, on the same terms.
    pub async fn upload(self: &Arc<Self>, jobs: &TaskTracker, segment: Uploaded) {
        let storing = Storing {
            store: segment.store.0.clone(),
            name: segment.name.clone(),
            seq: segment.seq,
            bytes: segment.files.iter().map(|(_, _, data)| data.len()).sum(),
            done: "penstock_gateway_segments_uploaded_total",
            lost: "penstock_gateway_segments_not_uploaded_total",
        };
        let recordings = Arc::clone(self);
        self.behind(jobs, storing, async move { recordings.upload_all(segment).await }).await;
    }

    async fn behind(
        &self,
        jobs: &TaskTracker,
        what: Storing,
        work: impl Future<Output = Result<(), RecordingError>> + Send + 'static,
    ) {
        let Storing { store, name, seq, bytes, done, lost } = what;
        let Some(room) = self.room.take(&store, bytes) else {
            metrics::counter!(lost).increment(1);
            tracing::warn!(name, seq, "a segment is not stored: the store is too slow");
            return;
        };
        let work = jobs.spawn(async move {
            let _room = room;
            let reason = match tokio::time::timeout(RECORD_TIME, work).await {
                Ok(Ok(())) => {
                    metrics::counter!(done).increment(1);
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the store is too slow".to_owned(),
            };
            metrics::counter!(lost).increment(1);
            tracing::warn!(name, seq, reason, "a segment is not stored, or not wholly");
        });
        // Whether it came to an end or not: it goes on either way.
        self.wait_for(store, WAIT, work).await;
    }

    async fn upload_all(&self, segment: Uploaded) -> Result<(), RecordingError> {
        let Some(store) = self.store(Some(&segment.store))? else { return Ok(()) };
        let puts = segment.files.into_iter().map(|(rendition, format, data)| {
            let file = format!("{}.{}", segment.seq, format.extension());
            let name = format!("{}/{}/{file}", segment.name, folder_name(&rendition));
            let store = &store;
            async move { put(store, &name, data, format.content_type()).await }
        });
        let all = futures::future::join_all(puts).await;
        all.into_iter().collect::<Result<(), _>>().map_err(Into::into)
    }

    /// Waits for a store, unless it kept somebody waiting in vain lately: one that hangs would hold up
    /// each segment anew.
    async fn wait_for(&self, store: String, wait: Duration, work: impl Future) {
        if self.slow.get(&store, Some(NOT_WAITED_FOR), Instant::now()).is_some() {
            return;
        }
        if tokio::time::timeout(wait, work).await.is_err() {
            metrics::counter!("penstock_gateway_record_store_slow_total").increment(1);
            let seconds = NOT_WAITED_FOR.as_secs();
            tracing::warn!(
                seconds,
                "an object store is slow: pushers do not wait for it for a while"
            );
            self.slow.put(&store, (), Instant::now());
        }
    }

    async fn store_all(&self, segment: Recorded) -> Result<(), RecordingError> {
        let Some(store) = self.store(segment.store.as_ref())? else { return Ok(()) };
        let folder = format!("{}/{}", segment.name, segment.run.folder(&self.replica));
        let puts =
            segment.files.into_iter().map(|(track, format, data)| {
                let file = format!("{}-{}.{}", segment.seq, segment.mark, format.extension());
                let name = format!("{folder}/{}/{file}", folder_name(&track.name));
                let store = &store;
                async move {
                    put(store, &name, data, format.content_type()).await.map(|()| (track, name))
                }
            });
        // What is stored is indexed, even if another rendition is not.
        let mut failed = None;
        let mut files = Vec::new();
        for one in futures::future::join_all(puts).await {
            match one {
                Ok(file) => files.push(file),
                Err(error) => failed = Some(error),
            }
        }
        if let (true, Some(error)) = (files.is_empty(), &failed) {
            return Err(error.clone().into());
        }
        let place = match &segment.store {
            Some(StoreUrl(address)) => format!("{address} {folder}"),
            None => folder.clone(),
        };
        let now = clock::now();
        let part = self
            .parts
            .get_or(&place, Instant::now(), || Arc::new(tokio::sync::Mutex::new(Part::new(now))));
        let mut part = part.lock().await;
        if part.is_full(now) {
            *part = Part::new(now);
        }
        part.index.add(segment.seq, segment.duration_ms, segment.discontinuity, &files);
        part.segments += 1;
        let text =
            serde_json::to_vec(&part.index).map_err(|_| StoreError::Corrupt("part of an index"))?;
        put(&store, &format!("{folder}/{}", part.name), text.into(), "application/json").await?;
        self.read.forget(&super::read::place(segment.store.as_ref(), &segment.name));
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

async fn put(
    store: &RecordStore,
    name: &str,
    data: Bytes,
    kind: &'static str,
) -> Result<(), StoreError> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match store.put(name, data.clone(), kind).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(name, %error, "a recorded file is stored again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 8;
    }
    store.put(name, data, kind).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_end() {
        let mut part = Part::new(UnixMs(5));
        assert!(crate::media::recording::is_part(&part.name));
        assert!(!part.is_full(UnixMs(5 + PART_MS - 1)) && part.is_full(UnixMs(5 + PART_MS)));
        part.segments = PART_SEGMENTS;
        assert!(part.is_full(UnixMs(5)));
    }

    #[tokio::test]
    async fn a_store_that_hangs_is_waited_for_once() {
        use futures::{FutureExt as _, future::pending};
        let settings = crate::config::record::RecordSettings { store: None, retention_ms: None };
        let outside = (penstock_clients::Reach::PublicOnly, penstock_clients::Names::default());
        let recordings = Recordings::new(&settings, outside, "a-replica").unwrap();
        let wait = |store: &str, wait| recordings.wait_for(store.into(), wait, pending::<()>());
        let hour = Duration::from_secs(3_600);
        assert!(wait("hangs", hour).now_or_never().is_none());
        wait("hangs", Duration::from_millis(1)).await;
        assert!(wait("hangs", hour).now_or_never().is_some(), "not again");
        assert!(wait("another", hour).now_or_never().is_none());
    }
}
