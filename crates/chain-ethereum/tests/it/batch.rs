//! Several winners in one transaction.

use crate::world::{ONE, World, signer, winner};
use penstock_chain::{Chain, ChainError, Revert, conformance::Network};
use penstock_domain::Wei;
use penstock_testkit::figure;
use serde_json::json;
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
async fn nobody_without_an_account_redeems() {
    let world = world(ONE).await;
    let winners = [winner(&world, 0, 1, 5, 1).await, winner(&world, 0, 1, 5, 2).await];
    for outcome in world.with_settings(|_| {}).redeem_batch(&winners).await {
        assert!(matches!(outcome, Err(ChainError::NoAccount { .. })), "{outcome:?}");
    }
}
