//! One segment: written by whoever claims it, read by any number from its first byte on, closed once.

use crate::{
    budget::{Bound, Budget},
    error::Refusal,
    pages::{Need, Pages},
    wire::Seq,
};
use bytes::Bytes;
use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use thiserror::Error;
use tokio::sync::Notify;

/// A reader was so slow that its segment, long out of the channel, was given up: the rest is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the segment is gone: it was read too slowly")]
pub struct Gone;

#[derive(Debug)]
pub(crate) struct Segment {
    seq: Seq,
    budget: Arc<Budget>,
    max_bytes: u64,
    inner: Mutex<Inner>,
    /// Told of every append and of the close.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    pages: Pages,
    /// Bytes taken of the budget.
    charged: u64,
    closed: bool,
    /// What arrives now reaches nobody: do not keep it.
    deaf: bool,
    /// The payload, of so many chunks, was given up.
    purged: Option<usize>,
    /// It has left its channel while it was written: closed with its last writer.
    orphan: bool,
    writers: usize,
}

enum Peek {
    Chunk(Bytes),
    End,
    Gone,
    Wait,
}

impl Segment {
    pub fn new(seq: Seq, budget: Arc<Budget>, max_bytes: u64) -> Arc<Self> {
        let inner = Mutex::default();
        Arc::new(Self { seq, budget, max_bytes, inner, changed: Notify::new() })
    }

    pub fn seq(&self) -> Seq {
        self.seq
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends, and wakes all readers. `relieve` is asked, once, to free memory when a bound is met.
    pub fn append(&self, mut chunk: Bytes, relieve: impl Fn(Bound)) -> Result<(), Refusal> {
        let done = loop {
            let need = {
                let mut inner = self.lock();
                if inner.deaf {
                    return Ok(());
                }
                inner.pages.append(&mut chunk)
            };
            let Some(need) = need else { break Ok(()) };
            // Not under the lock: relief locks other segments.
            if let Err(refusal) = self.grant(need, &relieve) {
                break Err(refusal);
            }
        };
        self.changed.notify_waiters();
        done
    }

    fn grant(&self, need: Need, relieve: impl Fn(Bound)) -> Result<(), Refusal> {
        let left = self.max_bytes.saturating_sub(self.lock().charged);
        let full = Refusal::SegmentFull { max_bytes: self.max_bytes };
        let need = need.within(left).ok_or(full)?;
        let bytes = need.bytes();
        if let Err(bound) = self.budget.take(bytes) {
            relieve(bound);
            self.budget.take(bytes).map_err(|bound| match bound {
                Bound::Own => Refusal::ChannelFull,
                Bound::Whole => Refusal::ServerFull,
            })?;
        }
        let mut inner = self.lock();
        if inner.deaf {
            drop(inner);
            self.budget.give_back(bytes);
        } else {
            inner.charged += bytes;
            inner.pages.grant(need);
        }
        Ok(())
    }

    /// No more is to come: readers end after what is there. Twice is once.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// The same, and whatever a writer still sends is dropped: nobody new can come to read it.
    pub fn close_deaf(&self) {
        {
            let mut inner = self.lock();
            inner.closed = true;
            inner.deaf = true;
        }
        self.changed.notify_waiters();
    }

    /// Gives up the payload of a closed segment; whoever still reads it is told so.
    pub fn purge(&self) {
        let freed = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.deaf = true;
            let chunks = inner.pages.len();
            inner.purged.get_or_insert(chunks);
            inner.pages.clear();
            std::mem::take(&mut inner.charged)
        };
        self.budget.give_back(freed);
        self.changed.notify_waiters();
    }

