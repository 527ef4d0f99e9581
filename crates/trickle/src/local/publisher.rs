//! A publisher inside the process: it counts by itself, from 0, and never overwrites.

use crate::{TrickleServer, channel::Claim, error::Refusal, wire::Seq};
use bytes::Bytes;
use tokio::time::Instant;

/// Publishes into one channel of this process.
#[derive(Debug)]
pub struct LocalPublisher {
    server: TrickleServer,
    name: String,
    mime: String,
    next: Seq,
}

impl LocalPublisher {
    pub(crate) fn new(server: TrickleServer, name: String, mime: String) -> Self {
        Self { server, name, mime, next: Seq::ZERO }
    }

    /// Makes the channel, whatever `autocreate` says. False: there is one.
    pub fn create(&self) -> Result<bool, Refusal> {
        self.server.create(&self.name, &self.mime)
    }

    /// Opens the next segment. Fails when the channel is missing (unless publishing makes channels),
    /// and when the segment or the one after it was begun by somebody else.
    pub fn next_segment(&mut self) -> Result<LocalSegment, Refusal> {
        if self.server.settings().autocreate {
            self.create()?;
        }
        let channel = self.server.get(&self.name)?;
        let claim = channel.write_fresh(self.next, Instant::now())?;
        self.next = claim.seq().next().ok_or(Refusal::InvalidIndex)?;
        Ok(LocalSegment { claim: Some(claim) })
    }

    /// Publishes one whole segment.
    pub fn write(&mut self, payload: Bytes) -> Result<Seq, Refusal> {
        let mut segment = self.next_segment()?;
        segment.append(payload)?;
        Ok(segment.finish())
    }

    /// Closes the channel.
    pub fn close(self) -> Result<(), Refusal> {
        self.server.close(&self.name)
    }
}

/// A segment that is being written. Dropping it closes it: nobody waits for the rest.
#[derive(Debug)]
pub struct LocalSegment {
    claim: Option<Claim>,
}

impl LocalSegment {
    /// Its number.
    pub fn seq(&self) -> Seq {
        self.claim.as_ref().map(Claim::seq).unwrap_or_default()
    }

    /// Appends; readers get it at once. Never waits. After the segment was closed by others this
    /// still succeeds, as over HTTP.
    pub fn append(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        match &mut self.claim {
            Some(claim) => claim.append(chunk, Instant::now()),
            None => Ok(()),
        }
    }

    /// Closes it.
    pub fn finish(mut self) -> Seq {
        let seq = self.seq();
        self.close();
        seq
    }

    fn close(&mut self) {
        if let Some(claim) = self.claim.take() {
            claim.finish();
        }
    }
}

impl Drop for LocalSegment {
    fn drop(&mut self) {
        self.close();
    }
}
