//! The HLS window of a stream: which segments its playlists show.
//!
//! The rules are pure ([`HlsWindow::insert`], [`HlsWindow::advance`]); a backend only makes them
//! atomic. They keep what RFC 8216 asks of a live playlist: the media sequence number of a segment
//! never changes and the list only grows at its end. Pushes finish out of order, so a segment behind
//! a gap waits for the gap to fill; after a while, or when very many wait, the gap is taken for a
//! loss and marked as a discontinuity. A number that has passed is a straggler while the stream is
//! being pushed, and after a silence a pusher that counts anew; but one that was skipped just there is
//! a straggler however late it comes: it was in work while its successors were shown.

use crate::{CLAIM_MS, SegmentKey, StoreError, UnixMs};
use async_trait::async_trait;
use penstock_domain::StreamId;
use serde::{Deserialize, Serialize};

/// How long the window is and how patient with gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HlsRules {
    /// Entries a playlist shows (the reference's 6).
    pub shown: usize,
    /// Entries remembered, so that a player that is behind still finds its segment (the reference
    /// keeps 12 files a rendition).
    pub kept: usize,
    /// How long a segment behind a gap waits for the missing one.
    pub gap_wait_ms: u64,
    /// With so many waiting the gap is a loss at once: a bound, for pushers far ahead of themselves.
    pub gap_waiting: usize,
}

/// How far before what was shown in its stead a straggler may be: as many segments as a pusher has in
/// work at once.
const IN_WORK: u64 = 4;

const _: () = assert!(CLAIM_MS + 1_000 < HlsRules::DEFAULT.gap_wait_ms);

impl HlsRules {
    const DEFAULT: Self = Self { shown: 6, kept: 12, gap_wait_ms: 6_000, gap_waiting: 16 };
}

impl Default for HlsRules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One variant of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsTrack {
    /// Rendition name, `source` for the pushed one.
    pub name: String,
    /// Pixels; 0 when unknown.
    pub width: u32,
    /// Pixels; 0 when unknown.
    pub height: u32,
    /// Peak bits per second.
    pub bandwidth: u64,
    /// RFC 6381, when known.
    pub codecs: Option<String>,
}

/// One segment, all its renditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsEntry {
    /// The pusher's sequence number.
    pub seq: u64,
    /// Length.
    pub duration_ms: u32,
    /// When it was published.
    pub at: UnixMs,
    /// Whether the timeline breaks before it: said by the publisher, or found by the window.
    pub discontinuity: bool,
    /// Track name and where its bytes are.
    pub files: Vec<(String, SegmentKey)>,
}

impl HlsEntry {
    /// The file of one track.
    pub fn file(&self, track: &str) -> Option<&SegmentKey> {
        self.files.iter().find(|(name, _)| name == track).map(|(_, key)| key)
    }

    /// What tells this segment's file from another of the same number: the first 8 hex digits of
    /// the content hash in its key (`…-{hash}.{extension}`), if it has one.
    pub fn mark(&self, track: &str) -> Option<&str> {
        let name = self.file(track)?.0.rsplit('/').next()?;
        let hash = name.rsplit_once('-')?.1.get(..8)?;
        hash.bytes().all(|b| b.is_ascii_hexdigit()).then_some(hash)
    }
}

/// What became of a published segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HlsInsert {
    /// Taken: shown now, or as soon as the gap before it is settled.
    Taken,
    /// This sequence number is there already, and the stream is still being pushed; or this very
    /// segment is there.
    Duplicate,
    /// Its place has passed, and the stream is still being pushed or went on without it; showing it
    /// would renumber what players have seen.
    TooLate,
}

/// A stream's tracks and segments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HlsWindow {
    /// Source first.
    pub tracks: Vec<HlsTrack>,
    /// Visible segments, oldest first, at most [`HlsRules::kept`].
    pub entries: Vec<HlsEntry>,
    /// Segments behind a gap, by sequence number.
    pub waiting: Vec<HlsEntry>,
    /// Media sequence number of the first of `entries`.
    pub media_sequence: u64,
    /// Discontinuities that have left the window.
    pub discontinuity_sequence: u64,
    /// Where the first of `entries` begins on a timeline on which each segment follows the one
    /// before, whatever their own clocks say.
    #[serde(default)]
    pub timeline_ms: u64,
    /// When that timeline began.
    #[serde(default)]
    pub epoch: UnixMs,
    /// Media sequence number at which the pusher last began to count anew: sequence numbers are
    /// compared only from there on.
    #[serde(default)]
    pub run_start: u64,
    /// The longest segment that was ever shown: players take the target duration for fixed, so that it
    /// must not fall when a long segment has left the window.
    #[serde(default)]
    pub longest_ms: u32,
}

