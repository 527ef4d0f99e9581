//! Several endpoints, of which not all answer.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings},
};
use penstock_chain::{Chain, ChainError};
use penstock_chain_ethereum::{Endpoints, EthereumChain};
use std::net::TcpListener;

fn open(world: &World, urls: &[String], more: &[&str]) -> EthereumChain {
    let endpoints = Endpoints::parse(&format!("ethereum:{}", urls.join(","))).unwrap();
    EthereumChain::open(&endpoints, settings(&world.anvil, more)).unwrap()
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
        let troubles = chain.troubles();
        assert_eq!(troubles.len(), 1, "{answering:?}: {troubles:?}");
        assert!(troubles[0].contains(bad.name()) && !troubles[0].contains(good.name()));
        // The other one comes first from now on.
        let asked = bad.asked();
        chain.rounds().await.unwrap();
        assert_eq!(bad.asked(), asked, "{answering:?}");
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
