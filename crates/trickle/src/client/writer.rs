//! A segment that is being published.

use super::{ClientError, Deadlines, Then, endpoint::Endpoint, post::Post};
use crate::wire::Seq;
use bytes::Bytes;

/// What the transport is given at once.
const PIECE: usize = 64 << 10;

/// A segment that is being published. Dropping it breaks it off and leaves it open at the server;
/// [`abandon`](Self::abandon) tells readers not to wait.
#[derive(Debug)]
pub struct SegmentWriter {
    endpoint: Endpoint,
    seq: Seq,
    mime: String,
    reset: bool,
    deadlines: Deadlines,
    post: Post,
    /// The first piece, as long as it could be sent again.
    first: Option<Bytes>,
    begun: bool,
    retried: bool,
}

impl SegmentWriter {
    pub(super) fn new(
        endpoint: Endpoint,
        seq: Seq,
        mime: String,
        reset: bool,
        deadlines: Deadlines,
    ) -> Self {
        let post = Post::begin(&endpoint, seq, &mime, reset);
        Self {
            endpoint,
            seq,
            mime,
            reset,
            deadlines,
            post,
            first: None,
            begun: false,
            retried: false,
        }
    }

    /// Its number.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Whether the server may have a byte of it. If not, the whole segment may be sent again.
    pub fn is_sent(&self) -> bool {
        self.post.is_taken()
    }

    /// Whether its request is still under way. If not, the next write tells why, or begins anew.
    pub fn is_open(&self) -> bool {
        self.post.is_open()
    }

    /// Sends a chunk, and returns when there is room for another. A request that failed before it
    /// took a byte (a connection that died while it waited) is made anew, once. After an error the
    /// segment can only be abandoned.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), ClientError> {
        // In pieces, so that the deadline is about a standstill and not about a long chunk.
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(PIECE));
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), ClientError> {
        loop {
            let error = match self.post.send(piece.clone(), self.deadlines.chunk).await {
                Ok(()) => {
                    // There is room for a second piece only when the first was taken.
                    self.first = (!self.begun).then_some(piece);
                    self.begun = true;
                    return Ok(());
                }
                Err(error) => error,
            };
            self.again(error).await?;
        }
    }

    /// Ends it, and returns when the server has all of it. After an error the segment may be open at
    /// the server; abandon it.
    pub async fn finish(&mut self) -> Result<Seq, ClientError> {
        loop {
            let Err(error) = self.post.finish(self.deadlines.finish).await else {
                return Ok(self.seq);
            };
            self.again(error).await?;
        }
    }

    /// Breaks it off and closes it at the server, so that readers do not wait for the rest.
    pub async fn abandon(self) -> Result<(), ClientError> {
        let Self { endpoint, seq, deadlines, post, .. } = self;
        drop(post);
        match endpoint.close_segment(seq, deadlines.call).await {
            // It never began, or is long out of the channel: nobody waits.
            Err(ClientError::Status { status: 400, .. }) => Ok(()),
            answered => answered,
        }
    }

    /// A fresh request in the place of one that failed, if that loses nothing.
    async fn again(&mut self, error: ClientError) -> Result<(), ClientError> {
        if self.retried || self.post.is_taken() || error.then() != Then::Again {
            return Err(error);
        }
        self.retried = true;
        tracing::debug!(%error, seq = %self.seq, "the segment's request is made anew");
        self.post = Post::begin(&self.endpoint, self.seq, &self.mime, self.reset);
        match self.first.take() {
            Some(first) => self.post.send(first, self.deadlines.chunk).await,
            None => Ok(()),
        }
    }
}
