//! L1 blocks, and the rounds that they begin.

use super::{Change, Genesis, Head, State};
use penstock_domain::{B256, keccak256};
use thiserror::Error;

/// Most blocks of one request.
pub const MAX_BLOCKS: u64 = 1_000_000;
/// Most rounds that one request may begin: each leaves a row for ever.
pub const MAX_ROUNDS: u64 = 1_000;

/// How far to mine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mining {
    /// This many blocks.
    Blocks(u64),
    /// To the first block of this many rounds ahead.
    Rounds(u64),
}

/// The request is absurd. The caller's fault; final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MiningError {
    /// Zero of something.
    #[error("blocks or rounds must be at least 1")]
    Nothing,
    /// Over a bound.
    #[error("at most {MAX_BLOCKS} blocks and {MAX_ROUNDS} rounds can be mined at a time")]
    TooMuch,
}

/// Mines. With `initialize`, every round is initialised in its first block, as a round
/// initialiser on a live network does; without, contracts revert until a later block does it, and
/// rounds that are over by then stay without a hash for ever.
pub fn mine(state: &State, how: Mining, initialize: bool) -> Result<Vec<Change>, MiningError> {
    let from = state.head.l1_block;
    let to = match how {
        Mining::Blocks(0) | Mining::Rounds(0) => return Err(MiningError::Nothing),
        Mining::Blocks(blocks) => from.checked_add(blocks),
        Mining::Rounds(rounds) => state
            .current_round()
            .checked_add(rounds)
            .and_then(|round| round.checked_mul(state.genesis.round_length)),
    };
    let to = to.filter(|to| to.saturating_sub(from) <= MAX_BLOCKS).ok_or(MiningError::TooMuch)?;
    let (round, last) = (state.current_round(), state.round_of(to));
    if last.saturating_sub(round) > MAX_ROUNDS {
        return Err(MiningError::TooMuch);
    }
    let mut head = Head { l1_block: to, ..state.head };
    let mut changes = Vec::new();
    if initialize {
        // A round that is pending is initialised in the first new block, each later one in its own
        // first block; either way with the hash of the block before.
        let first = state.round_of(from.saturating_add(1));
        for round in first..=last {
            if round <= head.last_initialized_round {
                continue;
            }
            let start = round.saturating_mul(state.genesis.round_length);
            let block = start.max(from.saturating_add(1));
            head.last_initialized_round = round;
            changes.push(Change::Round(round, block_hash(&state.genesis, block.saturating_sub(1))));
        }
    }
    changes.push(Change::Head(head));
    Ok(changes)
}

/// The hash of an L1 block: made of its number, so that it needs no storage. Nothing rests on it
/// being hard to foretell, since a ticket's luck comes from the recipient's secret number.
pub fn block_hash(genesis: &Genesis, l1_block: u64) -> B256 {
    let mut preimage = b"penstock devnet block".to_vec();
    preimage.extend_from_slice(genesis.chain_id.as_slice());
    preimage.extend_from_slice(&l1_block.to_be_bytes());
    keccak256(preimage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(round_length: u64) -> State {
        State::new(Genesis { chain_id: B256::repeat_byte(7), round_length })
    }

    fn mined(mut state: State, how: Mining, initialize: bool) -> State {
        let changes = mine(&state, how, initialize).unwrap();
        state.apply_all(&changes);
        state
    }

    #[test]
    fn starts_in_the_first_block_of_round_one() {
        let state = chain(10);
        assert_eq!((state.head.l1_block, state.current_round()), (10, 1));
        assert!(state.is_round_initialized());
        assert_eq!(state.round_hashes[&1], block_hash(&state.genesis, 9));
    }

    #[test]
    fn rounds_begin_on_time_and_carry_the_hash_before_their_first_block() {
        let state = mined(chain(10), Mining::Blocks(9), true);
        assert_eq!((state.head.l1_block, state.head.last_initialized_round), (19, 1));
        let state = mined(state, Mining::Blocks(1), true);
        assert_eq!((state.current_round(), state.head.last_initialized_round), (2, 2));
        assert_eq!(state.round_hashes[&2], block_hash(&state.genesis, 19));
        let state = mined(state, Mining::Blocks(35), true);
        assert_eq!((state.current_round(), state.head.last_initialized_round), (5, 5));
        assert_eq!(state.round_hashes[&4], block_hash(&state.genesis, 39));
    }

    #[test]
    fn one_by_one_or_at_once_is_the_same() {
        let mut slow = chain(3);
        for _ in 0..20 {
            slow = mined(slow, Mining::Blocks(1), true);
        }
        assert_eq!(slow, mined(chain(3), Mining::Blocks(20), true));
    }

    #[test]
    fn mining_rounds_stops_in_a_first_block() {
        let state = mined(mined(chain(10), Mining::Blocks(3), true), Mining::Rounds(2), true);
        assert_eq!((state.head.l1_block, state.current_round()), (30, 3));
    }

    #[test]
    fn an_uninitialised_round_is_caught_up_and_a_skipped_one_never_gets_a_hash() {
        let state = mined(chain(10), Mining::Blocks(10), false);
        assert!(!state.is_round_initialized());
        let late = mined(state.clone(), Mining::Blocks(1), true);
        assert!(late.is_round_initialized());
        assert_eq!(late.round_hashes[&2], block_hash(&late.genesis, 20));
        let skipped = mined(mined(state, Mining::Blocks(10), false), Mining::Blocks(1), true);
        assert!(skipped.is_round_initialized());
        assert!(!skipped.round_hashes.contains_key(&2));
    }

    #[test]
    fn absurd_requests_are_refused() {
        assert_eq!(mine(&chain(10), Mining::Blocks(0), true), Err(MiningError::Nothing));
        assert_eq!(mine(&chain(1), Mining::Blocks(1_001), true), Err(MiningError::TooMuch));
        for much in [MAX_BLOCKS + 1, u64::MAX] {
            assert_eq!(mine(&chain(10), Mining::Blocks(much), true), Err(MiningError::TooMuch));
            assert_eq!(mine(&chain(10), Mining::Rounds(much), true), Err(MiningError::TooMuch));
        }
    }
}
