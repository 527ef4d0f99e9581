//! Who may have a film made now: a few viewers at a time. Watching is open to strangers, so a seat must
//! not be had for good by taking the film ever so slowly. While a seat is free everybody may take their
//! time; when none is, whoever comes gets that of the slowest viewer who was waited for long enough to
//! tell.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Who takes this many bytes a second keeps the seat: less than any download, more than a film is
/// played with.
const LEAST_RATE: u64 = 256 * 1024;
/// Nobody is called slow before he was waited for so long.
const JUDGED_AFTER: Duration = Duration::from_secs(30);

/// How a film is taken. Only the time counts in which its viewer is waited for: for a slow store nobody
/// can.
#[derive(Debug, Default)]
struct Taking {
    bytes: u64,
    waited: Duration,
    /// Since when he is waited for now.
    since: Option<Instant>,
}

impl Taking {
    /// Bytes a second, if that is too little.
    fn too_slow(&self, now: Instant) -> Option<u64> {
        let now_waited = self.since.map(|since| now.saturating_duration_since(since));
        let waited = self.waited + now_waited.unwrap_or_default();
        let rate =
            self.bytes.saturating_mul(1_000) / u64::try_from(waited.as_millis()).ok()?.max(1);
        (waited >= JUDGED_AFTER && rate < LEAST_RATE).then_some(rate)
    }
}

#[derive(Debug, Clone)]
struct Taken {
    number: u64,
    taking: Arc<Mutex<Taking>>,
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    taken: Vec<Taken>,
    next: u64,
}

/// All seats of a replica.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    inner: Arc<Mutex<Inner>>,
}

/// One of them, free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Taken,
    inner: Arc<Mutex<Inner>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { most, inner: Arc::default() }
    }

    /// A free seat, or that of the slowest viewer if he is too slow.
    pub(super) fn take(&self, now: Instant) -> Option<Seat> {
        let mut inner = lock(&self.inner);
        if inner.taken.len() >= self.most && !inner.end_the_slowest(now) {
            return None;
        }
        let number = inner.next;
        inner.next += 1;
        let taken = Taken { number, taking: Arc::default(), over: CancellationToken::new() };
        inner.taken.push(taken.clone());
        Some(Seat { taken, inner: Arc::clone(&self.inner) })
    }

    /// Has the slowest viewer make room, if he is too slow.
    pub(super) fn end_the_slowest(&self, now: Instant) {
        lock(&self.inner).end_the_slowest(now);
    }
}

impl Inner {
    /// Takes the seat of the slowest viewer, if he is too slow.
    fn end_the_slowest(&mut self, now: Instant) -> bool {
        let slow = self.taken.iter().enumerate();
        let slow = slow.filter_map(|(at, t)| Some((lock(&t.taking).too_slow(now)?, at)));
        let Some((bytes_per_s, at)) = slow.min() else { return false };
        tracing::info!(bytes_per_s, "a film that is taken slowly breaks off for another viewer");
        self.taken.swap_remove(at).over.cancel();
        true
    }
}

impl Seat {
    /// Whoever has it is waited for from now on.
    pub(super) fn waits(&self, now: Instant) {
        lock(&self.taken.taking).since = Some(now);
    }

    /// He has taken so many bytes.
    pub(super) fn took(&self, bytes: usize, now: Instant) {
        let mut taking = lock(&self.taken.taking);
        let since = taking.since.take();
        taking.waited += since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        taking.bytes += bytes as u64;
    }

    /// Until somebody else has it.
    pub(super) fn lost(&self) -> WaitForCancellationFutureOwned {
        self.taken.over.clone().cancelled_owned()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.inner).taken.retain(|taken| taken.number != self.taken.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn the_slowest_of_the_slow_makes_room() {
        let (seats, begin) = (Seats::new(3), Instant::now());
        let at = |s: u64| begin + Duration::from_secs(s);
        let mut taken: Vec<_> = (0..3).map(|_| seats.take(begin).unwrap()).collect();
        taken.iter().for_each(|seat| seat.waits(begin));
        // Nobody can be told to be slow yet.
        assert!(seats.take(at(29)).is_none());
        let megabytes = |n: usize| n << 20;
        taken[0].took(megabytes(10), at(30));
        taken[1].took(megabytes(2), at(30));
        // The store was slow since, not the viewer.
        assert!(seats.take(at(900)).is_some(), "who has taken nothing goes first");
        assert!(taken[2].lost().now_or_never().is_some());
        assert!(taken[1].lost().now_or_never().is_none());
        // Whose seat is another's gives it to nobody.
        drop(taken.pop());
        let _third = seats.take(at(900)).unwrap();
        let second = seats.take(at(900)).unwrap();
        assert!(taken[1].lost().now_or_never().is_some());
        assert!(seats.take(at(900)).is_none(), "fast enough, or just come");
        drop(second);
        assert!(seats.take(at(900)).is_some());
        assert!(taken[0].lost().now_or_never().is_none());
    }
}
