//! Several winners in one transaction.

use crate::world::{ONE, World, signer, winner};
use penstock_chain::{Chain, ChainError, Revert, conformance::Network};
use penstock_domain::{U256, Wei};
use penstock_testkit::{figure, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Account 1 earns, account 0 has paid in so much.
async fn world(deposit: u64) -> World {
    let world = World::start().await;
    world.ethereum(1).register("https://orchestrator.example").await.unwrap();
    world.ethereum(0).fund_own(Wei::from_u64(deposit), Wei::ZERO).await.unwrap();
    world.next_round().await;
    world
}

fn sent(world: &World) -> u64 {
    let who = signer(1).address().to_string();
    let said = world.anvil.rpc("eth_getTransactionCount", &json!([who, "latest"]));
    u64::from_str_radix(said.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn word(said: &Value) -> U256 {
    U256::from_str_radix(said.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn base_fee(world: &World) -> U256 {
    let head = world.anvil.rpc("eth_getBlockByNumber", &json!(["latest", false]));
    word(&head["baseFeePerGas"])
}

fn tip(world: &World) -> U256 {
    word(&world.anvil.rpc("eth_maxPriorityFeePerGas", &json!([])))
}

#[tokio::test]
async fn each_winner_of_a_batch_has_its_own_outcome_and_none_is_left_out() {
    let world = world(ONE).await;
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    let mut winners = Vec::new();
    for nonce in 1..=20 {
        winners.push(winner(&world, 0, 1, 100 + u64::from(nonce), nonce).await);
    }
    // One is used already, one has another number than it says, and one is there twice.
    world.ethereum(9).redeem(&winners[3]).await.unwrap();
    winners[7].recipient_rand += penstock_domain::U256::from(1);
    winners.push(winners[0].clone());
    let before = (sent(&world), chain.questions());
    let outcomes = chain.redeem_batch(&winners).await;
    let (transactions, questions) = (sent(&world) - before.0, chain.questions() - before.1);
    assert_eq!(outcomes.len(), winners.len());
    let mut paid = 0;
    for (at, (winner, outcome)) in winners.iter().zip(&outcomes).enumerate() {
        let revert = outcome.as_ref().err().and_then(ChainError::revert);
        match at {
            3 | 20 => assert_eq!(revert, Some(&Revert::Used), "{at}: {outcome:?}"),
            7 => assert_eq!(revert, Some(&Revert::WrongRecipientRand), "{outcome:?}"),
            _ => {
                let redeemed = outcome.as_ref().unwrap();
                assert_eq!(redeemed.ticket_hash, winner.ticket.hash());
                assert_eq!(redeemed.paid(), winner.ticket.face_value, "its own pay: {at}");
                let found = chain.redemption(&winner.ticket).await.unwrap();
                assert_eq!(found, Some(*redeemed));
                paid += 1;
            }
        }
    }
    assert_eq!(paid, 18);
    let hashes: BTreeSet<_> = outcomes.iter().flatten().map(|paid| paid.tx_hash).collect();
    assert_eq!(hashes.len() as u64, transactions);
    assert!(transactions <= 5, "{transactions} transactions");
    figure(
        "winners in batches on anvil: redeemed, transactions, questions",
        format!("{paid}, {transactions}, {questions}"),
    );
}

#[tokio::test]
async fn a_batch_whose_first_takes_everything_leaves_the_others_to_say_so() {
    let world = world(100).await;
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    // Each passes alone: the second finds nothing when its turn comes.
    let winners = [winner(&world, 0, 1, 100, 1).await, winner(&world, 0, 1, 100, 2).await];
    let outcomes = chain.redeem_batch(&winners).await;
    assert_eq!(outcomes[0].as_ref().unwrap().paid(), Wei::from_u64(100));
    let refused = outcomes[1].as_ref().unwrap_err();
    assert_eq!(refused.revert(), Some(&Revert::SenderEmpty), "{refused}");
    assert!(refused.is_retryable());
    assert!(!chain.is_used_ticket(winners[1].ticket.hash()).await.unwrap(), "it is not burnt");
}

#[tokio::test]
async fn what_fits_in_no_batch_goes_alone_and_what_fits_nowhere_names_the_setting() {
    let world = world(ONE).await;
    let winners = [winner(&world, 0, 1, 5, 1).await, winner(&world, 0, 1, 5, 2).await];
    let small = world.with_settings(|settings| settings.patience.max_gas = 100_000);
    for outcome in small.with_account(signer(1)).redeem_batch(&winners).await {
        let error = outcome.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("--eth-max-gas"), "{error}");
    }
    let tight = world.with_settings(|settings| settings.patience.max_gas = 300_000);
    let before = sent(&world);
    for outcome in tight.with_account(signer(1)).redeem_batch(&winners).await {
        assert_eq!(outcome.unwrap().paid(), Wei::from_u64(5));
    }
    assert_eq!(sent(&world) - before, 2);
}

#[tokio::test]
async fn an_account_with_too_little_ether_for_a_batch_redeems_one_after_the_other() {
    let world = world(ONE).await;
    let mut winners = Vec::new();
    for nonce in 1..=3 {
        winners.push(winner(&world, 0, 1, 5, nonce).await);
    }
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    // What one may cost at most is not enough for three, and one costs less than that.
    let price = base_fee(&world) * U256::from(2) + tip(&world);
    world.anvil.give(signer(1).address(), price * U256::from(500_000), U256::ZERO);
    let before = sent(&world);
    for outcome in chain.redeem_batch(&winners).await {
        assert_eq!(outcome.unwrap().paid(), Wei::from_u64(5));
    }
    assert_eq!(sent(&world) - before, 3);
}

#[tokio::test]
async fn an_account_short_of_ether_does_not_bid_itself_up_to_its_limit() {
    let world = world(ONE).await;
    let winners = [winner(&world, 0, 1, 5, 1).await, winner(&world, 0, 1, 5, 2).await];
    // The first offer is the highest that is allowed.
    let limit = u128::try_from(base_fee(&world)).unwrap().max(1);
    let chain = world.with_settings(|settings| settings.patience.max_gas_price_wei = limit);
    let chain = chain.with_account(signer(1));
    let me = signer(1).address();
    world.anvil.give(me, U256::ZERO, U256::ZERO);
    for _ in 0..2 {
        for outcome in chain.redeem_batch(&winners).await {
            let error = outcome.unwrap_err();
            assert!(
                error.is_retryable() && error.to_string().contains("too little ether"),
                "{error}"
            );
        }
    }
    world.anvil.give(me, U256::from(ONE), U256::ZERO);
    let before = sent(&world);
    for outcome in chain.redeem_batch(&winners).await {
        assert_eq!(outcome.unwrap().paid(), Wei::from_u64(5));
    }
    assert_eq!(sent(&world) - before, 1);
}

#[tokio::test]
async fn what_an_earlier_life_redeems_meanwhile_is_not_sent_again() {
    let world = world(ONE).await;
    let winners = [winner(&world, 0, 1, 5, 1).await, winner(&world, 0, 1, 5, 2).await];
    world.anvil.rpc("evm_setAutomine", &json!([false]));
    let earlier = world.with_settings(|_| {}).with_account(signer(1));
    let before = sent(&world);
    let sending = tokio::spawn({
        let winners = winners.clone();
        async move { earlier.redeem_batch(&winners).await }
    });
    let one_waits = || async { world.anvil.rpc("txpool_status", &json!([]))["pending"] == "0x1" };
    until("the batch waits", one_waits).await;
    sending.abort();
    let now = world.with_settings(|_| {}).with_account(signer(1));
    assert!(!now.is_used_ticket(winners[0].ticket.hash()).await.unwrap());
    let asked = now.questions();
    let [batch, single] = [&winners[..], &winners[..1]].map(|winners| {
        let (now, winners) = (now.clone(), winners.to_vec());
        tokio::spawn(async move { now.redeem_batch(&winners).await })
    });
    // More than it takes to try both.
    until("they wait", || async { now.questions() > asked + 12 }).await;
    world.anvil.rpc("evm_mine", &json!([]));
    world.anvil.rpc("evm_setAutomine", &json!([true]));
    for outcomes in [batch.await.unwrap(), single.await.unwrap()] {
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().revert(), Some(&Revert::Used));
        }
    }
    assert_eq!(sent(&world) - before, 1, "no gas is spent on it");
}

#[tokio::test]
async fn nobody_without_an_account_redeems() {
    let world = world(ONE).await;
    let winners = [winner(&world, 0, 1, 5, 1).await, winner(&world, 0, 1, 5, 2).await];
    for outcome in world.with_settings(|_| {}).redeem_batch(&winners).await {
        assert!(matches!(outcome, Err(ChainError::NoAccount { .. })), "{outcome:?}");
    }
}
