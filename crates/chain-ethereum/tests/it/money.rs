//! Wei from an account through a ticket to another account, to the last one.

use crate::world::{ONE, World, signer, winner};
use penstock_chain::{Chain, NotesInMemory, StakeAction, Staking as _, conformance::Network};
use penstock_domain::Wei;
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn what_is_paid_in_is_paid_out() {
    let world = World::start().await;
    let (sender, recipient) = (signer(0).address(), signer(1).address());
    let (pays, earns) = (world.ethereum(0), world.ethereum(1));
    earns.register("https://orchestrator.example:8935").await.unwrap().unwrap();
    assert_eq!(
        earns.register("https://orchestrator.example:8935").await.unwrap(),
        None,
        "no gas for nothing"
    );
    world.next_round().await;

    let had = world.anvil.balance(sender);
    let (deposit, reserve) = (Wei::from_u64(ONE), Wei::from_u64(3));
    let funded = pays.fund_own(deposit, reserve).await.unwrap();
    let cost = world.anvil.gas_paid(funded.tx_hash);
    assert_eq!(world.anvil.balance(sender), had - deposit.0 - reserve.0 - cost);

    let face = ONE / 4;
    for nonce in 1..=3 {
        let ticket = winner(&world, 0, 1, face, nonce).await;
        let redemption = earns.redeem(&ticket).await.unwrap();
        assert_eq!(
            (redemption.paid(), redemption.paid_from_deposit),
            (Wei::from_u64(face), Wei::from_u64(face))
        );
        assert_eq!(earns.redemption(&ticket.ticket).await.unwrap(), Some(redemption));
    }
    let earned = earns.pending_fees(recipient).await.unwrap();
    assert_eq!(earned, Wei::from_u64(3 * face));
    let before = world.anvil.balance(recipient);
    let action = StakeAction::WithdrawFees { amount_wei: Some(earned) };
    let withdrawn = earns.perform(&action, Arc::<NotesInMemory>::default()).await.unwrap();
    assert_eq!(
        world.anvil.balance(recipient),
        before + earned.0 - world.anvil.gas_paid(withdrawn.tx_hash)
    );
    assert_eq!(earns.pending_fees(recipient).await.unwrap(), Wei::ZERO);

    pays.unlock().await.unwrap();
    world.next_round().await;
    world.next_round().await;
    let before = world.anvil.balance(sender);
    let withdrawn = pays.withdraw().await.unwrap();
    let left = deposit.0 + reserve.0 - earned.0;
    assert_eq!(
        world.anvil.balance(sender),
        before + left - world.anvil.gas_paid(withdrawn.tx_hash)
    );
    let info = world.chain().sender_info(sender).await.unwrap();
    assert_eq!((info.deposit, info.reserve.funds_remaining), (Wei::ZERO, Wei::ZERO));
}

#[tokio::test]
async fn who_has_no_stake_is_told_what_to_set() {
    let world = World::start().await;
    let chain = world.with_settings(|settings| settings.stake_lptu = None).with_account(signer(1));
    let error = chain.register("https://orchestrator.example:8935").await.unwrap_err();
    assert!(error.to_string().contains("--eth-stake-lptu") && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn the_active_set_is_read_again_only_when_it_changed() {
    let world = World::start().await;
    for number in 1..=3 {
        world.account(number).register(&format!("https://o{number}.example")).await.unwrap();
    }
    world.next_round().await;
    let chain = world.with_settings(|_| {});
    assert_eq!(chain.active_orchestrators().await.unwrap().len(), 3);
    let first = chain.questions();
    // Blocks in which nothing of it changed: deposits.
    world.ethereum(0).fund_own(Wei::from_u64(5), Wei::ZERO).await.unwrap();
    assert_eq!(chain.active_orchestrators().await.unwrap().len(), 3);
    let look = chain.questions() - first;
    assert!(look <= 4, "{look} questions for a look");
    world.account(2).register("https://other.example").await.unwrap();
    let active = chain.active_orchestrators().await.unwrap();
    assert!(active.iter().any(|o| o.service_uri == "https://other.example"), "{active:?}");
    // A chain that goes back behind what was read is read anew.
    let snapshot = world.anvil.rpc("evm_snapshot", &json!([]));
    world.account(3).register("https://gone.example").await.unwrap();
    assert!(
        chain
            .active_orchestrators()
            .await
            .unwrap()
            .iter()
            .any(|o| o.service_uri == "https://gone.example")
    );
    world.anvil.rpc("evm_revert", &json!([snapshot]));
    world.ethereum(0).fund_own(Wei::from_u64(5), Wei::ZERO).await.unwrap();
    world.ethereum(0).fund_own(Wei::from_u64(5), Wei::ZERO).await.unwrap();
    let active = chain.active_orchestrators().await.unwrap();
    assert!(active.iter().any(|o| o.service_uri == "https://o3.example"), "{active:?}");
}

#[tokio::test]
async fn who_leaves_the_pool_is_listed_until_the_round_ends() {
    let world = World::start().await;
    for number in 1..=2 {
        world.account(number).register(&format!("https://o{number}.example")).await.unwrap();
    }
    world.next_round().await;
    let chain = world.with_settings(|_| {});
    let listed = async || {
        let active = chain.active_orchestrators().await.unwrap();
        let mut uris: Vec<_> = active.into_iter().map(|one| one.service_uri).collect();
        uris.sort();
        uris
    };
    assert_eq!(listed().await, ["https://o1.example", "https://o2.example"]);
    let stake = StakeAction::Unbond { amount_lptu: Wei::from_u64(ONE) };
    world.ethereum(2).perform(&stake, Arc::<NotesInMemory>::default()).await.unwrap();
    assert_eq!(chain.pool_size().await.unwrap(), 1);
    assert!(chain.is_active(signer(2).address()).await.unwrap(), "the contract says so too");
    assert_eq!(listed().await, ["https://o1.example", "https://o2.example"]);
    world.next_round().await;
    assert_eq!(listed().await, ["https://o1.example"]);
}
