//! Deposits, reserves, and the way out.

use super::network::{Network, SENDER, fund, wei, winner};
use crate::{ChainError, ReserveInfo, Revert, SenderInfo};
use penstock_domain::{B256, Wei};

/// An account that never acted is all zero, and that is no error.
pub async fn strangers_are_empty(network: &mut dyn Network) {
    let (chain, who) = (network.chain(), network.address(SENDER));
    assert_eq!(chain.sender_info(who).await.unwrap(), SenderInfo::default());
    assert_eq!(chain.claimed_reserve(who, network.address(1)).await.unwrap(), Wei::ZERO);
    assert!(!chain.is_active(who).await.unwrap());
    assert!(!chain.is_used_ticket(B256::repeat_byte(9)).await.unwrap());
    let ticket = winner(network, 1, 1, 1).await.ticket;
    assert!(!chain.is_used_ticket(ticket.hash()).await.unwrap());
    assert_eq!(chain.redemption(&ticket).await.unwrap(), None);
    assert!(chain.redeem_gas() > 0);
    chain.gas_price().await.unwrap();
}

/// Anyone funds anyone, and amounts add up.
pub async fn funding_adds_up(network: &mut dyn Network) {
    fund(network, 10, 20).await;
    fund(network, 1, 0).await;
    fund(network, 0, 2).await;
    let info = network.chain().sender_info(network.address(SENDER)).await.unwrap();
    let reserve = ReserveInfo { funds_remaining: wei(22), claimed_in_current_round: Wei::ZERO };
    assert_eq!(info, SenderInfo { deposit: wei(11), withdraw_round: 0, reserve });
}

/// Unlock, wait two rounds, withdraw; each step refused when it is not its turn.
pub async fn the_way_out(network: &mut dyn Network) {
    let (chain, who) = (network.account(SENDER), network.address(SENDER));
    let refused = |result: Result<_, ChainError>| result.unwrap_err().revert().cloned();
    assert_eq!(refused(chain.unlock().await), Some(Revert::SenderEmpty));
    assert_eq!(refused(chain.withdraw().await), Some(Revert::SenderEmpty));
    fund(network, 10, 20).await;
    assert_eq!(refused(chain.cancel_unlock().await), Some(Revert::NoUnlock));
    assert_eq!(refused(chain.withdraw().await), Some(Revert::NoUnlock));

    chain.unlock().await.unwrap();
    chain.cancel_unlock().await.unwrap();
    assert_eq!(chain.sender_info(who).await.unwrap().withdraw_round, 0);
    chain.unlock().await.unwrap();
    assert_eq!(refused(chain.unlock().await), Some(Revert::UnlockInProgress));
    let round = chain.rounds().await.unwrap().last_initialized_round;
    let withdraw_round = chain.sender_info(who).await.unwrap().withdraw_round;
    assert_eq!(withdraw_round, round + 2);
    // Somebody else's money does not cancel the unlock.
    fund(network, 1, 1).await;
    assert_eq!(chain.sender_info(who).await.unwrap().withdraw_round, withdraw_round);

    assert_eq!(refused(chain.withdraw().await), Some(Revert::Locked));
    network.next_round().await;
    assert_eq!(refused(chain.withdraw().await), Some(Revert::Locked));
    network.next_round().await;
    chain.withdraw().await.unwrap();
    let empty = SenderInfo { withdraw_round, ..SenderInfo::default() };
    assert_eq!(chain.sender_info(who).await.unwrap(), empty);
}
