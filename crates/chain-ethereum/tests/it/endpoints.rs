//! Several endpoints, of which not all answer.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings},
};
use penstock_chain::{Chain, ChainError, conformance::Network};
use penstock_chain_ethereum::{Endpoints, EthereumChain};
use penstock_testkit::until;
use serde_json::json;
use std::net::TcpListener;

fn open(world: &World, urls: &[String], more: &[&str]) -> EthereumChain {
    let endpoints = Endpoints::parse(&format!("ethereum:{}", urls.join(","))).unwrap();
    EthereumChain::open(&endpoints, settings(&world.anvil, more)).unwrap()
}

/// Waits until this endpoint has just failed again, and its operator can see it.
async fn told_of(chain: &EthereumChain, endpoint: &Endpoint) {
    until("the operator is told which one it is", || async {
        // Its pause may be over, and then it is asked again.
        let _ = chain.rounds().await;
        chain.troubles().iter().any(|said| said.contains(endpoint.name()))
    })
    .await;
}

/// Where nobody listens.
fn nobody() -> String {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", taken.local_addr().unwrap())
}

#[tokio::test]
async fn whoever_answers_badly_is_passed_over_and_told_of() {
    let world = World::start().await;
    for answering in
        [Answering::Silent, Answering::Nonsense, Answering::Elsewhere, Answering::TooMany]
    {
        let bad = Endpoint::before(&world.anvil.url(), answering).await;
        let good = Endpoint::before(&world.anvil.url(), Answering::Well).await;
        let chain = open(&world, &[bad.url(), good.url()], &["--eth-rpc-timeout-ms", "2000"]);
        assert!(chain.troubles().is_empty());
        let rounds = chain.rounds().await.unwrap();
        assert!(rounds.last_initialized_round > 0, "{answering:?}");
        told_of(&chain, &bad).await;
        assert!(!chain.troubles().iter().any(|said| said.contains(good.name())));
        // The other one comes first from then on, for longer each time that this one fails.
        until("it is not asked first", || async {
            let asked = bad.asked();
            chain.rounds().await.unwrap();
            bad.asked() == asked
        })
        .await;
    }
}

#[tokio::test]
async fn one_that_lags_behind_is_passed_over_and_not_blamed() {
    let world = World::start().await;
    let behind = Endpoint::before(&world.anvil.url(), Answering::Behind).await;
    let chain = open(&world, &[behind.url(), world.anvil.url()], &[]);
    chain.active_orchestrators().await.unwrap();
    assert!(behind.count("eth_call") > 0);
    assert!(chain.troubles().is_empty());
}

#[tokio::test]
async fn one_that_wants_to_be_left_alone_is_left_alone_even_if_there_is_no_other() {
    let world = World::start().await;
    let only = Endpoint::before(&world.anvil.url(), Answering::TooMany).await;
    let chain = open(&world, &[only.url()], &[]);
    let error = chain.gas_price().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }) && error.is_retryable());
    only.answer(Answering::Well);
    let asked = only.asked();
    let error = chain.gas_price().await.unwrap_err();
    assert!(error.to_string().contains("wants no questions"), "{error}");
    assert_eq!(only.asked(), asked);
}

#[tokio::test]
async fn one_of_another_chain_is_never_used_and_the_setting_is_named() {
    let world = World::start().await;
    let elsewhere = Endpoint::before(&world.anvil.url(), Answering::Elsewhere).await;
    let chain = open(&world, &[elsewhere.url()], &[]);
    let error = chain.gas_price().await.unwrap_err();
    assert!(error.to_string().contains("--eth-chain-id"), "{error}");
    assert_eq!((elsewhere.asked(), elsewhere.count("eth_gasPrice")), (1, 0));
}

#[tokio::test]
async fn when_nobody_is_there_each_is_named_and_it_goes_on_when_one_comes_back() {
    let mut world = World::start().await;
    let nobody = nobody();
    let chain = open(&world, &[nobody.clone(), world.anvil.url()], &[]);
    chain.rounds().await.unwrap();
    world.anvil.stop().await;
    let error = chain.rounds().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    let said = error.to_string();
    for url in [nobody, world.anvil.url()] {
        assert!(said.contains(url.trim_start_matches("http://")), "{said}");
    }
    world.anvil.start_again().await;
    chain.rounds().await.unwrap();
}

