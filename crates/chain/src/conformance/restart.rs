//! A chain forgets nothing.

use super::network::{Network, SENDER, activate, expect_revert, fund, wei, winner};
use crate::Revert;

/// Everything that was answered before the chain fell is there after it came back, and it goes on
/// from there.
pub async fn everything_survives_a_restart(network: &mut dyn Network) {
    activate(network, &[1, 2]).await;
    fund(network, 10, 100).await;
    network.account(SENDER).unlock().await.unwrap();
    let ticket = winner(network, 1, 25, 1).await;
    let redemption = network.anyone().redeem(&ticket).await.unwrap();
    let (sender, recipient) = (network.address(SENDER), network.address(1));
    let chain = network.chain();
    let info = chain.sender_info(sender).await.unwrap();
    let rounds = chain.rounds().await.unwrap();
    let active = chain.active_orchestrators().await.unwrap();
    let claimed = chain.claimed_reserve(sender, recipient).await.unwrap();
    assert_eq!(claimed, wei(15));

    network.restart().await;

    let chain = network.chain();
    assert_eq!(chain.sender_info(sender).await.unwrap(), info);
    assert_eq!(chain.rounds().await.unwrap(), rounds);
    assert_eq!(chain.active_orchestrators().await.unwrap(), active);
    assert_eq!(chain.claimed_reserve(sender, recipient).await.unwrap(), claimed);
    assert_eq!(chain.redemption(&ticket.ticket).await.unwrap(), Some(redemption));
    expect_revert(network, &ticket, Revert::Used).await;
    let last = winner(network, 2, 5, 2).await;
    assert_eq!(network.anyone().redeem(&last).await.unwrap().paid(), wei(5));
    network.account(SENDER).cancel_unlock().await.unwrap();
    network.next_round().await;
    let next = chain.rounds().await.unwrap();
    assert_eq!(next.last_initialized_round, rounds.last_initialized_round + 1);
    assert_eq!(next.previous_round_l1_block_hash, rounds.l1_block_hash);
}
