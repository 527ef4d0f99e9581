//! Transactions that do not go the straight way.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings, signer, winner},
};
use penstock_chain::{Chain, ChainError, NotesInMemory, Revert, conformance::Network};
use penstock_chain_ethereum::{Endpoints, EthereumChain};
use penstock_domain::{Address, U256, Wei};
use penstock_testkit::{until, until_some};
use serde_json::{Value, json};
use std::sync::Arc;

fn wei(amount: u64) -> Wei {
    Wei::from_u64(amount)
}

/// The chain as account 1 with these settings, through this endpoint, and with no notes of an earlier life.
fn open(world: &World, url: &str, more: &[&str]) -> EthereumChain {
    open_noting(world, url, more, &NotesInMemory::default())
}

/// The same with notes.
fn open_noting(world: &World, url: &str, more: &[&str], notes: &NotesInMemory) -> EthereumChain {
    let endpoints = Endpoints::parse(&format!("ethereum:{url}")).unwrap();
    let chain = EthereumChain::open(&endpoints, settings(&world.anvil, more)).unwrap();
    chain.with_account(signer(1)).for_operation(Arc::new(notes.clone()))
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

/// Transactions of account 1 in blocks.
fn count(world: &World) -> u64 {
    let count = world.anvil.rpc("eth_getTransactionCount", &json!([me().to_string(), "latest"]));
    u64::from_str_radix(count.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
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
    assert!(matches!(error, ChainError::Gas { .. }), "{error:?}");
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

#[tokio::test]
async fn ether_is_sent_once_when_one_endpoint_takes_it_and_another_one_answers() {
    let world = World::start().await;
    // By the time that the second one is asked it is in a block.
    let silent = Endpoint::before(&world.anvil.url(), Answering::LoseSent).await;
    let both = format!("{},{}", silent.url(), world.anvil.url());
    let chain = open(&world, &both, &[]);
    let receipt = chain.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(silent.count("eth_sendRawTransaction"), 1);
    assert_eq!(deposit(&world).await, wei(5), "once");
    let count = world.anvil.rpc("eth_getTransactionCount", &json!([me().to_string(), "latest"]));
    assert_eq!(count, "0x1");
    let mined = world.anvil.rpc("eth_getTransactionReceipt", &json!([receipt.tx_hash.to_string()]));
    assert_eq!(mined["status"], "0x1");
    // What is settled is not looked for again: the same is a new wish.
    chain.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(deposit(&world).await, wei(10));
}

/// A life that funds with five wei and ends when they are on their way.
async fn a_life_that_ends(world: &World, notes: &NotesInMemory) -> Value {
    let life = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let chain = open_noting(world, &world.anvil.url(), &[], notes);
    life.spawn(async move { chain.fund_own(wei(5), wei(0)).await });
    let out = until_some("it is on its way", || async { waiting(world, 0) }).await;
    life.shutdown_background();
    out
}

#[tokio::test]
async fn ether_that_an_earlier_life_sent_is_found_and_not_sent_again() {
    let world = World::start().await;
    hold(&world);
    let notes = NotesInMemory::default();
    let out = a_life_that_ends(&world, &notes).await;
    // In its block before the next life looks.
    mine(&world);
    let now = open_noting(&world, &world.anvil.url(), &[], &notes);
    let receipt = now.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(json!(receipt.tx_hash.to_string()), out["hash"], "what it did then");
    assert_eq!(deposit(&world).await, wei(5), "once");
}

#[tokio::test]
async fn ether_on_its_way_comes_before_anything_else_even_where_its_transaction_was_lost() {
    let world = World::start().await;
    hold(&world);
    let notes = NotesInMemory::default();
    let out = a_life_that_ends(&world, &notes).await;
    world.anvil.rpc("anvil_dropTransaction", &json!([out["hash"]]));
    assert!(waiting(&world, 0).is_none());
    let now = open_noting(&world, &world.anvil.url(), &[], &notes);
    let sending = tokio::spawn(async move { now.fund_own(wei(7), wei(0)).await });
    let again = until_some("it is sent again", || async { waiting(&world, 0) }).await;
    assert_eq!(again["hash"], out["hash"], "as it was signed");
    assert!(waiting(&world, 1).is_none(), "and nothing else");
    mine(&world);
    until_some("the other one follows", || async { waiting(&world, 1) }).await;
    mine(&world);
    sending.await.unwrap().unwrap();
    assert_eq!(deposit(&world).await, wei(12), "each once");
}

#[tokio::test]
async fn ether_whose_number_is_used_and_whose_receipt_nobody_shows_is_not_sent_again() {
    let world = World::start().await;
    hold(&world);
    let notes = NotesInMemory::default();
    let out = a_life_that_ends(&world, &notes).await;
    mine(&world);
    world.anvil.rpc("evm_setAutomine", &json!([true]));
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::NoReceipts).await;
    let now = open_noting(&world, &endpoint.url(), &[], &notes);
    // As often as it is asked for, and whatever is asked for next.
    for amount in [5, 5, 7] {
        let error = now.fund_own(wei(amount), wei(0)).await.unwrap_err();
        assert!(error.is_retryable() && !error.is_the_end(), "{error:?}");
        assert!(error.to_string().contains("--eth-lost-nonce 0"), "{error}");
    }
    assert_eq!(deposit(&world).await, wei(5), "once");
    // Another endpoint has the receipt.
    let both = format!("{},{}", endpoint.url(), world.anvil.url());
    let now = open_noting(&world, &both, &[], &notes);
    let receipt = now.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(json!(receipt.tx_hash.to_string()), out["hash"]);
    assert_eq!(deposit(&world).await, wei(5), "once");
}

/// A life that funds with five wei, of which no endpoint has heard when it ends.
async fn a_life_of_which_nobody_heard(world: &World, notes: &NotesInMemory) {
    hold(world);
    let out = a_life_that_ends(world, notes).await;
    world.anvil.rpc("anvil_dropTransaction", &json!([out["hash"]]));
    world.anvil.rpc("evm_setAutomine", &json!([true]));
}

/// Twenty blocks are enough for the chain to be final where `--eth-final-blocks` says 10.
fn is_final(world: &World) {
    world.anvil.rpc("anvil_mine", &json!(["0x14"]));
}

const FINAL: [&str; 2] = ["--eth-final-blocks", "10"];

#[tokio::test]
async fn ether_whose_number_a_redemption_has_is_sent_under_another_one_once_that_is_final() {
    let world = World::start().await;
    world.ethereum(1).register("https://orchestrator.example").await.unwrap();
    world.ethereum(0).fund_own(wei(100), wei(0)).await.unwrap();
    world.next_round().await;
    let notes = NotesInMemory::default();
    hold(&world);
    let number = count(&world);
    let earlier = open_noting(&world, &world.anvil.url(), &FINAL, &notes);
    let life = tokio::spawn(async move { earlier.fund_own(wei(5), wei(0)).await });
    let out = until_some("it is on its way", || async { waiting(&world, number) }).await;
    life.abort();
    world.anvil.rpc("anvil_dropTransaction", &json!([out["hash"]]));
    world.anvil.rpc("evm_setAutomine", &json!([true]));
    // Redemptions know nothing of what is noted.
    let ticket = winner(&world, 0, 1, 3, 1).await;
    open(&world, &world.anvil.url(), &[]).redeem(&ticket).await.unwrap();
    assert_eq!(count(&world), number + 1);
    let now = open_noting(&world, &world.anvil.url(), &FINAL, &notes);
    for _ in 0..2 {
        let error = now.fund_own(wei(5), wei(0)).await.unwrap_err();
        assert!(error.is_retryable() && !error.is_the_end(), "{error:?}");
        assert!(error.to_string().contains("not final yet"), "{error}");
    }
    assert_eq!(deposit(&world).await, wei(0), "nothing was sent");
    is_final(&world);
    now.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!((deposit(&world).await, count(&world)), (wei(5), number + 2));
    now.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(deposit(&world).await, wei(10), "a new wish");
}

#[tokio::test]
async fn ether_that_was_sent_by_hand_under_its_number_is_not_sent_again() {
    let world = World::start().await;
    let notes = NotesInMemory::default();
    a_life_of_which_nobody_heard(&world, &notes).await;
    // A wallet with the same key, which does the same for other fees.
    let dear = json!([format!("{:#x}", 50_000_000_000_u64)]);
    world.anvil.rpc("anvil_setNextBlockBaseFeePerGas", &dear);
    mine(&world);
    let wallet = open(&world, &world.anvil.url(), &[]);
    let by_hand = wallet.fund_own(wei(5), wei(0)).await.unwrap();
    is_final(&world);
    let now = open_noting(&world, &world.anvil.url(), &FINAL, &notes);
    let receipt = now.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(receipt.tx_hash, by_hand.tx_hash);
    assert_eq!(deposit(&world).await, wei(5), "once");
}

#[tokio::test]
async fn ether_whose_number_is_used_ends_undone_when_the_operator_says_so() {
    let world = World::start().await;
    let notes = NotesInMemory::default();
    a_life_of_which_nobody_heard(&world, &notes).await;
    open(&world, &world.anvil.url(), &[]).fund_own(wei(100), wei(0)).await.unwrap();
    is_final(&world);
    // No endpoint can tell whose it is.
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::NoHistory).await;
    let with = |nonce: &'static str| {
        let more = [FINAL.as_slice(), &["--eth-lost-nonce", nonce]].concat();
        open_noting(&world, &endpoint.url(), &more, &notes)
    };
    let other = with("1").fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(!other.is_the_end() && other.to_string().contains("--eth-lost-nonce 0"), "{other}");
    let told = with("0");
    let ended = told.fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(matches!(ended, ChainError::Lost { .. }) && ended.is_the_end(), "{ended:?}");
    assert_eq!(deposit(&world).await, wei(100), "nothing was sent");
    told.fund_own(wei(5), wei(0)).await.unwrap();
    assert_eq!(deposit(&world).await, wei(105), "a new wish");
}

