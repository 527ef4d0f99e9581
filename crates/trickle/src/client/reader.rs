//! A segment that is being read.

use super::{ClientError, Wait, error::failed, get::Begun};
use crate::wire::Seq;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use std::time::Duration;
use tokio::time::timeout;

/// A segment that is being read. Dropping it leaves the rest unread.
#[derive(Debug)]
pub struct SegmentReader {
    begun: Begun,
    skipped: u64,
    silence: Duration,
}

impl SegmentReader {
    pub(super) fn new(begun: Begun, skipped: u64, silence: Duration) -> Self {
        Self { begun, skipped, silence }
    }

    /// Its number.
    pub fn seq(&self) -> Seq {
        self.begun.seq
    }

    /// The number after the segment begun last, when this one was asked for. Servers do not say it
    /// to readers who waited for their segment to begin.
    pub fn latest(&self) -> Option<u64> {
        self.begun.latest
    }

    /// Segments that were missed between the one before it and this one.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The channel's media type, if the server said it.
    pub fn mime(&self) -> Option<&str> {
        self.begun.response.headers().get(CONTENT_TYPE)?.to_str().ok()
    }

    /// The next chunk as it comes; `None` at the end. After an error the segment may be read anew
    /// from its beginning, as long as the server has it.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        match timeout(self.silence, self.begun.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| failed(&error)),
            Err(_) => Err(ClientError::Deadline(Wait::Silence)),
        }
    }

    /// The whole rest, of at most `max_bytes`.
    pub async fn bytes(&mut self, max_bytes: usize) -> Result<Bytes, ClientError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() > max_bytes.saturating_sub(whole.len()) {
                let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
                return Err(ClientError::TooLong { max_bytes });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}
