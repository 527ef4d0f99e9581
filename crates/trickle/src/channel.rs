//! One channel: its ring of segments, which of them a request means, and who is there
//! (trickle.md sections 3 and 4).

mod attendance;
mod claim;

use crate::{
    budget::{Bound, Budget},
    error::Refusal,
    group::Group,
    leftovers::ChannelId,
    segment::{Reader, Segment},
    server::Shared,
    wire::{Position, Seq},
};
pub use attendance::Attendance;
use attendance::Side;
pub(crate) use claim::{Claim, Subscription};
use http::HeaderValue;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Channel {
    id: ChannelId,
    mime: Option<HeaderValue>,
    /// Of the process that serves it, which closes it itself.
    internal: bool,
    shared: Arc<Shared>,
    /// To which it belongs.
    group: Group,
    budget: Arc<Budget>,
    state: Mutex<State>,
    made: Instant,
    /// Bytes that writers have sent.
    received: AtomicU64,
    /// When the last of them came, in nanoseconds since it was made; 0 if none did.
    received_ns: AtomicU64,
    /// Segments that have begun, empty ones too.
    started: AtomicU64,
    /// It was closed because no segment had begun for too long.
    was_idle: AtomicBool,
    /// Cancelled when it is closed.
    ended: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// Segment `seq` lives in slot `seq mod len`.
    ring: Vec<Option<Arc<Segment>>>,
    /// The number after the segment begun last; may go back.
    next_write: u64,
    /// Creation, then the last time a segment began.
    begun: Instant,
    closed: bool,
    publishers: Side,
    subscribers: Side,
}

/// What a reader asked for.
#[derive(Debug)]
pub(crate) enum Found {
    /// A segment, with what `Lp-Trickle-Latest` was at that moment.
    Segment { reader: Reader, latest: u64 },
    /// None, too old or too far ahead.
    Missing { latest: u64, closed: bool },
}

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub next_write: u64,
    pub closed: bool,
}

impl Channel {
    pub fn new(
        id: ChannelId,
        mime: Option<HeaderValue>,
        internal: bool,
        shared: Arc<Shared>,
        group: Group,
        now: Instant,
    ) -> Arc<Self> {
        let limits = &shared.settings.limits;
        let budget = Budget::part_of(Arc::clone(&shared.budget), limits.channel_bytes);
        let state = State {
            ring: vec![None; limits.segments_per_channel],
            next_write: 0,
            begun: now,
            closed: false,
            publishers: Side::default(),
            subscribers: Side::default(),
        };
        let (budget, state) = (Arc::new(budget), Mutex::new(state));
        let ended = CancellationToken::new();
        Arc::new(Self {
            id,
            mime,
            internal,
            group,
            budget,
            state,
            made: now,
            received: AtomicU64::new(0),
            received_ns: AtomicU64::new(0),
            started: AtomicU64::new(0),
            was_idle: AtomicBool::new(false),
            ended,
            shared,
        })
    }

    pub fn mime(&self) -> Option<&HeaderValue> {
        self.mime.as_ref()
    }