#[tokio::test]
async fn no_ether_goes_along_where_it_cannot_be_noted() {
    let world = World::start().await;
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    let error = chain.fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
    let chain = open_noting(&world, &world.anvil.url(), &[], &NotesInMemory::broken());
    let error = chain.fund_own(wei(5), wei(0)).await.unwrap_err();
    assert!(error.to_string().contains("nothing can be noted"), "{error}");
    let sent = world.anvil.rpc("eth_getTransactionCount", &json!([me().to_string(), "pending"]));
    assert_eq!(sent, "0x0");
}

#[tokio::test]
async fn what_an_endpoint_says_of_gas_is_believed_within_limits_that_nobody_has_to_set() {
    let world = World::start().await;
    for (answering, setting) in
        [(Answering::Dear, "--eth-max-gas-price-wei"), (Answering::Hungry, "--eth-max-gas ")]
    {
        let endpoint = Endpoint::before(&world.anvil.url(), answering).await;
        let chain = open(&world, &endpoint.url(), &[]);
        let error = chain.fund_own(wei(5), wei(0)).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains(setting), "{error}");
        assert_eq!(endpoint.count("eth_sendRawTransaction"), 0, "{answering:?}");
        endpoint.answer(Answering::Well);
        chain.fund_own(wei(5), wei(0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_ticket_is_known_to_be_used_where_no_events_can_be_searched() {
    let world = World::start().await;
    world.ethereum(1).register("https://orchestrator.example").await.unwrap();
    world.ethereum(0).fund_own(wei(100), wei(0)).await.unwrap();
    world.next_round().await;
    let ticket = winner(&world, 0, 1, 3, 1).await;
    let paid = world.ethereum(1).redeem(&ticket).await.unwrap();
    // No such method; too many blocks, however few; the endpoint's own trouble.
    for code in [-32_601, -32_000, -32_603] {
        let endpoint = Endpoint::before(&world.anvil.url(), Answering::NoEvents(code)).await;
        let chain = open(&world, &endpoint.url(), &[]);
        assert_eq!(chain.redemption(&ticket.ticket).await.unwrap(), None, "{code}");
        assert!(chain.is_used_ticket(ticket.ticket.hash()).await.unwrap(), "{code}");
        // With an endpoint that does, it is found.
        let both = format!("{},{}", endpoint.url(), world.anvil.url());
        let found = open(&world, &both, &[]).redemption(&ticket.ticket).await.unwrap();
        assert_eq!(found, Some(paid), "{code}");
    }
}
