//! A subscriber inside the process.

use crate::{
    TrickleServer,
    channel::Found,
    error::Refusal,
    segment::{Gone, Reader},
    wire::{Position, Seq},
};
use bytes::Bytes;
use http::HeaderValue;
use thiserror::Error;
use tokio::time::Instant;

/// Reads one channel of this process, segment by segment.
#[derive(Debug)]
pub struct LocalSubscriber {
    server: TrickleServer,
    name: String,
    at: Position,
}

/// Why there is no segment to read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LocalRead {
    /// There is no such channel (any more).
    #[error("stream not found")]
    NoChannel,
    /// The channel was closed a moment ago.
    #[error("end of stream")]
    End,
    /// The channel is there and the segment is not: read on at [`Position::Current`] or
    /// [`Position::Next`].
    #[error("seq not found")]
    NoSegment {
        /// The number after the segment begun last.
        latest: u64,
    },
    /// No segment can have that number.
    #[error("Invalid idx")]
    InvalidIndex,
}

impl LocalSubscriber {
    pub(crate) fn new(server: TrickleServer, name: String) -> Self {
        Self { server, name, at: Position::Next }
    }

    /// Reads there next.
    pub fn set_position(&mut self, at: Position) {
        self.at = at;
    }

    /// The segment at this position, which may not have begun, and goes on to the one after it.
    pub fn read(&mut self) -> Result<LocalReader, LocalRead> {
        let channel = self.server.get(&self.name).map_err(|_| LocalRead::NoChannel)?;
        match channel.read(self.at, Instant::now()) {
            Ok(Found::Segment { reader, latest }) => {
                self.at = reader.seq().next().map_or(Position::Next, Position::At);
                Ok(LocalReader { reader, latest, mime: channel.mime().cloned() })
            }
            Ok(Found::Missing { closed: true, .. }) => Err(LocalRead::End),
            Ok(Found::Missing { latest, .. }) => Err(LocalRead::NoSegment { latest }),
            Err(Refusal::NoChannel) => Err(LocalRead::NoChannel),
            Err(_) => Err(LocalRead::InvalidIndex),
        }
    }
}

/// A segment that is being read.
#[derive(Debug)]
pub struct LocalReader {
    reader: Reader,
    latest: u64,
    mime: Option<HeaderValue>,
}

impl LocalReader {
    /// Its number.
    pub fn seq(&self) -> Seq {
        self.reader.seq()
    }

    /// The number after the segment begun last, when this one was asked for.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// The channel's media type.
    pub fn mime(&self) -> Option<&str> {
        self.mime.as_ref()?.to_str().ok()
    }

    /// The next chunk, as soon as it is written; `None` at the end. It is shared with all other
    /// readers. Safe to drop half-way.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Gone>> {
        self.reader.next().await
    }

    /// Reads to the end and forgets what it read; how many bytes there were.
    pub async fn drain(&mut self) -> Result<u64, Gone> {
        let mut bytes = 0u64;
        while let Some(chunk) = self.chunk().await {
            bytes = bytes.saturating_add(u64::try_from(chunk?.len()).unwrap_or(u64::MAX));
        }
        Ok(bytes)
    }
}
