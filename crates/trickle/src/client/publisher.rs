//! Publishes segment after segment, one request ahead.

use super::{ClientError, Deadlines, Then, endpoint::Endpoint, writer::SegmentWriter};
use crate::wire::Seq;
use bytes::Bytes;

/// Where a publisher begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this number, without asking (Go node: 0).
    At(Seq),
    /// Where the channel is, and whatever was left open there is closed (SDK): for a publisher that
    /// was started again.
    Join,
}

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// Where it begins.
    pub start: Start,
    /// Media type of what it sends, and of a channel that it makes.
    pub mime: String,
    /// Deadlines.
    pub deadlines: Deadlines,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            start: Start::At(Seq::ZERO),
            mime: "video/MP2T".to_owned(),
            deadlines: Deadlines::default(),
        }
    }
}

/// Publishes into one channel.
#[derive(Debug)]
pub struct Publisher {
    endpoint: Endpoint,
    options: PublisherOptions,
    next: Option<Seq>,
    /// The request for `next`, which waits for its first byte.
    ahead: Option<SegmentWriter>,
}

impl Publisher {
    /// Opens the first segment's request. Whether the channel is there is learned with its first
    /// bytes, except with [`Start::Join`], which asks. `http` should be from
    /// [`http`](super::http()).
    pub async fn open(
        http: reqwest::Client,
        url: &str,
        options: PublisherOptions,
    ) -> Result<Self, ClientError> {
        let endpoint = Endpoint::new(http, url)?;
        let (seq, reset) = match options.start {
            Start::At(seq) => (seq, false),
            Start::Join => {
                let next = endpoint.next(options.deadlines.call).await?;
                (Seq::new(next).ok_or(ClientError::NoNumberLeft)?, true)
            }
        };
        let mut publisher = Self { endpoint, options, next: Some(seq), ahead: None };
        publisher.ahead = Some(publisher.request(seq, reset));
        Ok(publisher)
    }

    /// Makes the channel, or finds it. Servers allow it to those who may.
    pub async fn create(
        http: reqwest::Client,
        url: &str,
        options: &PublisherOptions,
    ) -> Result<(), ClientError> {
        Endpoint::new(http, url)?.create(&options.mime, options.deadlines.call).await
    }

    fn request(&self, seq: Seq, reset: bool) -> SegmentWriter {
        let PublisherOptions { mime, deadlines, .. } = &self.options;
        SegmentWriter::new(self.endpoint.clone(), seq, mime.clone(), reset, *deadlines)
    }

    /// The number of the segment that [`next_segment`](Self::next_segment) will open.
    pub fn next_seq(&self) -> Option<Seq> {
        self.next
    }

    /// The next segment to write, with the request for the one after it under way. What failed while
    /// it waited is told by its first write. Several may be written at once.
    pub fn next_segment(&mut self) -> Result<SegmentWriter, ClientError> {
        let seq = self.next.ok_or(ClientError::NoNumberLeft)?;
        let segment = self.ahead.take().unwrap_or_else(|| self.request(seq, false));
        self.next = seq.next();
        self.ahead = self.next.map(|next| self.request(next, false));
        Ok(segment)
    }

    /// Publishes one whole segment; returns when the server has it. A failure before the server
    /// had a byte was tried again once; after one the segment is closed at the server, so that
    /// readers do not wait for the rest.
    pub async fn write(&mut self, payload: Bytes) -> Result<Seq, ClientError> {
        let mut segment = self.next_segment()?;
        let seq = segment.seq();
        let written = match segment.write(payload).await {
            Ok(()) => segment.finish().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &written
            && segment.is_sent()
            && error.then() != Then::Stop
        {
            let closed = segment.abandon().await;
            tracing::debug!(%error, ?closed, %seq, "a segment was abandoned");
        }
        written
    }

    /// Lets the waiting request go and closes the channel for everybody. A channel that is gone
    /// already is closed.
    pub async fn close(self) -> Result<(), ClientError> {
        let deadline = self.options.deadlines.call;
        let closed = self.endpoint.delete(deadline).await;
        drop(self.ahead);
        match closed {
            Err(ClientError::NoChannel | ClientError::Status { status: 400, .. }) => Ok(()),
            closed => closed,
        }
    }
}