    /// It has left its channel without a successor having been written: whoever writes it goes on,
    /// and nobody else ever can.
    pub fn orphan(&self) {
        let close = {
            let mut inner = self.lock();
            inner.orphan = true;
            inner.writers == 0
        };
        if close {
            self.close_deaf();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Neither written nor closed.
    pub fn is_fresh(&self) -> bool {
        let inner = self.lock();
        !inner.closed && inner.pages.is_empty()
    }

    pub fn writer_comes(&self) {
        self.lock().writers += 1;
    }

    pub fn writer_goes(&self) {
        let close = {
            let mut inner = self.lock();
            inner.writers = inner.writers.saturating_sub(1);
            inner.orphan && inner.writers == 0
        };
        if close {
            self.close_deaf();
        }
    }

    /// Waits for the close.
    pub async fn closed(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    fn peek(&self, at: usize) -> Peek {
        let inner = self.lock();
        match inner.pages.get(at) {
            _ if inner.purged.is_some_and(|chunks| at < chunks) => Peek::Gone,
            Some(chunk) => Peek::Chunk(chunk.clone()),
            None if inner.closed => Peek::End,
            None => Peek::Wait,
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.give_back(inner.charged);
    }
}

/// One reader's place in a segment. It holds no payload: only what it handed out last is held by
/// whoever took it.
#[derive(Debug)]
pub(crate) struct Reader {
    segment: Arc<Segment>,
    at: usize,
}

impl Reader {
    pub fn new(segment: Arc<Segment>) -> Self {
        Self { segment, at: 0 }
    }

    pub fn seq(&self) -> Seq {
        self.segment.seq
    }

    pub fn segment(&self) -> Arc<Segment> {
        Arc::clone(&self.segment)
    }

    /// The next chunk, as soon as there is one; `None` at the end. Safe to drop half-way.
    pub async fn next(&mut self) -> Option<Result<Bytes, Gone>> {
        let segment = Arc::clone(&self.segment);
        loop {
            let mut changed = pin!(segment.changed.notified());
            // Before the look: a change between the look and the wait is not missed.
            changed.as_mut().enable();
            match segment.peek(self.at) {
                Peek::Chunk(chunk) => {
                    self.at += 1;
                    return Some(Ok(chunk));
                }
                Peek::End => return None,
                Peek::Gone => return Some(Err(Gone)),
                Peek::Wait => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn segment() -> (Arc<Segment>, Arc<Budget>) {
        let budget = Arc::new(Budget::new(1 << 20));
        (Segment::new(Seq::ZERO, Arc::clone(&budget), 256 << 10), budget)
    }

    fn append(segment: &Segment, text: &'static str) -> Result<(), Refusal> {
        segment.append(Bytes::from_static(text.as_bytes()), |_| {})
    }

    #[tokio::test]
    async fn a_waiting_reader_gets_each_append_and_the_end() {
        let (segment, _) = segment();
        let mut reader = Reader::new(Arc::clone(&segment));
        assert!(reader.next().now_or_never().is_none(), "nothing yet");
        let reading = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(chunk) = reader.next().await {
                seen.extend_from_slice(&chunk.unwrap());
            }
            seen
        });
        for text in ["a", "b", "c"] {
            append(&segment, text).unwrap();
            tokio::task::yield_now().await;
        }
        segment.close();
        assert_eq!(reading.await.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn late_bytes_are_for_new_readers_until_the_segment_leaves() {
        let (segment, _) = segment();
        append(&segment, "Hello").unwrap();
        segment.close();
        append(&segment, "late").unwrap();
        let mut fresh = Reader::new(Arc::clone(&segment));
        assert_eq!(fresh.next().await.unwrap().unwrap(), "Hello");
        assert_eq!(fresh.next().await.unwrap().unwrap(), "late");
        segment.close_deaf();
        append(&segment, "lost").unwrap();
        assert_eq!(fresh.next().await, None);
    }

    #[tokio::test]
    async fn a_full_segment_refuses_and_a_purged_one_frees() {
        let (segment, budget) = segment();
        let chunk = Bytes::from(vec![1u8; 100 << 10]);
        let asked = std::cell::Cell::new(0);
        let relieve = |_| asked.set(asked.get() + 1);
        segment.append(chunk.clone(), relieve).unwrap();
        let refused = segment.append(chunk.clone(), relieve).and(segment.append(chunk, relieve));
        assert!(matches!(refused, Err(Refusal::SegmentFull { .. })), "{refused:?}");
        assert_eq!(asked.get(), 0, "relief is for the channel and the server");
        let mut reader = Reader::new(Arc::clone(&segment));
        while reader.next().now_or_never().is_some() {}
        segment.purge();
        assert_eq!(reader.next().await, None, "it had all of it");
        assert_eq!(Reader::new(Arc::clone(&segment)).next().await, Some(Err(Gone)));
        segment.purge();
        assert_eq!(Reader::new(Arc::clone(&segment)).next().await, Some(Err(Gone)));
        assert_eq!(budget.held(), 0);
        append(&segment, "x").unwrap();
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_thousand_readers_share_one_copy() {
        let (segment, budget) = segment();
        let mut readers: Vec<_> = (0..1000).map(|_| Reader::new(Arc::clone(&segment))).collect();
        segment.append(Bytes::from(vec![7u8; 50_000]), |_| {}).unwrap();
        let held = budget.held();
        let first = Reader::new(Arc::clone(&segment)).next().await.unwrap().unwrap();
        for reader in &mut readers {
            let chunk = reader.next().await.unwrap().unwrap();
            assert_eq!((chunk.as_ptr(), chunk.len()), (first.as_ptr(), 50_000));
        }
        assert_eq!(budget.held(), held);
    }

    #[test]
    fn memory_comes_back_with_the_last_reference() {
        let (segment, budget) = segment();
        append(&segment, "x").unwrap();
        let reader = Reader::new(Arc::clone(&segment));
        drop(segment);
        assert!(budget.held() > 1024);
        drop(reader);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn an_orphan_ends_with_its_last_writer() {
        let (segment, _) = segment();
        segment.writer_comes();
        segment.orphan();
        assert!(!segment.is_closed());
        segment.writer_goes();
        assert!(segment.is_closed());
        let (unwritten, _) = self::segment();
        unwritten.orphan();
        assert!(unwritten.is_closed());
    }
}
