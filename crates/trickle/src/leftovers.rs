//! Segments that have left their channel while somebody still reads or writes them. A reader may
//! take its time with them, but neither forever nor at the cost of what is written now.

use crate::segment::Segment;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::time::Instant;

/// Names a channel among those of its server, also those of the same name before and after it.
pub(crate) type ChannelId = u64;

/// The list is cleared of what has ended whenever it has grown to twice what was left the last time.
const CLEAR_FROM: usize = 64;

#[derive(Debug)]
struct Leftover {
    channel: ChannelId,
    /// When it left, or when it was last seen being written.
    since: Instant,
    segment: Weak<Segment>,
}

#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    list: Mutex<(Vec<Leftover>, usize)>,
}

impl Leftovers {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Leftover>, &mut usize) -> T) -> T {
        let mut guard = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, clear_at) = &mut *guard;
        work(list, clear_at)
    }

    /// Takes a segment that has left its channel. One that nobody uses ends here.
    pub fn add(&self, channel: ChannelId, now: Instant, segment: Arc<Segment>) {
        if Arc::strong_count(&segment) == 1 {
            return;
        }
        let leftover = Leftover { channel, since: now, segment: Arc::downgrade(&segment) };
        drop(segment);
        self.with(|list, clear_at| {
            if list.len() >= (*clear_at).max(CLEAR_FROM) {
                list.retain(|l| l.segment.strong_count() > 0);
                *clear_at = 2 * list.len();
            }
            list.push(leftover);
        });
    }

    /// Gives up what closed longer than `grace` ago.
    pub fn expire(&self, now: Instant, grace: Duration) {
        self.with(|list, _| {
            list.retain_mut(|leftover| {
                let Some(segment) = leftover.segment.upgrade() else { return false };
                if !segment.is_closed() {
                    leftover.since = now;
                    return true;
                }
                let expired = now.duration_since(leftover.since) >= grace;
                if expired {
                    segment.purge();
                }
                !expired
            });
        });
    }

    /// Gives up whatever is closed, of one channel or of all, at once: memory is needed.
    pub fn relieve(&self, channel: Option<ChannelId>) {
        self.with(|list, _| {
            list.retain(|leftover| {
                let Some(segment) = leftover.segment.upgrade() else { return false };
                let given_up = channel.is_none_or(|c| c == leftover.channel) && segment.is_closed();
                if given_up {
                    segment.purge();
                }
                !given_up
            });
        });
    }

    /// The channel is closed: what is still written of it ends.
    pub fn close(&self, channel: ChannelId) {
        self.with(|list, _| {
            for leftover in list.iter().filter(|l| l.channel == channel) {
                if let Some(segment) = leftover.segment.upgrade() {
                    segment.close_deaf();
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, wire::Seq};
    use bytes::Bytes;

    fn written(budget: &Arc<Budget>) -> Arc<Segment> {
        let segment = Segment::new(Seq::ZERO, Arc::clone(budget), 1 << 20);
        segment.append(Bytes::from_static(b"x"), |_| {}).unwrap();
        segment
    }

    #[test]
    fn readers_have_their_grace_and_no_more() {
        let (budget, leftovers) = (Arc::new(Budget::new(1 << 20)), Leftovers::default());
        let (closed, open) = (written(&budget), written(&budget));
        closed.close_deaf();
        let (start, grace) = (Instant::now(), Duration::from_secs(30));
        leftovers.add(1, start, Arc::clone(&closed));
        leftovers.add(1, start, Arc::clone(&open));
        leftovers.expire(start + grace / 2, grace);
        let both = budget.held();
        leftovers.expire(start + grace, grace);
        assert_eq!(budget.held(), both / 2, "the one that is written stays");
        leftovers.close(2);
        assert!(!open.is_closed());
        leftovers.close(1);
        leftovers.relieve(Some(2));
        assert_eq!(budget.held(), both / 2);
        leftovers.relieve(None);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn the_list_forgets_what_has_ended() {
        let (budget, leftovers) = (Arc::new(Budget::new(1 << 30)), Leftovers::default());
        for _ in 0..10 * CLEAR_FROM {
            let segment = written(&budget);
            leftovers.add(1, Instant::now(), Arc::clone(&segment));
        }
        assert!(leftovers.with(|list, _| list.len()) <= CLEAR_FROM + 1);
        assert_eq!(budget.held(), 0);
    }
}
