//! Watching a channel from inside the process: whether anybody writes into it, and its end.

use crate::channel::{Attendance, Channel};
use std::sync::Arc;
use tokio::time::Instant;

/// One channel, as it was when the watch began: a later one of the same name is another.
#[derive(Debug, Clone)]
pub struct ChannelWatch {
    channel: Arc<Channel>,
}

impl ChannelWatch {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self { channel }
    }

    /// Bytes that have arrived so far, in whichever segments, whether or not they were kept.
    pub fn received_bytes(&self) -> u64 {
        self.channel.received_bytes()
    }

    /// When the last of them did.
    pub fn received_at(&self) -> Option<Instant> {
        self.channel.received_at()
    }

    /// Segments that have begun so far, those without a byte too.
    pub fn segments_begun(&self) -> u64 {
        self.channel.segments_begun()
    }

    /// Readers that it has now.
    pub fn readers(&self) -> usize {
        self.channel.subscribers()
    }

    /// Whether somebody reads it.
    pub fn reading(&self) -> Attendance {
        self.channel.reading()
    }

    /// Whether somebody writes it.
    pub fn writing(&self) -> Attendance {
        self.channel.writing()
    }

    /// Waits until the channel is closed, by whomever. Safe to drop half-way.
    pub async fn closed(&self) {
        self.channel.ended().cancelled().await;
    }

    /// Whether it was closed because nobody began anything in it for too long, and not by a peer.
    pub fn was_idle(&self) -> bool {
        self.channel.was_idle()
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.channel.ended().is_cancelled()
    }
}
