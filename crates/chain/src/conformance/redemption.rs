//! Winning tickets that are paid.

use super::network::{Network, SENDER, activate, expect_revert, fund, wei, winner};
use crate::{ChainError, Look, Revert, Standing, Worth};
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
    assert_eq!(chain.claimable_reserve(sender, network.address(1)).await.unwrap(), Wei::ZERO);
    assert_eq!(chain.claimable_reserve(sender, network.address(2)).await.unwrap(), wei(part));
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
    let whole = winner(network, 1, part, 1).await;
    let paid = anyone.redeem(&whole).await.unwrap();
    let look = chain.look_again(&whole.ticket, Some(paid.tx_hash), u64::MAX).await.unwrap();
    assert_eq!(look.paid, Some(wei(part)));
    let burnt = winner(network, 1, 7, 2).await;
    let redemption = anyone.redeem(&burnt).await.unwrap();
    assert_eq!((redemption.face_value, redemption.paid()), (wei(7), Wei::ZERO));
    // A later look says so too, whichever transaction was known before, and says nothing of what was not redeemed.
    for known in [Some(redemption.tx_hash), None] {
        let look = chain.look_again(&burnt.ticket, known, u64::MAX).await.unwrap();
        let standing = Standing::Final { tx_hash: Some(redemption.tx_hash) };
        assert_eq!(look, Look { standing, paid: Some(Wei::ZERO) });
    }
    let unused = winner(network, 1, 7, 4).await;
    let look = chain.look_again(&unused.ticket, None, u64::MAX).await.unwrap();
    assert_eq!(look, Look { standing: Standing::Gone, paid: None });
    expect_revert(network, &burnt, Revert::Used).await;
    // Nor is one who is not in the pool owed a part.
    let stranger = winner(network, 5, 7, 3).await;
    assert_eq!(anyone.redeem(&stranger).await.unwrap().paid(), Wei::ZERO);
}

/// What may be claimed is asked of the contract: nothing by who is not in the active set, at once when the round of
/// who left it has begun. A winner that would bring less than is asked for stays unused, and a good one beside it is paid.
pub async fn what_would_bring_too_little_is_not_sent(network: &mut dyn Network) {
    activate(network, &[1, 2]).await;
    fund(network, 30, 100).await;
    let (chain, sender) = (network.chain(), network.address(SENDER));
    let part = 100 / chain.pool_size().await.unwrap();
    let claimable = async |number: usize| {
        chain.claimable_reserve(sender, network.address(number)).await.unwrap()
    };
    assert_eq!((claimable(1).await, claimable(2).await), (wei(part), wei(part)));
    assert_eq!(claimable(5).await, Wei::ZERO, "a stranger");
    let worth = async |recipient, face_value, nonce, least| Worth {
        winner: winner(network, recipient, face_value, nonce).await,
        least: wei(least),
    };
    let asked = [
        // All of the deposit, and a little of the reserve.
        worth(1, 35, 1, 35).await,
        // Of the reserve is left less than this one promises.
        worth(1, part, 2, part).await,
        // Less is enough for this one.
        worth(1, part, 3, 1).await,
        // Nobody who is not active is paid from a reserve.
        worth(5, 7, 4, 1).await,
        // The other one's part is there still.
        worth(2, part, 5, part).await,
    ];
    let outcomes = network.anyone().redeem_worth(&asked).await;
    let paid = |at: usize| outcomes[at].as_ref().unwrap().paid();
    assert_eq!((paid(0), paid(2), paid(4)), (wei(35), wei(part - 5), wei(part)));
    for at in [1, 3] {
        let error = outcomes[at].as_ref().unwrap_err();
        assert!(matches!(error, ChainError::Underpaid { .. }) && error.is_retryable(), "{error}");
        let hash = asked[at].winner.ticket.hash();
        assert!(!chain.is_used_ticket(hash).await.unwrap(), "{at} is not burnt");
    }
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
