//! Blocks and rounds.

use super::network::Network;
use crate::Rounds;
use penstock_domain::B256;

/// Blocks count up one by one; a round's hash is fixed when it begins and becomes the previous
/// one of the next.
pub async fn rounds_advance(network: &mut dyn Network) {
    let chain = network.chain();
    network.next_round().await;
    let first = chain.rounds().await.unwrap();
    assert_ne!(first.l1_block_hash, B256::ZERO);
    assert_eq!(first.round_start_block, first.last_seen_l1_block, "its first block");
    network.mine_blocks(1).await;
    let later = chain.rounds().await.unwrap();
    assert_eq!(later.last_seen_l1_block, first.last_seen_l1_block + 1);
    assert_eq!(later.last_initialized_round, first.last_initialized_round);
    assert_eq!(later.l1_block_hash, first.l1_block_hash);
    let of = |rounds: &Rounds| (rounds.round_start_block, rounds.round_length);
    assert_eq!(of(&later), of(&first));
    network.next_round().await;
    let second = chain.rounds().await.unwrap();
    assert_eq!(second.last_initialized_round, first.last_initialized_round + 1);
    assert_eq!(second.previous_round_l1_block_hash, first.l1_block_hash);
    assert_ne!(second.l1_block_hash, first.l1_block_hash);
    let next = first.round_start_block + first.round_length;
    assert_eq!(of(&second), (next, first.round_length));
    network.next_round_uninitialized().await;
    let pending = chain.rounds().await.unwrap();
    assert_eq!(pending.last_initialized_round, second.last_initialized_round);
    assert!(pending.last_seen_l1_block > second.last_seen_l1_block);
    network.mine_blocks(1).await;
    let caught_up = chain.rounds().await.unwrap();
    assert_eq!(caught_up.last_initialized_round, second.last_initialized_round + 1);
}
