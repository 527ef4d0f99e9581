//! What viewers get: playlists and segments of the live window, and the state of streams.

use super::{Gateway, error::JobError};
use crate::{clock, media::playlist};
use penstock_domain::StreamId;
use penstock_store::{HlsWindow, StoredSegment, StreamRecord};

/// Streams listed at most.
pub const MAX_LISTED: usize = 50;

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
        Ok(window.and_then(|w| playlist::media(stream, rendition, &w, self.hls)))
    }

    /// `/stream/{stream}/{rendition}/{seq}.ts`; `mark` as in the playlist, if it was given.
    pub async fn media_segment(
        &self,
        stream: &StreamId,
        rendition: &str,
        seq: u64,
        mark: Option<&str>,
    ) -> Result<Option<StoredSegment>, JobError> {
        let now = clock::now();
        let window = self.store.window(stream, now).await?;
        match window.as_ref().and_then(|w| w.file(rendition, seq, mark)) {
            Some(key) => Ok(self.segments.get(key, now).await?),
            None => Ok(None),
        }
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