/// Most tracks of a window: 16 renditions and the source, with room to change them once.
const MAX_TRACKS: usize = 34;

impl HlsWindow {
    /// Publishes a segment at `now`, with the tracks its files belong to.
    pub fn insert(
        &mut self,
        tracks: &[HlsTrack],
        mut entry: HlsEntry,
        rules: HlsRules,
        now: UnixMs,
    ) -> HlsInsert {
        self.advance(rules, now);
        entry.at = now;
        let mut all = self.entries.iter().chain(&self.waiting);
        if all.any(|e| e.seq == entry.seq && e.files == entry.files) {
            return HlsInsert::Duplicate;
        }
        let known = self.run().iter().chain(&self.waiting).any(|e| e.seq == entry.seq);
        let passed = self.run().last().is_some_and(|last| entry.seq <= last.seq);
        if known || passed {
            let straggler = !known && self.was_skipped(entry.seq);
            if straggler || !self.fell_silent(rules, now) {
                return if known { HlsInsert::Duplicate } else { HlsInsert::TooLate };
            }
            // A number that has passed, after a silence: the pusher has begun to count anew.
            self.entries.append(&mut self.waiting);
            self.run_start = self.media_sequence + self.entries.len() as u64;
        }
        let place = self.waiting.partition_point(|e| e.seq < entry.seq);
        self.waiting.insert(place, entry);
        self.add_tracks(tracks);
        self.advance(rules, now);
        HlsInsert::Taken
    }

    /// Lets waiting segments in whose time has come, and old ones out. Readers call this on their
    /// copy, so that a stalled stream shows its last segments without another push.
    pub fn advance(&mut self, rules: HlsRules, now: UnixMs) {
        while let Some(next) = self.waiting.first() {
            let in_order = match self.run().last() {
                Some(last) => next.seq == last.seq.saturating_add(1),
                // What begins at 0 begins at once; any other first segment may have an earlier one
                // still in work.
                None => next.seq == 0,
            };
            let waited = now.since_ms(next.at) >= rules.gap_wait_ms
                || self.waiting.len() >= rules.gap_waiting;
            if !in_order && !waited {
                break;
            }
            let mut next = self.waiting.remove(0);
            let counts_anew = self.run().is_empty();
            next.discontinuity =
                !self.entries.is_empty() && (next.discontinuity || counts_anew || !in_order);
            if self.epoch == UnixMs(0) {
                self.epoch = UnixMs(next.at.0.saturating_sub(next.duration_ms.into()));
            }
            self.longest_ms = self.longest_ms.max(next.duration_ms);
            self.entries.push(next);
        }
        while self.entries.len() > rules.kept.max(1) {
            let gone = self.entries.remove(0);
            self.media_sequence += 1;
            self.timeline_ms += u64::from(gone.duration_ms);
            self.discontinuity_sequence += u64::from(gone.discontinuity);
        }
    }

    /// What a playlist shows: the entries, the media sequence number of the first, and the
    /// discontinuity sequence before it.
    pub fn shown(&self, rules: HlsRules) -> (&[HlsEntry], u64, u64) {
        let skip = self.entries.len().saturating_sub(rules.shown);
        let (skipped, shown) = self.entries.split_at(skip);
        let breaks = skipped.iter().filter(|e| e.discontinuity).count() as u64;
        (shown, self.media_sequence + skip as u64, self.discontinuity_sequence + breaks)
    }

    /// The newest file of a track with that sequence number, and with that [`HlsEntry::mark`] if
    /// one is given: after a restart a number means two segments for a while.
    pub fn file(&self, track: &str, seq: u64, mark: Option<&str>) -> Option<&SegmentKey> {
        self.entries
            .iter()
            .rev()
            .chain(&self.waiting)
            .filter(|e| e.seq == seq && (mark.is_none() || e.mark(track) == mark))
            .find_map(|e| e.file(track))
    }

    /// One track.
    pub fn track(&self, name: &str) -> Option<&HlsTrack> {
        self.tracks.iter().find(|t| t.name == name)
    }

