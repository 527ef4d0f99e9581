//! Recordings: each finished segment is stored for good and an index says so. Replicas write folders
//! of their own, so that nothing has to be agreed upon; reading puts the folders together. A recording
//! needs neither the session store nor the replicas that made it.

mod film;
mod kept;
mod read;
mod room;
mod seats;
mod sweep;
mod write;

pub use read::{Answer, Viewer};
pub use write::{Recorded, Uploaded};

use super::{kept as shared, stream_auth::NotAdmitted};
use crate::{
    config::record::{RecordSettings, RecordStoreKind},
    media::config_header::StoreUrl,
};
use kept::Kept;
use penstock_clients::{HttpOptions, Names, Reach, http};
use penstock_domain::SegmentFormat;
use penstock_store::{RecordStore, S3Options, StoreError};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::Semaphore;
use url::Url;

/// For one request to a bucket.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Buckets of webhooks and pushers that are held open.
const MOST_STORES: usize = 256;
/// Parts of indexes in work; with more streams than this a part holds fewer segments.
const MOST_PARTS: usize = 2_048;
/// Indexes of recordings that are remembered, in bytes of their text, and read at a time.
const INDEX_BYTES: usize = 64 << 20;
const INDEX_READS: usize = 2;
/// Viewers' URLs about which the webhook's word is remembered, in bytes, and asked about at a time: anybody
/// can make one up.
const GRANTED_BYTES: usize = 4 << 20;
const ASKED: usize = 8;
/// MP4 files that are being made, and KiB of memory for what they are made of.
const MOST_FILMS: usize = 8;
const FILMS_KIB: u32 = 512 * 1024;

/// A recording that cannot be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// No such recording, track or file; or recordings are not configured.
    #[error("not found")]
    NotFound,
    /// Neither a playlist nor a segment nor an MP4.
    #[error("recordings have .m3u8, .ts and .mp4 files")]
    Kind,
    /// There is such a track, and no MP4 can be made of it.
    #[error("an MP4 file is made of H.264 in .ts segments only, which this track has not")]
    NoFilm,
    /// Many MP4 files are being made, or many recordings read.
    #[error("too many recordings or films are being fetched")]
    Busy,
    /// The webhook.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// The record store, or the session store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a replica knows of recordings. Losing it costs nothing: a part of an index is written whole
/// with each segment, and a new process begins a new one.
#[derive(Debug)]
pub struct Recordings {
    /// `--record-store`.
    own: Option<Arc<RecordStore>>,
    /// `--record-retention-hours`.
    retention_ms: Option<u64>,
    reach: Reach,
    names: Names,
    /// Names this replica's folders.
    replica: String,
    stores: Kept<Arc<RecordStore>>,
    parts: Kept<Arc<tokio::sync::Mutex<write::Part>>>,
    /// Stores that the answers of pushers do not wait for now.
    slow: Kept<()>,
    read: shared::Kept<String, read::Runs>,
    granted: shared::Kept<String, read::Granted>,
    room: room::Room,
    films: film::Room,
}

impl Recordings {
    /// From settings; `reach` and `names` are for stores that others name.
    pub fn new(
        settings: &RecordSettings,
        (reach, names): (Reach, Names),
        replica: &str,
    ) -> Result<Self, StoreError> {
        let own = match &settings.store {
            None => None,
            Some(RecordStoreKind::Disk(path)) => Some(RecordStore::folder(path)?),
            Some(RecordStoreKind::S3(options)) => Some(RecordStore::bucket(options, None)?),
        };
        Ok(Self {
            own: own.map(Arc::new),
            retention_ms: settings.retention_ms,
            reach,
            names,
            replica: replica.get(..8).unwrap_or(replica).to_owned(),
            stores: Kept::new(MOST_STORES),
            parts: Kept::new(MOST_PARTS),
            slow: Kept::new(MOST_STORES),
            read: shared::Kept::new(INDEX_BYTES, INDEX_READS, read::Runs::bytes),
            granted: shared::Kept::new(GRANTED_BYTES, ASKED, read::Granted::bytes),
            room: room::Room::default(),
            films: film::Room {
                kib: Arc::new(Semaphore::new(FILMS_KIB as usize)),
                seats: Arc::new(seats::Seats::new(MOST_FILMS)),
            },
        })
    }

    /// Whether a stream is recorded, for which this store was named.
    pub fn records(&self, named: Option<&StoreUrl>) -> bool {
        named.is_some() || self.own.is_some()
    }

    /// The store that a webhook or a pusher named, else the operator's.
    pub fn store(&self, named: Option<&StoreUrl>) -> Result<Option<Arc<RecordStore>>, NotAdmitted> {
        let Some(StoreUrl(address)) = named else { return Ok(self.own.clone()) };
        if let Some(known) = self.stores.get(address, None, Instant::now()) {
            return Ok(Some(known));
        }
        let bad = |reason: &str| NotAdmitted::RecordStore(reason.to_owned());
        let options =
            S3Options { timeout: REQUEST_TIME, ..S3Options::with_keys(address).map_err(bad)? };
        let endpoint = options.endpoint.as_deref().and_then(|url| Url::parse(url).ok());
        if endpoint.is_some_and(|url| !self.reach.allows(&url)) {
            return Err(bad("leads into a private network"));
        }
        // Names are looked at when they are resolved, by this client.
        let client = http(&HttpOptions {
            reach: self.reach,
            names: self.names.clone(),
            read_timeout: REQUEST_TIME,
            total_timeout: Some(REQUEST_TIME),
            ..HttpOptions::default()
        });
        let client = client.map_err(|e| NotAdmitted::RecordStore(e.to_string()))?;
        let store = RecordStore::bucket(&options, Some(client))
            .map_err(|e| NotAdmitted::RecordStore(e.to_string()))?;
        let store = Arc::new(store);
        self.stores.put(address, Arc::clone(&store), Instant::now());
        Ok(Some(store))
    }
}

/// What a file is by its name.
fn format_of(name: &str) -> Option<SegmentFormat> {
    match name.rsplit_once('.')?.1 {
        "ts" => Some(SegmentFormat::MpegTs),
        "mp4" => Some(SegmentFormat::Mp4),
        _ => None,
    }
}
