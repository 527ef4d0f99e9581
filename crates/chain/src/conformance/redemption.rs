//! Winning tickets that are paid.

use super::network::{Network, SENDER, activate, expect_revert, fund, wei, winner};
use crate::Revert;
use penstock_domain::Wei;
use std::sync::Arc;

/// Paid from the deposit, remembered for ever, and never paid again, whoever asks.
pub async fn a_winner_is_paid_once(network: &mut dyn Network) {
    activate(network, &[1]).await;
    fund(network, 100, 50).await;
    let chain = network.chain();
    let ticket = winner(network, 1, 30, 1).await;
    let hash = ticket.ticket.hash();
    let redemption = network.anyone().redeem(&ticket).await.unwrap();
    assert_eq!(redemption.ticket_hash, hash);
    assert_eq!(redemption.sender, network.address(SENDER));
    assert_eq!(redemption.recipient, network.address(1));
    assert_eq!((redemption.face_value, redemption.paid()), (wei(30), wei(30)));
    assert_eq!(redemption.paid_from_reserve, Wei::ZERO);
    assert!(chain.is_used_ticket(hash).await.unwrap());
    assert_eq!(chain.redemption(&ticket.ticket).await.unwrap(), Some(redemption));
    let info = chain.sender_info(network.address(SENDER)).await.unwrap();
    assert_eq!((info.deposit, info.reserve.funds_remaining), (wei(70), wei(50)));
    expect_revert(network, &ticket, Revert::Used).await;
    assert!(network.account(1).redeem(&ticket).await.is_err());
    network.mine_blocks(1).await;
    assert_eq!(chain.redemption(&ticket.ticket).await.unwrap(), Some(redemption));
    assert_eq!(chain.sender_info(network.address(SENDER)).await.unwrap(), info);
}

/// Beyond the deposit each orchestrator gets at most its part of the reserve in a round, and a new
/// part of what is left in the next.
pub async fn a_reserve_is_shared(network: &mut dyn Network) {
    activate(network, &[1, 2]).await;
    fund(network, 10, 100).await;
    let (chain, sender) = (network.chain(), network.address(SENDER));
    let pool = chain.pool_size().await.unwrap();
    let part = 100 / pool;
    let anyone = network.anyone();
    let first = anyone.redeem(&winner(network, 1, 10 + part + 5, 1).await).await.unwrap();
    assert_eq!(first.paid_from_deposit, wei(10));
    assert_eq!(first.paid_from_reserve, wei(part));
    let info = chain.sender_info(sender).await.unwrap();
    assert_eq!(info.deposit, Wei::ZERO);
    assert_eq!(info.reserve.funds_remaining, wei(100 - part));
    assert_eq!(info.reserve.claimed_in_current_round, wei(part));
    assert_eq!(chain.claimed_reserve(sender, network.address(1)).await.unwrap(), wei(part));
    // The other one's part is not smaller for it.
    let second = anyone.redeem(&winner(network, 2, part + 5, 2).await).await.unwrap();
    assert_eq!(second.paid(), wei(part));
    network.next_round().await;
    let info = chain.sender_info(sender).await.unwrap();
    assert_eq!(info.reserve.claimed_in_current_round, Wei::ZERO);
    assert_eq!(chain.claimed_reserve(sender, network.address(1)).await.unwrap(), Wei::ZERO);
    let left = 100 - 2 * part;
    if left > 0 {
        let third = anyone.redeem(&winner(network, 1, 100, 3).await).await.unwrap();
        assert_eq!(third.paid(), wei(left / pool));
    }
}

/// With nothing left to claim, a redemption succeeds, pays nothing and uses the ticket up.
pub async fn an_empty_payment_burns_the_ticket(network: &mut dyn Network) {
    activate(network, &[1, 2]).await;
    fund(network, 0, 100).await;
    let chain = network.chain();
    let part = 100 / chain.pool_size().await.unwrap();
    let anyone = network.anyone();
    anyone.redeem(&winner(network, 1, part, 1).await).await.unwrap();
    let burnt = winner(network, 1, 7, 2).await;
    let redemption = anyone.redeem(&burnt).await.unwrap();
    assert_eq!((redemption.face_value, redemption.paid()), (wei(7), Wei::ZERO));
    expect_revert(network, &burnt, Revert::Used).await;
    // Nor is one who is not in the pool owed a part.
    let stranger = winner(network, 5, 7, 3).await;
    assert_eq!(anyone.redeem(&stranger).await.unwrap().paid(), Wei::ZERO);
}

/// However many redeem the same ticket at once, one is paid.
pub async fn concurrent_redemptions_pay_once(network: &mut dyn Network) {
    activate(network, &[1]).await;
    fund(network, 1_000, 0).await;
    let chain = network.anyone();
    let ticket = Arc::new(winner(network, 1, 30, 1).await);
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let (chain, ticket) = (Arc::clone(&chain), Arc::clone(&ticket));
            tokio::spawn(async move { chain.redeem(&ticket).await })
        })
        .collect();
    let mut paid = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(_) => paid += 1,
            Err(error) => assert_eq!(error.revert(), Some(&Revert::Used), "{error}"),
        }
    }
    assert_eq!(paid, 1);
    let info = chain.sender_info(network.address(SENDER)).await.unwrap();
    assert_eq!(info.deposit, wei(970));
}
