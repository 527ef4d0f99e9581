//! How far numbers of blocks and rounds may be ahead of what was believed before: a pure decision.
//!
//! They are kept: an orchestrator's ledger forgets offers by the height of L1 for good, and gives up winners by the round.
//! So one answer that is far too high does harm that no later answer undoes. The height of L1 may jump by so many
//! blocks, and by one more for each second since it was last read. Rounds follow from it, and are held against it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// Blocks of a chain for each block of L1, at most: ten a second, where L1 makes one in twelve.
const BLOCKS_FOR_EACH_OF_L1: u64 = 120;

/// What was believed last.
#[derive(Debug)]
pub(crate) struct Heights {
    /// How far L1 may jump, in its blocks.
    max_jump: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    block: Option<Level>,
    l1: Option<Level>,
    round: Option<Start>,
}

/// A height, and how far the next one may be above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    height: u64,
    /// Of the allowed jump, what was not used lately.
    room: u64,
    at: SystemTime,
}

/// The round of the first look, which all later ones follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The round of that moment.
    pub round: u64,
    /// The height of L1 at that moment.
    pub l1: u64,
    /// L1 blocks in a round.
    pub round_length: u64,
}

impl Level {
    fn first(height: u64, room: u64, at: SystemTime) -> Self {
        Self { height, room, at }
    }

    /// The highest number that is believed now.
    fn most(self, now: SystemTime, a_second: u64) -> u64 {
        let elapsed = now.duration_since(self.at).unwrap_or(Duration::ZERO).as_secs();
        self.height.saturating_add(self.room).saturating_add(elapsed.saturating_mul(a_second))
    }

    /// The next one is believed. What it took of the room comes back with time, and never more than `room` of it.
    fn next(self, height: u64, now: SystemTime, a_second: u64, room: u64) -> Self {
        Self { height, room: self.most(now, a_second).saturating_sub(height).min(room), at: now }
    }
}

impl Start {
    /// The newest round that there can be at this height of L1.
    fn most(self, l1: u64) -> u64 {
        let rounds = l1.saturating_sub(self.l1).checked_div(self.round_length).unwrap_or(0);
        // The first look was somewhere within its round.
        self.round.saturating_add(rounds).saturating_add(1)
    }
}

impl Heights {
    /// Knows nothing yet. L1 may jump by `max_jump` blocks.
    pub(crate) fn new(max_jump: u64) -> Self {
        Self { max_jump, seen: Mutex::default() }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // A panic cannot leave plain values in a bad state.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn max_jump_of_blocks(&self) -> u64 {
        self.max_jump.saturating_mul(BLOCKS_FOR_EACH_OF_L1)
    }

    /// Whether a height of L1 was believed before.
    pub(crate) fn knows_l1(&self) -> bool {
        self.seen().l1.is_some()
    }

    /// Why this height of L1 is not believed, if it is not.
    pub(crate) fn check_l1(&self, said: u64) -> Result<(), String> {
        let Some(level) = self.seen().l1 else { return Ok(()) };
        within(said, level.most(SystemTime::now(), 1), "the height of L1", level.height)
    }

    /// The height of L1 is this.
    pub(crate) fn believe_l1(&self, height: u64) {
        let (mut seen, now) = (self.seen(), SystemTime::now());
        seen.l1 = Some(match seen.l1 {
            None => Level::first(height, self.max_jump, now),
            Some(level) => level.next(height, now, 1, self.max_jump),
        });
    }

    /// Whether a round was believed before.
    pub(crate) fn knows_round(&self) -> bool {
        self.seen().round.is_some()
    }

    /// Rounds are counted from here.
    pub(crate) fn start(&self, start: Start) {
        self.seen().round = Some(start);
    }

