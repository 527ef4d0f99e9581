//! What viewers get: playlists and segments of the live window, and the state of streams.

use super::{
    Gateway,
    error::JobError,
    kept::{Kept, bytes_of},
};
use crate::{
    clock,
    media::{
        dash,
        fmp4::{Cut, Want},
        playlist,
    },
};
use bytes::Bytes;
use penstock_domain::StreamId;
use penstock_store::{HlsWindow, SegmentKey, StoredSegment, StreamRecord, UnixMs};
use std::{sync::Arc, thread::available_parallelism};

/// Streams listed at most.
pub const MAX_LISTED: usize = 50;

/// Bytes of files kept for viewers, and of pieces for DASH players.
const KEPT_BYTES: usize = 64 << 20;
/// Files fetched from the segment store at a time.
const FETCHED: usize = 16;

/// A file of the segment store.
#[derive(Debug)]
pub struct File(StoredSegment);

impl AsRef<[u8]> for File {
    fn as_ref(&self) -> &[u8] {
        &self.0.data
    }
}

/// What viewers were given lately.
#[derive(Debug)]
pub struct Shown {
    /// Files of the segment store.
    pub files: Kept<SegmentKey, File>,
    /// Pieces made of them for DASH players, as many at a time as there are processors.
    pub pieces: Kept<Piece, Bytes>,
}

impl Default for Shown {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            files: Kept::new(KEPT_BYTES, FETCHED, |file| file.0.data.len()),
            pieces: Kept::new(KEPT_BYTES, processors, Bytes::len),
        }
    }
}

/// What a piece is made of, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Piece {
    file: SegmentKey,
    begin_ms: u64,
    number: u32,
    want: Want,
    init: bool,
}

/// A piece of a DASH presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DashPart {
    /// Which timeline: a stream that begins again has another one.
    pub epoch: UnixMs,
    /// Which piece of it.
    pub which: Which,
}

/// See [`DashPart`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The segment that begins there.
    At(u64),
    /// The initialisation of a period.
    Init(u64),
}

impl Piece {
    fn of(&self, transport_stream: &[u8]) -> Option<Vec<u8>> {
        let cut = Cut::of_ts(transport_stream, self.begin_ms)?;
        if self.want == Want::Audio && cut.audio.is_none() {
            return None;
        }
        Some(match self.init {
            true => cut.init(self.want),
            false => cut.fragment(self.number, self.want),
        })
    }
}

impl Gateway {
    /// The window as of now.
    pub async fn live_window(&self, stream: &StreamId) -> Result<Option<HlsWindow>, JobError> {
        let now = clock::now();
        let Some(mut window) = self.store.window(stream, now).await? else { return Ok(None) };
        window.advance(self.hls, now);
        Ok(Some(window))
    }

    /// `/stream/{stream}.m3u8`
    pub async fn master_playlist(&self, stream: &StreamId) -> Result<Option<String>, JobError> {
        Ok(self.live_window(stream).await?.and_then(|w| playlist::master(stream, &w)))
    }

    /// `/stream/{stream}/{rendition}.m3u8`
    pub async fn media_playlist(
        &self,
        stream: &StreamId,
        rendition: &str,
    ) -> Result<Option<String>, JobError> {
        let window = self.live_window(stream).await?;
        let over = |w: &HlsWindow| self.window_is_over(w);
        Ok(window.and_then(|w| playlist::media(stream, rendition, &w, self.hls, over(&w))))
    }

    /// Whether a window will not grow: nothing was published for `--stream-idle-ms`, and for longer
    /// than two of its segments last. A push makes it grow again, at a discontinuity.
    pub fn window_is_over(&self, window: &HlsWindow) -> bool {
        let newest = window.entries.iter().chain(&window.waiting).max_by_key(|entry| entry.at);
        newest.is_some_and(|entry| {
            let silence = clock::now().since_ms(entry.at);
            silence >= self.settings.video.stream_idle_ms.max(u64::from(entry.duration_ms) * 2)
        })
    }

