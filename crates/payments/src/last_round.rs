//! A winner in the last round in which it can be redeemed: when it takes what its sender has, and how long it may wait.
//!
//! The contract uses a ticket up for whatever there is. So while there is not all of it, it waits: until the next round
//! brings a new part of the reserve, and in the last one until shortly before the round ends, as there may be a new
//! deposit meanwhile.

use crate::winners::{QueueView, retry_block};

/// L1 blocks before the end of its last round in which a ticket takes what there is: about an hour. A transaction whose
/// gas has to be raised again and again, an endpoint or a process that is away for a while and a queue of some hundred
/// winners fit into it, and all but a twentieth of a round of 5,760 blocks is left to wait in.
const CLOSING_BLOCKS: u64 = 300;
/// Of a short round, that is at most one part of so many.
const CLOSING_PART: u64 = 4;
/// Longest wait between two attempts then, in L1 blocks (under two minutes).
const MAX_CLOSING_WAIT_BLOCKS: u64 = 8;

impl QueueView {
    /// Whether the contract takes a ticket of this round in no later one, or pays it less there: in its own round and the
    /// next it takes it, and one who is not active gets nothing of a reserve.
    fn is_last_round(&self, creation_round: u64) -> bool {
        creation_round < self.last_initialized_round || self.recipient_leaves
    }

    /// L1 blocks until the next round begins, > 0; `None` when that is not known. Rounds are of one length, so that it does
    /// no harm when the start is that of the round before.
    fn blocks_left(&self) -> Option<u64> {
        let since = self.last_seen_l1_block.saturating_sub(self.round_start_block);
        Some(self.round_length.saturating_sub(since.checked_rem(self.round_length)?))
    }

    fn closing_blocks(&self) -> u64 {
        (self.round_length / CLOSING_PART).clamp(1, CLOSING_BLOCKS)
    }

    /// Whether a ticket of this round is to be redeemed now for whatever its sender has. So it is as well where nobody
    /// knows when the round ends, and in what is more than its last round: it may be taken yet.
    pub fn takes_what_there_is(&self, creation_round: u64) -> bool {
        self.is_last_round(creation_round)
            && (creation_round.saturating_add(1) < self.last_initialized_round
                || self.blocks_left().is_none_or(|left| left <= self.closing_blocks()))
    }

    /// The block before which a winner of this round that failed `attempts` times is not tried again: as [`retry_block`]
    /// says, but at the latest when the next round begins, or when it takes what there is; and soon from then on.
    pub fn retry_block(&self, creation_round: u64, attempts: u32) -> u64 {
        let most = if self.takes_what_there_is(creation_round) {
            MAX_CLOSING_WAIT_BLOCKS
        } else {
            match self.blocks_left() {
                Some(left) if self.is_last_round(creation_round) => {
                    left.saturating_sub(self.closing_blocks())
                }
                Some(left) => left,
                None => u64::MAX,
            }
        };
        let now = self.last_seen_l1_block;
        retry_block(attempts, now).min(now.saturating_add(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Round 10 of L1 blocks 1,000 to 1,999; it closes with 1,750.
    const VIEW: QueueView = QueueView {
        last_initialized_round: 10,
        last_seen_l1_block: 1_000,
        round_start_block: 1_000,
        round_length: 1_000,
        recipient_leaves: false,
    };

    fn at(block: u64) -> QueueView {
        QueueView { last_seen_l1_block: block, ..VIEW }
    }

    #[test]
    fn only_the_end_of_its_last_round_takes_what_there_is() {
        for (block, closes) in [(1_000, false), (1_749, false), (1_750, true), (1_999, true)] {
            assert_eq!(at(block).takes_what_there_is(9), closes, "{block}");
            assert!(!at(block).takes_what_there_is(10), "its own round");
            assert!(at(block).takes_what_there_is(8), "more than its last round");
            let leaves = QueueView { recipient_leaves: true, ..at(block) };
            assert_eq!(leaves.takes_what_there_is(10), closes, "the last in which it is paid");
        }
        // The start that is known may be that of the round before, or of the next.
        assert!(!at(2_000).takes_what_there_is(9) && at(2_750).takes_what_there_is(9));
        assert!(!at(999).takes_what_there_is(9));
        let unknown = QueueView { round_length: 0, ..VIEW };
        assert!(unknown.takes_what_there_is(9) && !unknown.takes_what_there_is(10));
    }

    #[test]
    fn the_end_is_an_hour_and_at_most_a_quarter() {
        for (length, blocks) in [(5_760, 300), (1_201, 300), (200, 50), (4, 1), (1, 1)] {
            let view = QueueView { round_length: length, ..VIEW };
            assert_eq!(view.closing_blocks(), blocks, "{length}");
        }
    }

    #[test]
    fn a_wait_ends_with_the_round_or_where_it_closes() {
        let wait = |block, creation_round, attempts| {
            at(block).retry_block(creation_round, attempts) - block
        };
        for creation_round in [9, 10] {
            let waits: Vec<_> = (1..9).map(|n| wait(1_100, creation_round, n)).collect();
            assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64], "{creation_round}");
        }
        assert_eq!([1_740, 1_749].map(|block| wait(block, 9, 9)), [10, 1], "until it closes");
        assert_eq!([1_750, 1_990].map(|block| wait(block, 9, 9)), [8, 8], "soon from then on");
        assert_eq!([1_740, 1_990].map(|block| wait(block, 10, 9)), [64, 10], "until the next");
        let unknown = QueueView { round_length: 0, ..VIEW };
        assert_eq!([9, 10].map(|round| unknown.retry_block(round, 9) - 1_000), [8, 64]);
        assert_eq!(at(u64::MAX).retry_block(9, 9), u64::MAX);
    }
}