    /// Why this round is not believed, if it is not, at any height of L1 that would be.
    pub(crate) fn check_round(&self, said: u64) -> Result<(), String> {
        let seen = self.seen();
        let (Some(start), Some(l1)) = (seen.round, seen.l1) else { return Ok(()) };
        within(said, start.most(l1.most(SystemTime::now(), 1)), "the round", start.round)
    }

    /// Why this height of the chain itself is not believed, if it is not.
    pub(crate) fn check_block(&self, said: u64) -> Result<(), String> {
        let Some(level) = self.seen().block else { return Ok(()) };
        let most = level.most(SystemTime::now(), BLOCKS_FOR_EACH_OF_L1);
        within(said, most, "the newest block", level.height)
    }

    /// The height of the chain itself is this.
    pub(crate) fn believe_block(&self, height: u64) {
        let (mut seen, now) = (self.seen(), SystemTime::now());
        let room = self.max_jump_of_blocks();
        seen.block = Some(match seen.block {
            None => Level::first(height, room, now),
            Some(level) => level.next(height, now, BLOCKS_FOR_EACH_OF_L1, room),
        });
    }
}

fn within(said: u64, most: u64, what: &str, before: u64) -> Result<(), String> {
    if said <= most {
        return Ok(());
    }
    Err(format!(
        "it says that {what} is {said}, which was {before} and can be {most} at most (--eth-max-l1-jump-blocks)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(s)
    }

    #[test]
    fn a_height_jumps_so_far_and_then_as_fast_as_time_goes() {
        let level = Level::first(1_000, 100, at(0));
        assert_eq!(level.most(at(0), 1), 1_100);
        // The whole room at once: after that only time gives.
        let level = level.next(1_100, at(0), 1, 100);
        assert_eq!(level.most(at(0), 1), 1_100);
        assert_eq!(level.most(at(7), 1), 1_107);
        // Room that time gives comes back up to what it was, however long it takes.
        let level = level.next(1_100, at(50), 1, 100);
        assert_eq!(level.most(at(50), 1), 1_150);
        let level = level.next(1_100, at(10_000), 1, 100);
        assert_eq!(level.most(at(10_000), 1), 1_200);
        // Nobody asked for an hour: as many blocks as there can be, once.
        assert_eq!(level.most(at(13_600), 1), 4_800);
        // Back is always good, and where it goes on from.
        let level = level.next(900, at(10_000), 1, 100);
        assert_eq!(level.most(at(10_000), 1), 1_000);
        // A clock that is set back takes nothing away.
        assert_eq!(level.most(at(0), 1), 1_000);
        assert_eq!(Level::first(u64::MAX, 100, at(0)).most(at(9), 9), u64::MAX);
    }

    #[test]
    fn rounds_go_as_l1_goes() {
        let start = Start { round: 7, l1: 1_000, round_length: 50 };
        assert_eq!(start.most(1_000), 8, "its end may have been near");
        assert_eq!(start.most(1_049), 8);
        assert_eq!(start.most(1_050), 9);
        assert_eq!(start.most(0), 8);
        let nonsense = Start { round_length: 0, ..start };
        assert_eq!(nonsense.most(u64::MAX), 8);
    }

    #[test]
    fn what_is_refused_is_named_with_its_setting() {
        let heights = Heights::new(100);
        assert_eq!(heights.check_l1(u64::MAX), Ok(()), "nothing is known yet");
        heights.believe_l1(5);
        heights.start(Start { round: 1, l1: 5, round_length: 200 });
        heights.believe_block(9);
        assert_eq!(heights.check_l1(105), Ok(()));
        assert_eq!(heights.check_round(2), Ok(()));
        assert_eq!(heights.check_block(9 + 100 * BLOCKS_FOR_EACH_OF_L1), Ok(()));
        for refused in
            [heights.check_l1(1 << 40), heights.check_round(3), heights.check_block(1 << 40)]
        {
            let why = refused.unwrap_err();
            assert!(why.contains("--eth-max-l1-jump-blocks"), "{why}");
        }
    }
}
