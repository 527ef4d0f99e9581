//! What a request holds of a channel while it lasts, and gives back however it ends.

use super::Channel;
use crate::{
    error::Refusal,
    segment::{Reader, Segment},
    wire::Seq,
};
use bytes::Bytes;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tokio::time::Instant;

/// One writer of one segment. Dropping it leaves the segment as it is, open if it was open: another
/// writer may go on with it.
#[derive(Debug)]
pub(crate) struct Claim {
    channel: Arc<Channel>,
    pub(super) segment: Arc<Segment>,
    begun: bool,
}

impl Claim {
    pub(super) fn new(channel: Arc<Channel>, segment: Arc<Segment>) -> Self {
        Self { channel, segment, begun: false }
    }

    pub fn seq(&self) -> Seq {
        self.segment.seq()
    }

    /// Whether a byte was appended.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Waits until the segment is closed, by whomever.
    pub async fn closed(&self) {
        self.segment.closed().await;
    }

    /// The same, without holding the claim.
    pub fn closed_handle(&self) -> impl Future<Output = ()> + Send + use<> {
        let segment = Arc::clone(&self.segment);
        async move { segment.closed().await }
    }

    /// Appends, and with the first byte the segment begins.
    pub fn append(&mut self, chunk: Bytes, now: Instant) -> Result<(), Refusal> {
        if chunk.is_empty() {
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            self.channel.begin(self.seq(), now);
        }
        let bytes = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.channel.receive(bytes, now);
        self.segment.append(chunk, |bound| self.channel.relieve(bound))
    }

    /// All was written.
    pub fn finish(self) {
        self.segment.close();
    }

    /// Nothing was written: the segment counts as begun all the same, so that nobody waits for it.
    /// Answers whether the channel is closed.
    pub fn finish_empty(self, now: Instant) -> bool {
        let standing = self.channel.begin(self.seq(), now);
        self.segment.close();
        standing.closed
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let broke = !self.segment.is_closed();
        self.channel.lock().publishers.goes(broke);
        self.channel.group.publisher_goes();
        self.segment.writer_goes();
    }
}

/// One reader's place in a channel.
#[derive(Debug)]
pub(crate) struct Subscription {
    channel: Arc<Channel>,
    /// What it reads, once it does.
    segment: Option<Arc<Segment>>,
}

impl Subscription {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel, segment: None }
    }

    /// What is read from now on.
    pub fn reads(&mut self, reader: &Reader) {
        self.segment = Some(reader.segment());
    }

    /// Counted as waiting, until it is dropped.
    pub fn waits(&self) -> Waiting {
        self.channel.shared.waiting.fetch_add(1, Relaxed);
        Waiting { channel: Arc::clone(&self.channel) }
    }
}

/// A reader whose segment has not begun.
#[derive(Debug)]
pub(crate) struct Waiting {
    channel: Arc<Channel>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.channel.shared.waiting.fetch_sub(1, Relaxed);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let broke = self.segment.as_ref().is_some_and(|segment| !segment.is_closed());
        self.channel.lock().subscribers.goes(broke);
        self.channel.group.subscriber_goes();
    }
}