#[tokio::test]
async fn a_controller_that_is_none_is_named() {
    let world = World::start().await;
    let nobody = "0x00000000000000000000000000000000000000aa";
    let chain = open(&world, &[world.anvil.url()], &[]);
    chain.rounds().await.unwrap();
    let endpoints = Endpoints::parse(&format!("ethereum:{}", world.anvil.url())).unwrap();
    let mut wrong = settings(&world.anvil, &[]);
    wrong.controller = nobody.parse().unwrap();
    let chain = EthereumChain::open(&endpoints, wrong).unwrap();
    let error = chain.rounds().await.unwrap_err();
    assert!(error.to_string().to_ascii_lowercase().contains(nobody), "{error}");
}

#[tokio::test]
async fn one_that_stands_still_is_not_believed_and_told_of() {
    let world = World::start().await;
    let still = Endpoint::before(&world.anvil.url(), Answering::StandsStill).await;
    let good = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let bound = ["--eth-max-head-age-ms", "1800000"];
    let chain = open(&world, &[still.url(), good.url()], &bound);
    chain.rounds().await.unwrap();
    assert_eq!(still.count("eth_call"), 0, "nothing else of it is heard");
    assert!(good.count("eth_call") > 0);
    told_of(&chain, &still).await;
    // Where there is no other, nothing is known, and it is said why.
    let alone = open(&world, &[still.url()], &bound);
    let error = alone.rounds().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }) && error.is_retryable(), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(still.name()) && said.contains("s behind this machine's clock"),
        "{said}"
    );
    assert!(alone.troubles()[0].contains("--eth-max-head-age-ms 1800000"));
    still.answer(Answering::Well);
    alone.rounds().await.unwrap();
    // Nor is one of tomorrow.
    world.anvil.rpc("evm_increaseTime", &json!([86_400]));
    world.anvil.rpc("evm_mine", &json!([]));
    let tomorrow = open(&world, &[world.anvil.url()], &bound);
    let error = tomorrow.rounds().await.unwrap_err();
    assert!(error.to_string().contains("ahead of this machine's clock"), "{error}");
    open(&world, &[world.anvil.url()], &[]).rounds().await.unwrap();
}

#[tokio::test]
async fn a_height_far_too_high_is_refused_and_its_endpoint_named() {
    let world = World::start().await;
    let bound = ["--eth-max-l1-jump-blocks", "100"];
    for far in [Answering::FarL1, Answering::FarRound] {
        let liar = Endpoint::before(&world.anvil.url(), Answering::Well).await;
        let chain = open(&world, &[liar.url(), world.anvil.url()], &bound);
        let alone = open(&world, &[liar.url()], &bound);
        let before = chain.rounds().await.unwrap();
        assert_eq!(alone.rounds().await.unwrap(), before);
        liar.answer(far);
        assert_eq!(chain.rounds().await.unwrap(), before, "{far:?}");
        told_of(&chain, &liar).await;
        let said = alone.rounds().await.unwrap_err().to_string();
        assert!(said.contains(liar.name()) && said.contains("--eth-max-l1-jump-blocks"), "{said}");
        // Nor is it believed when it is the first that is heard: another one says less.
        let new = open(&world, &[liar.url(), world.anvil.url()], &bound);
        assert_eq!(new.rounds().await.unwrap(), before, "{far:?}");
        // What is near is believed, and so is a way back.
        liar.answer(Answering::Well);
        world.mine_blocks(60).await;
        let after = alone.rounds().await.unwrap();
        assert_eq!(after.last_seen_l1_block, before.last_seen_l1_block + 60);
    }
    let liar = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let alone = open(&world, &[liar.url()], &bound);
    alone.active_orchestrators().await.unwrap();
    liar.answer(Answering::FarBlock);
    let said = alone.active_orchestrators().await.unwrap_err().to_string();
    assert!(said.contains(liar.name()) && said.contains("the newest block"), "{said}");
    // Nor does it say which blocks are final.
    let deep = open(&world, &[liar.url()], &[bound[0], bound[1], "--eth-final-blocks", "1"]);
    liar.answer(Answering::Well);
    deep.active_orchestrators().await.unwrap();
    let known = deep.final_block().await.unwrap();
    assert!(known.is_some());
    liar.answer(Answering::FarBlock);
    deep.final_block().await.unwrap_err();
    liar.answer(Answering::Well);
    assert_eq!(deep.final_block().await.unwrap(), known);
}
