//! Readers that take nothing. The HTTP layer asks for the next chunk when its socket, or the peer's
//! flow control, has room; a reader that has been handed a chunk and does not come back for another is
//! let go, so that its place and its segment's memory are free for others.

use crate::{
    channel::Subscription,
    segment::{Gone, Reader},
};
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::time::Instant;

/// The list is cleared of what has ended whenever it has grown to twice what was left the last time.
const CLEAR_FROM: usize = 64;

/// What a reader holds while its answer lasts.
#[derive(Debug)]
pub(crate) struct Held {
    reader: Reader,
    /// Given back when this is dropped.
    _place: Subscription,
}

impl Held {
    pub fn new(reader: Reader, place: Subscription) -> Self {
        Self { reader, _place: place }
    }
}

/// Where a reader's things lie while it is the peer's turn. Empty while it is ours, at the end, and
/// once they were taken away.
#[derive(Debug, Default)]
pub(crate) struct Lap(Mutex<Option<(Instant, Held)>>);

impl Lap {
    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Held)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer has a chunk. Told so, it is its turn from now on.
    pub fn put(&self, held: Held, now: Instant) {
        *self.lock() = Some((now, held));
    }

    /// The peer is back. None: too late.
    pub fn take(&self) -> Option<Held> {
        self.lock().take().map(|(_, held)| held)
    }

    /// The next chunk; what it was taken for lies here again before it is handed over.
    pub async fn next(&self) -> Option<Result<Bytes, Gone>> {
        let Some(mut held) = self.take() else { return Some(Err(Gone)) };
        let chunk = held.reader.next().await?;
        self.put(held, Instant::now());
        Some(chunk)
    }

    fn take_if_older(&self, now: Instant, patience: Duration) -> Option<Held> {
        let mut lap = self.lock();
        let since = lap.as_ref().map(|(since, _)| *since)?;
        if now.saturating_duration_since(since) < patience {
            return None;
        }
        lap.take().map(|(_, held)| held)
    }
}

/// All readers over HTTP whose segment has begun.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    list: Mutex<(Vec<Weak<Lap>>, usize)>,
}

impl Stalls {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Weak<Lap>>, &mut usize) -> T) -> T {
        let mut guard = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, clear_at) = &mut *guard;
        work(list, clear_at)
    }

    /// A lap for a reader that is about to be handed its first chunk.
    pub fn lap(&self, held: Held, now: Instant) -> Arc<Lap> {
        let lap = Arc::new(Lap::default());
        lap.put(held, now);
        self.with(|list, clear_at| {
            if list.len() >= (*clear_at).max(CLEAR_FROM) {
                list.retain(|lap| lap.strong_count() > 0);
                *clear_at = 2 * list.len();
            }
            list.push(Arc::downgrade(&lap));
        });
        lap
    }

    /// Lets go whoever has taken nothing for `patience`; how many.
    pub fn expire(&self, now: Instant, patience: Duration) -> usize {
        let mut gone = Vec::new();
        self.with(|list, _| {
            list.retain(|lap| {
                let Some(lap) = lap.upgrade() else { return false };
                let held = lap.take_if_older(now, patience);
                let stays = held.is_none();
                gone.extend(held);
                stays
            });
        });
        // Dropped here: giving places back takes other locks.
        gone.len()
    }
}