    /// The visible segments since the pusher last began to count.
    fn run(&self) -> &[HlsEntry] {
        let before = self.run_start.saturating_sub(self.media_sequence);
        usize::try_from(before).ok().and_then(|n| self.entries.get(n..)).unwrap_or_default()
    }

    /// Whether segments after this one were shown because it did not come.
    fn was_skipped(&self, seq: u64) -> bool {
        let run = self.run();
        let Some(after) = run.iter().position(|e| e.seq > seq) else { return false };
        let shown_instead = run.get(after).is_some_and(|e| e.seq - seq <= IN_WORK);
        // What has left the window may have been anything.
        let is_hole = after > 0 || self.run_start >= self.media_sequence;
        is_hole && shown_instead && !run.iter().any(|e| e.seq == seq)
    }

    /// Whether nothing has been published for so long that the pusher must have stopped: longer
    /// than a gap may last, and than two of its segments.
    fn fell_silent(&self, rules: HlsRules, now: UnixMs) -> bool {
        let newest = self.entries.iter().chain(&self.waiting).max_by_key(|e| e.at);
        newest.is_some_and(|e| {
            now.since_ms(e.at) >= rules.gap_wait_ms.max(u64::from(e.duration_ms) * 2)
        })
    }

    fn add_tracks(&mut self, tracks: &[HlsTrack]) {
        for track in tracks {
            if let Some(known) = self.tracks.iter_mut().find(|t| t.name == track.name) {
                // The peak is what BANDWIDTH means; the rest is as last seen.
                let bandwidth = known.bandwidth.max(track.bandwidth);
                let codecs = track.codecs.clone().or(known.codecs.take());
                *known = HlsTrack { bandwidth, codecs, ..track.clone() };
            } else if self.tracks.len() < MAX_TRACKS {
                self.tracks.push(track.clone());
            }
        }
    }
}

/// Windows by stream.
#[async_trait]
pub trait HlsStore: Send + Sync {
    /// [`HlsWindow::insert`], atomically; the window lives `ttl_ms` from `now`.
    async fn publish(
        &self,
        stream: &StreamId,
        tracks: &[HlsTrack],
        entry: HlsEntry,
        rules: HlsRules,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<HlsInsert, StoreError>;

    /// The window as last written; call [`HlsWindow::advance`] before showing it.
    async fn window(&self, stream: &StreamId, now: UnixMs)
    -> Result<Option<HlsWindow>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: HlsRules = HlsRules { shown: 6, kept: 12, gap_wait_ms: 3_000, gap_waiting: 3 };

    fn entry(seq: u64) -> HlsEntry {
        HlsEntry {
            seq,
            duration_ms: 2000,
            at: UnixMs(0),
            discontinuity: false,
            files: vec![("source".into(), SegmentKey(format!("s/{seq}")))],
        }
    }

    fn seqs(w: &HlsWindow) -> Vec<u64> {
        w.entries.iter().map(|e| e.seq).collect()
    }

    #[test]
    fn in_order_and_out_of_order() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for (seq, at) in [(0, 0), (2, 10), (1, 20), (3, 30)] {
            assert_eq!(w.insert(&[], entry(seq), r, UnixMs(at)), HlsInsert::Taken);
        }
        assert_eq!(seqs(&w), [0, 1, 2, 3]);
        assert!(w.entries.iter().all(|e| !e.discontinuity));
        assert_eq!(w.insert(&[], entry(2), r, UnixMs(40)), HlsInsert::Duplicate);
    }

