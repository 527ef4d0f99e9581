//! Transactions that do not go the straight way.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings, signer, winner},
};
use penstock_chain::{Chain, ChainError, Revert, conformance::Network};
use penstock_chain_ethereum::{Endpoints, EthereumChain};
use penstock_domain::{Address, U256, Wei};
use penstock_testkit::{until, until_some};
use serde_json::{Value, json};

fn wei(amount: u64) -> Wei {
    Wei::from_u64(amount)
}

/// The chain as account 1 with these settings, through this endpoint.
fn open(world: &World, url: &str, more: &[&str]) -> EthereumChain {
    let endpoints = Endpoints::parse(&format!("ethereum:{url}")).unwrap();
    let chain = EthereumChain::open(&endpoints, settings(&world.anvil, more)).unwrap();
    chain.with_account(signer(1))
}

fn me() -> Address {
    signer(1).address()
}

async fn deposit(world: &World) -> Wei {
    world.chain().sender_info(me()).await.unwrap().deposit
}

/// Blocks are made only when a test says so.
fn hold(world: &World) {
    world.anvil.rpc("evm_setAutomine", &json!([false]));
}

fn mine(world: &World) {
    world.anvil.rpc("evm_mine", &json!([]));
}

/// What waits of account 1 under a number.
fn waiting(world: &World, nonce: u64) -> Option<Value> {
    let pool = world.anvil.rpc("txpool_content", &json!([]));
    let of = pool["pending"].as_object().unwrap().iter();
    let mine = of.filter(|(who, _)| who.eq_ignore_ascii_case(&me().to_string()));
    mine.map(|(_, by_nonce)| by_nonce[&nonce.to_string()].clone()).find(|tx| !tx.is_null())
}

fn fee(transaction: &Value) -> U256 {
    let text = transaction["maxFeePerGas"].as_str().unwrap();
    U256::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

#[tokio::test]
async fn a_stuck_transaction_is_replaced_by_a_dearer_one() {
    let world = World::start().await;
    hold(&world);
    let chain = open(
        &world,
        &world.anvil.url(),
        &["--eth-tx-timeout-ms", "200", "--eth-tx-replacements", "20"],
    );
    let sending = tokio::spawn(async move { chain.fund_own(wei(5), wei(0)).await });
    let first = until_some("it waits", || async { waiting(&world, 0) }).await;
    let second = until_some("it is replaced", || async {
        waiting(&world, 0).filter(|tx| tx["hash"] != first["hash"])
    })
    .await;
    assert!(fee(&second) * U256::from(10) >= fee(&first) * U256::from(11), "at least a tenth more");
    assert_eq!(second["input"], first["input"]);
    mine(&world);
    sending.await.unwrap().unwrap();
    assert_eq!(deposit(&world).await, wei(5), "once");
}

#[tokio::test]
async fn one_that_is_mined_while_it_is_replaced_has_succeeded() {
    let world = World::start().await;
    hold(&world);
    // Makes a block with the first transaction at the moment when its replacement comes.
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::MineBeforeSend(2)).await;
    let chain = open(&world, &endpoint.url(), &["--eth-tx-timeout-ms", "200"]);
    let receipt = chain.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(endpoint.count("eth_sendRawTransaction"), 2);
    let mined = world.anvil.rpc("eth_getTransactionReceipt", &json!([receipt.tx_hash.to_string()]));
    assert_eq!(mined["status"], "0x1");
    assert_eq!(deposit(&world).await, wei(5), "once");
    assert!(waiting(&world, 0).is_none() && waiting(&world, 1).is_none());
}

#[tokio::test]
async fn what_an_earlier_life_left_waiting_is_replaced() {
    let world = World::start().await;
    hold(&world);
    let earlier = open(
        &world,
        &world.anvil.url(),
        &["--eth-tx-timeout-ms", "100", "--eth-tx-replacements", "2"],
    );
    let error = earlier.fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("not in a block"), "{error}");
    let left = waiting(&world, 0).unwrap();
    let now = open(
        &world,
        &world.anvil.url(),
        &["--eth-tx-timeout-ms", "200", "--eth-tx-replacements", "20"],
    );
    let sending = tokio::spawn(async move { now.fund_own(wei(7), wei(0)).await });
    let ours = until_some("it takes the place", || async {
        waiting(&world, 0).filter(|tx| tx["hash"] != left["hash"])
    })
    .await;
    assert!(fee(&ours) > fee(&left));
    mine(&world);
    sending.await.unwrap().unwrap();
    assert_eq!(deposit(&world).await, wei(7), "not both");
}