    pub fn received_bytes(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// When the last byte came.
    pub fn received_at(&self) -> Option<Instant> {
        match self.received_ns.load(Relaxed) {
            0 => None,
            ns => Some(self.made + Duration::from_nanos(ns)),
        }
    }

    fn receive(&self, bytes: u64, now: Instant) {
        let ns = now.saturating_duration_since(self.made).as_nanos();
        self.received_ns.fetch_max(u64::try_from(ns).unwrap_or(u64::MAX).max(1), Relaxed);
        self.received.fetch_add(bytes, Relaxed);
    }

    pub fn segments_begun(&self) -> u64 {
        self.started.load(Relaxed)
    }

    pub fn subscribers(&self) -> usize {
        self.lock().subscribers.count
    }

    pub fn reading(&self) -> Attendance {
        self.lock().subscribers.attendance()
    }

    pub fn writing(&self) -> Attendance {
        self.lock().publishers.attendance()
    }

    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn standing(&self) -> Standing {
        let state = self.lock();
        Standing { next_write: state.next_write, closed: state.closed }
    }

    /// Whether no segment has begun for longer than `timeout`; never for one of this process's own.
    pub fn is_idle(&self, now: Instant, timeout: Duration) -> bool {
        !self.internal && now.saturating_duration_since(self.lock().begun) > timeout
    }

    /// [`Self::is_idle`], for whoever closes it because of that.
    pub fn ends_idle(&self, now: Instant, timeout: Duration) -> bool {
        let is_idle = self.is_idle(now, timeout);
        self.was_idle.fetch_or(is_idle, Relaxed);
        is_idle
    }

    /// Whether it was closed because of that.
    pub fn was_idle(&self) -> bool {
        self.was_idle.load(Relaxed)
    }

    /// The segment for a writer, made if it is not there. `reset` closes all before it.
    /// `None`: the channel was closed a moment ago.
    pub fn write(
        self: &Arc<Self>,
        at: Position,
        reset: bool,
        now: Instant,
    ) -> Result<Option<Claim>, Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Ok(None);
        }
        let seq = match at {
            Position::Next => Seq::new(state.next_write).ok_or(Refusal::InvalidIndex)?,
            Position::At(seq) => seq,
            Position::Current => return Err(Refusal::InvalidIndex),
        };
        if state.publishers.count >= self.shared.settings.limits.publishers_per_channel {
            return Err(Refusal::TooManyPublishers);
        }
        self.group.publisher_comes()?;
        let segment = self.slot_for_write(&mut state, seq, now);
        if reset {
            state.ring.iter().flatten().filter(|s| s.seq() < seq).for_each(|s| s.close());
        }
        state.publishers.comes();
        segment.writer_comes();
        Ok(Some(Claim::new(Arc::clone(self), segment)))
    }

    /// The same for a publisher in this process: neither it nor the next may be begun already.
    pub fn write_fresh(self: &Arc<Self>, seq: Seq, now: Instant) -> Result<Claim, Refusal> {
        let next = seq.next().ok_or(Refusal::InvalidIndex)?;
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::NoChannel);
        }
        let segment = self.slot_for_write(&mut state, seq, now);
        if !segment.is_fresh() {
            return Err(Refusal::Taken);
        }
        if !self.slot_for_write(&mut state, next, now).is_fresh() {
            return Err(Refusal::NextTaken);
        }
        self.group.own_publisher_comes();
        state.publishers.comes();
        segment.writer_comes();
        Ok(Claim::new(Arc::clone(self), segment))
    }

    fn slot_for_write(&self, state: &mut State, seq: Seq, now: Instant) -> Arc<Segment> {
        if let Some(there) = state.at(seq) {
            return there;
        }
        let segment = self.fresh(seq);
        if let Some(evicted) = state.put(Arc::clone(&segment)) {
            evicted.close_deaf();
            self.shared.leftovers.add(self.id, now, evicted);
        }
        segment
    }

    fn fresh(&self, seq: Seq) -> Arc<Segment> {
        let max_bytes = self.shared.settings.limits.segment_bytes;
        Segment::new(seq, Arc::clone(&self.budget), max_bytes)
    }

    /// The segment for a reader; the one that is about to begin is made for it to wait on.
    pub fn read(&self, at: Position, now: Instant) -> Result<Found, Refusal> {
        let mut state = self.lock();
        let latest = state.next_write;
        let seq = match at {
            Position::Next => Seq::new(latest).ok_or(Refusal::InvalidIndex)?,
            Position::Current => Seq::new(latest.saturating_sub(1)).unwrap_or_default(),
            Position::At(seq) => seq,
        };
        let about_to_begin = seq.get() == latest || (latest == 0 && seq.get() == 1);
        let segment = match state.at(seq) {
            Some(there) => there,
            None if about_to_begin && !state.closed => {
                let segment = self.fresh(seq);
                if let Some(dropped) = state.put(Arc::clone(&segment)) {
                    // A reader takes nothing from the writer of an older segment.
                    dropped.orphan();
                    self.shared.leftovers.add(self.id, now, dropped);
                }
                segment
            }
            None => return Ok(Found::Missing { latest, closed: state.closed }),
        };
        Ok(Found::Segment { reader: Reader::new(segment), latest })
    }

    /// A place among the channel's readers.
    pub fn subscribe(self: &Arc<Self>) -> Result<Subscription, Refusal> {
        let mut state = self.lock();
        if state.subscribers.count >= self.shared.settings.limits.subscribers_per_channel {
            return Err(Refusal::TooManySubscribers);
        }
        self.group.subscriber_comes()?;
        state.subscribers.comes();
        Ok(Subscription::new(Arc::clone(self)))
    }

    /// Closes one segment, which stays where it is.
    pub fn close_segment(&self, seq: Seq) -> Result<(), Refusal> {
        let segment = self.lock().at(seq).ok_or(Refusal::NoSegment)?;
        segment.close();
        Ok(())
    }

    /// Closes the channel and all its segments. Twice is once.
    pub fn close(&self, now: Instant) {
        let segments: Vec<_> = {
            let mut state = self.lock();
            state.closed = true;
            state.ring.iter_mut().filter_map(Option::take).collect()
        };
        for segment in segments {
            segment.close_deaf();
            self.shared.leftovers.add(self.id, now, segment);
        }
        self.shared.leftovers.close(self.id);
        self.ended.cancel();
    }

    /// A segment begins, or ends without having begun.
    fn begin(&self, seq: Seq, now: Instant) -> Standing {
        self.started.fetch_add(1, Relaxed);
        let mut state = self.lock();
        // Assigned, also backwards: a publisher that starts again takes its readers along.
        state.next_write = seq.after();
        state.begun = now;
        Standing { next_write: state.next_write, closed: state.closed }
    }

    fn relieve(&self, bound: Bound) {
        self.shared.leftovers.relieve(match bound {
            Bound::Own => Some(self.id),
            Bound::Whole => None,
        });
    }
}

impl State {
    fn slot(&mut self, seq: Seq) -> Option<&mut Option<Arc<Segment>>> {
        let len = u64::try_from(self.ring.len()).ok()?;
        let slot = usize::try_from(seq.get().checked_rem(len)?).ok()?;
        self.ring.get_mut(slot)
    }

    fn at(&mut self, seq: Seq) -> Option<Arc<Segment>> {
        self.slot(seq)?.as_ref().filter(|segment| segment.seq() == seq).cloned()
    }

    /// Puts it into its slot; what was there comes back.
    fn put(&mut self, segment: Arc<Segment>) -> Option<Arc<Segment>> {
        self.slot(segment.seq())?.replace(segment)
    }
}

#[cfg(test)]
mod tests;