    #[test]
    fn the_second_segment_may_finish_first() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        w.insert(&[], entry(1), r, UnixMs(0));
        assert_eq!(seqs(&w), [0u64; 0]);
        w.insert(&[], entry(0), r, UnixMs(1));
        assert_eq!(seqs(&w), [0, 1]);
    }

    #[test]
    fn a_gap_becomes_a_discontinuity() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        w.insert(&[], entry(0), r, UnixMs(0));
        w.insert(&[], entry(2), r, UnixMs(100));
        assert_eq!(seqs(&w), [0]);
        // A reader later sees it without another push…
        let mut seen = w.clone();
        seen.advance(r, UnixMs(3_100));
        assert_eq!(seqs(&seen), [0, 2]);
        assert!(seen.entries[1].discontinuity);
        // …and from then on its late predecessor is refused.
        assert_eq!(w.insert(&[], entry(1), r, UnixMs(3_100)), HlsInsert::TooLate);
    }

    #[test]
    fn a_publisher_may_say_that_times_break() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for seq in 0..15 {
            let e = HlsEntry { discontinuity: seq % 2 == 0, ..entry(seq) };
            w.insert(&[], e, r, UnixMs(seq));
        }
        assert!(w.entries.iter().all(|e| e.discontinuity == (e.seq % 2 == 0)));
        // What is gone still has its place on the timeline.
        assert_eq!((w.media_sequence, w.timeline_ms), (3, 6_000));
        assert_eq!(w.discontinuity_sequence, 1, "the very first breaks nothing");
    }

    #[test]
    fn enough_successors_settle_a_gap() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for seq in [0, 2, 3, 4] {
            w.insert(&[], entry(seq), r, UnixMs(1));
        }
        assert_eq!(seqs(&w), [0, 2, 3, 4]);
        assert_eq!(
            w.entries.iter().map(|e| e.discontinuity).collect::<Vec<_>>(),
            [false, true, false, false]
        );
    }

    #[test]
    fn counting_anew_is_a_discontinuity() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for seq in 5..25 {
            w.insert(&[], entry(seq), r, UnixMs(seq * 2000));
        }
        assert_eq!(w.insert(&[], entry(0), r, UnixMs(60_000)), HlsInsert::Taken);
        assert_eq!(w.insert(&[], entry(1), r, UnixMs(61_000)), HlsInsert::Taken);
        let tail: Vec<_> =
            w.entries.iter().rev().take(2).map(|e| (e.seq, e.discontinuity)).collect();
        assert_eq!(tail, [(1, false), (0, true)]);
    }

    #[test]
    fn window_and_media_sequence() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for seq in 0..20 {
            w.insert(&[], entry(seq), r, UnixMs(seq));
        }
        let (shown, media_sequence, breaks) = w.shown(r);
        assert_eq!((shown.len(), media_sequence, breaks), (6, 14, 0));
        assert_eq!(shown[0].seq, 14);
        assert!(w.file("source", 8, None).is_some() && w.file("source", 7, None).is_none());
    }

    /// Another segment of the same number.
    fn again(seq: u64) -> HlsEntry {
        let key = SegmentKey(format!("s/source/{seq}-deadbeef01020304.ts"));
        HlsEntry { files: vec![("source".into(), key)], ..entry(seq) }
    }

    #[test]
    fn a_straggler_is_no_restart() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for seq in 5..25 {
            w.insert(&[], entry(seq), r, UnixMs(seq * 2000));
        }
        let before = w.clone();
        // Older than everything remembered, but the last push was a moment ago.
        assert_eq!(w.insert(&[], entry(3), r, UnixMs(50_000)), HlsInsert::TooLate);
        assert_eq!(w.insert(&[], again(20), r, UnixMs(50_000)), HlsInsert::Duplicate);
        assert_eq!(w, before);
        assert_eq!(w.insert(&[], entry(25), r, UnixMs(50_000)), HlsInsert::Taken);
        assert!(!w.entries.last().unwrap().discontinuity);
    }

    #[test]
    fn a_short_stream_that_begins_again_is_shown() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        for seq in 0..3 {
            w.insert(&[], entry(seq), r, UnixMs(seq * 2000));
        }
        // The very same segment stays one, however late it comes again.
        assert_eq!(w.insert(&[], entry(2), r, UnixMs(20_000)), HlsInsert::Duplicate);
        // The second finishes first, as at any beginning.
        assert_eq!(w.insert(&[], again(1), r, UnixMs(20_000)), HlsInsert::Taken);
        assert_eq!(w.insert(&[], again(0), r, UnixMs(20_100)), HlsInsert::Taken);
        assert_eq!(seqs(&w), [0, 1, 2, 0, 1]);
        let breaks: Vec<_> = w.entries.iter().map(|e| e.discontinuity).collect();
        assert_eq!(breaks, [false, false, false, true, false]);
        // The number alone means the new one; the mark finds each.
        assert_eq!(w.file("source", 0, None), again(0).file("source"));
        assert_eq!(w.file("source", 0, Some("deadbeef")), again(0).file("source"));
        assert_eq!(w.file("source", 2, Some("deadbeef")), None);
        assert_eq!(w.insert(&[], again(2), r, UnixMs(22_000)), HlsInsert::Taken);
        assert_eq!(w.insert(&[], again(3), r, UnixMs(24_000)), HlsInsert::Taken);
        assert_eq!(seqs(&w), [0, 1, 2, 0, 1, 2, 3]);
        assert!(!w.entries[6].discontinuity);
    }

    /// Two in work, of which one hangs for long: what the pusher sends next comes at once, and in order.
    #[test]
    fn a_segment_that_hung_is_no_new_beginning() {
        for first in [1, 7] {
            let (mut w, r) = (HlsWindow::default(), RULES);
            for seq in 0..first {
                w.insert(&[], entry(seq), r, UnixMs(seq));
            }
            // `first` hangs; its successor is shown when the wait is over, and then nothing comes.
            w.insert(&[], entry(first + 1), r, UnixMs(2_000));
            assert_eq!(w.insert(&[], entry(first), r, UnixMs(17_000)), HlsInsert::TooLate);
            assert_eq!(w.insert(&[], entry(first + 2), r, UnixMs(17_001)), HlsInsert::Taken);
            let tail: Vec<_> = w.entries.iter().map(|e| (e.seq, e.discontinuity)).collect();
            let (last, before) = tail.split_last().unwrap();
            assert_eq!((*last, *before.last().unwrap()), ((first + 2, false), (first + 1, true)));
        }
        // The very first of a stream.
        let (mut w, r) = (HlsWindow::default(), RULES);
        w.insert(&[], entry(1), r, UnixMs(0));
        assert_eq!(w.insert(&[], entry(0), r, UnixMs(15_000)), HlsInsert::TooLate);
        assert_eq!(w.insert(&[], entry(2), r, UnixMs(15_001)), HlsInsert::Taken);
        assert_eq!(seqs(&w), [1, 2]);
        // One who begins anew in a hole is believed as soon as he repeats what was shown.
        let fresh = |seq| again(seq);
        assert_eq!(w.insert(&[], fresh(0), r, UnixMs(60_000)), HlsInsert::TooLate);
        assert_eq!(w.insert(&[], fresh(1), r, UnixMs(60_001)), HlsInsert::Taken);
        assert_eq!(w.insert(&[], fresh(2), r, UnixMs(60_002)), HlsInsert::Taken);
    }

    #[test]
    fn long_segments_are_not_a_silence() {
        let (mut w, r) = (HlsWindow::default(), RULES);
        let long = |seq| HlsEntry { duration_ms: 10_000, ..entry(seq) };
        w.insert(&[], long(0), r, UnixMs(0));
        w.insert(&[], long(2), r, UnixMs(20_000));
        w.insert(&[], long(3), r, UnixMs(30_000));
        assert_eq!(w.insert(&[], long(1), r, UnixMs(38_000)), HlsInsert::TooLate);
        assert_eq!(w.insert(&[], again(0), r, UnixMs(50_000)), HlsInsert::Taken);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// A segment keeps its media sequence number for as long as it is visible, and every
        /// bound holds, whatever arrives in whatever order.
        #[test]
        fn numbers_never_change(pushes in prop::collection::vec((0u64..40, 0u64..6_000), 1..60)) {
            let (mut w, r) = (HlsWindow::default(), RULES);
            let mut now = 0;
            let mut numbers = std::collections::HashMap::new();
            for (n, (seq, pause)) in pushes.into_iter().enumerate() {
                now += pause;
                let mut e = entry(seq);
                e.files = vec![("source".into(), SegmentKey(n.to_string()))];
                let mut before = w.clone();
                before.advance(r, UnixMs(now));
                let silent = pause >= 4_000 && !before.was_skipped(seq);
                let newest = w.entries.iter().chain(&w.waiting).map(|e| e.at.0).max();
                let run = w.run_start;
                let taken = w.insert(&[], e, r, UnixMs(now));
                // Whatever comes after a silence is shown, at once or when its turn comes;
                // numbers go down at a break, and the pusher counts anew after a silence only.
                prop_assert!(!silent || taken == HlsInsert::Taken);
                prop_assert!(w.run_start == run || newest.is_some_and(|at| now - at >= 4_000));
                for (a, b) in w.entries.iter().zip(w.entries.iter().skip(1)) {
                    prop_assert!(a.seq < b.seq || b.discontinuity);
                }
                prop_assert!(w.entries.len() <= r.kept && w.waiting.len() < r.gap_waiting);
                for (i, e) in w.entries.iter().enumerate() {
                    let number = w.media_sequence + i as u64;
                    let id = e.files[0].1.clone();
                    prop_assert_eq!(*numbers.entry(id).or_insert(number), number);
                }
            }
        }
    }
}