#[tokio::test]
async fn nothing_is_sent_above_the_gas_price_that_is_paid() {
    let world = World::start().await;
    let chain = open(&world, &world.anvil.url(), &["--eth-max-gas-price-wei", "1"]);
    let error = chain.fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(
        error.is_retryable() && error.to_string().contains("--eth-max-gas-price-wei"),
        "{error}"
    );
    let sent = world.anvil.rpc("eth_getTransactionCount", &json!([me().to_string(), "pending"]));
    assert_eq!(sent, "0x0");
}

#[tokio::test]
async fn an_empty_account_is_told_so() {
    let world = World::start().await;
    world.anvil.give(me(), U256::ZERO, U256::ZERO);
    let chain = open(&world, &world.anvil.url(), &[]);
    let error = chain.fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(matches!(error, ChainError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("too little ether"), "{error}");
}

#[tokio::test]
async fn a_lost_answer_loses_no_transaction() {
    let world = World::start().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::LoseSent).await;
    let chain = open(&world, &endpoint.url(), &[]);
    chain.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(endpoint.count("eth_sendRawTransaction"), 1);
    assert_eq!(deposit(&world).await, wei(5));
}

#[tokio::test]
async fn many_at_once_are_sent_one_after_the_other() {
    let world = World::start().await;
    let chain = world.ethereum(1);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let chain = chain.clone();
        all.spawn(async move { chain.fund_own(wei(1), wei(2)).await });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(deposit(&world).await, wei(10));
}

#[tokio::test]
async fn two_processes_with_one_key_get_all_their_transactions_through() {
    let world = World::start().await;
    world.ethereum(1).register("https://orchestrator.example").await.unwrap();
    world.ethereum(0).fund_own(wei(100), wei(0)).await.unwrap();
    world.next_round().await;
    let processes = [(); 2].map(|()| open(&world, &world.anvil.url(), &[]));
    let mut redeeming = tokio::task::JoinSet::new();
    for nonce in 1..=10 {
        let ticket = winner(&world, 0, 1, 3, nonce).await;
        let chain = processes[nonce as usize % 2].clone();
        redeeming.spawn(async move { chain.redeem(&ticket).await });
    }
    while let Some(redeemed) = redeeming.join_next().await {
        assert_eq!(redeemed.unwrap().unwrap().paid(), wei(3));
    }
    let left = world.chain().sender_info(signer(0).address()).await.unwrap().deposit;
    assert_eq!(left, wei(70));
}

#[tokio::test]
async fn a_block_that_is_taken_back_takes_no_transaction_with_it() {
    let world = World::start().await;
    hold(&world);
    let before = world.anvil.rpc("evm_snapshot", &json!([]));
    let more =
        ["--eth-confirmations", "3", "--eth-tx-timeout-ms", "200", "--eth-tx-replacements", "20"];
    let chain = open(&world, &world.anvil.url(), &more);
    let sending = tokio::spawn(async move { chain.fund_own(wei(5), wei(0)).await });
    let first = until_some("it waits", || async { waiting(&world, 0) }).await;
    mine(&world);
    mine(&world);
    let hash = json!([first["hash"]]);
    assert_eq!(world.anvil.rpc("eth_getTransactionReceipt", &hash)["status"], "0x1");
    assert!(!sending.is_finished(), "not deep enough");
    world.anvil.rpc("evm_revert", &json!([before]));
    assert!(world.anvil.rpc("eth_getTransactionReceipt", &hash).is_null());
    until_some("it is sent again", || async { waiting(&world, 0) }).await;
    for _ in 0..3 {
        mine(&world);
    }
    sending.await.unwrap().unwrap();
    assert_eq!(deposit(&world).await, wei(5));
}

#[tokio::test]
async fn one_that_fails_in_its_block_says_why() {
    let world = World::start().await;
    world.ethereum(1).register("https://orchestrator.example").await.unwrap();
    world.ethereum(0).fund_own(wei(100), wei(0)).await.unwrap();
    world.next_round().await;
    hold(&world);
    // Two accounts redeem one ticket: both pass when they are tried, and one of them comes second in the block.
    let ticket = winner(&world, 0, 1, 3, 1).await;
    let sending = [8, 9].map(|number| {
        let (chain, ticket) = (world.ethereum(number).clone(), ticket.clone());
        tokio::spawn(async move { chain.redeem(&ticket).await })
    });
    until("both wait", || async {
        world.anvil.rpc("txpool_status", &json!([]))["pending"] == "0x2"
    })
    .await;
    mine(&world);
    let mut ends = Vec::new();
    for sent in sending {
        ends.push(sent.await.unwrap());
    }
    let paid: Vec<_> = ends.iter().flatten().collect();
    assert_eq!((paid.len(), paid[0].paid()), (1, wei(3)), "{ends:?}");
    let refused = ends.iter().find_map(|end| end.as_ref().err()).unwrap();
    assert_eq!(refused.revert(), Some(&Revert::Used), "{refused}");
}