    /// `/stream/{stream}.mpd`
    pub async fn dash_manifest(&self, stream: &StreamId) -> Result<Option<String>, JobError> {
        let Some(window) = self.live_window(stream).await? else { return Ok(None) };
        let over = self.window_is_over(&window);
        Ok(dash::manifest(stream, &window, self.hls, over, clock::now()))
    }

    /// `/stream/{stream}/{rendition}/{epoch}-{time}.m4v`, or its initialisation segment: made of the
    /// transport stream; caches may keep it for good.
    pub async fn dash_part(
        &self,
        stream: &StreamId,
        rendition: &str,
        part: DashPart,
        want: Want,
    ) -> Result<Option<Bytes>, JobError> {
        let Some(window) = self.live_window(stream).await? else { return Ok(None) };
        if window.epoch != part.epoch {
            return Ok(None);
        }
        let place = dash::placed(&window).into_iter().find(|place| match part.which {
            Which::At(ms) => place.begin_ms + dash::LEAD_MS == ms,
            Which::Init(period) => place.period == period && place.entry.file(rendition).is_some(),
        });
        let Some(place) = place else { return Ok(None) };
        let Some(key) = place.entry.file(rendition) else { return Ok(None) };
        let piece = Piece {
            file: key.clone(),
            begin_ms: place.begin_ms + dash::LEAD_MS,
            number: u32::try_from(place.entry.seq & 0x7fff_ffff).unwrap_or(0) + 1,
            want,
            init: matches!(part.which, Which::Init(_)),
        };
        let make = |place| async {
            let Some(found) = self.file(key).await? else { return Ok(None) };
            let piece = piece.clone();
            let made = tokio::task::spawn_blocking(move || {
                let made = piece.of(found.as_ref().as_ref());
                drop(place);
                made
            });
            let made = made.await.map_err(|error| JobError::Internal(error.to_string()))?;
            Ok(made.map(Bytes::from))
        };
        let made: Result<_, JobError> = self.shown.pieces.get(&piece, make).await;
        Ok(made?.map(bytes_of))
    }

    /// A file of the segment store.
    async fn file(&self, key: &SegmentKey) -> Result<Option<Arc<File>>, JobError> {
        let fetch = |_| async { Ok(self.segments.get(key, clock::now()).await?.map(File)) };
        self.shown.files.get(key, fetch).await
    }

    /// `/stream/{stream}/{rendition}/{seq}.ts`, and what tells its bytes from others; `mark` as in
    /// the playlist, if it was given.
    pub async fn media_segment(
        &self,
        stream: &StreamId,
        rendition: &str,
        seq: u64,
        mark: Option<&str>,
    ) -> Result<Option<(StoredSegment, String)>, JobError> {
        let now = clock::now();
        let window = self.store.window(stream, now).await?;
        let Some(key) = window.as_ref().and_then(|w| w.file(rendition, seq, mark)) else {
            return Ok(None);
        };
        let Some(found) = self.file(key).await? else { return Ok(None) };
        let name = key.0.rsplit('/').next().unwrap_or_default();
        let hash = name.rsplit_once('-').and_then(|(_, rest)| rest.split('.').next());
        let tag = format!("{}-{:x}", hash.unwrap_or_default(), found.0.data.len());
        let format = found.0.format;
        Ok(Some((StoredSegment { data: bytes_of(found), format }, tag)))
    }

    /// The streams used last.
    pub async fn streams(&self) -> Result<Vec<(StreamId, StreamRecord)>, JobError> {
        Ok(self.store.recent_streams(MAX_LISTED, clock::now()).await?)
    }

    /// One stream's record and window.
    pub async fn stream_state(
        &self,
        stream: &StreamId,
    ) -> Result<Option<(StreamRecord, HlsWindow)>, JobError> {
        let Some(found) = self.store.stream(stream, clock::now()).await? else { return Ok(None) };
        let window = self.live_window(stream).await?.unwrap_or_default();
        Ok(Some((found.value, window)))
    }
}
