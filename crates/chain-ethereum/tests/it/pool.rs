//! The active set with what is registered of it, in both registries, also where events come late or never.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings},
};
use alloy_sol_types::SolCall as _;
use penstock_chain::{Chain, conformance::Network};
use penstock_chain_ethereum::{Endpoints, EthereumChain, Settings, contracts::IServiceRegistry};
use penstock_domain::Wei;
use penstock_testkit::until_some;
use serde_json::json;
use std::time::Duration;

fn open(world: &World, endpoint: &Endpoint, change: impl FnOnce(&mut Settings)) -> EthereumChain {
    let mut settings = settings(&world.anvil, &[]);
    change(&mut settings);
    let endpoints = Endpoints::parse(&format!("ethereum:{}", endpoint.url())).unwrap();
    EthereumChain::open(&endpoints, settings).unwrap()
}

/// What is registered of whom, by address.
async fn uris(world: &World, chain: &EthereumChain, number: usize) -> Vec<String> {
    let active = chain.active_orchestrators().await.unwrap();
    let who = world.address(number);
    let mut found = active.iter().filter(|one| one.address == who);
    found.next().unwrap().service_uris().map(str::to_owned).collect()
}

async fn a_block(world: &World) {
    world.ethereum(0).fund_own(Wei::from_u64(5), Wei::ZERO).await.unwrap();
}

#[tokio::test]
async fn both_registries_are_read_and_watched_and_one_is_written() {
    let world = World::start().await;
    let ai = world.anvil.ai_service_registry();
    // The account of a number, whose URI goes to the AI registry.
    let writes_ai = |number: usize| {
        let chain = world.with_settings(|settings| settings.service_registry = Some(ai));
        chain.with_account(crate::world::signer(number))
    };
    for number in [1, 3] {
        world.account(number).register(&format!("https://video{number}.example")).await.unwrap();
    }
    for number in [2, 3] {
        writes_ai(number).register(&format!("https://ai{number}.example")).await.unwrap();
    }
    world.next_round().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let both = open(&world, &endpoint, |settings| settings.ai_service_registry = Some(ai));
    assert_eq!(uris(&world, &both, 1).await, ["https://video1.example"]);
    assert_eq!(uris(&world, &both, 2).await, ["https://ai2.example"]);
    assert_eq!(uris(&world, &both, 3).await, ["https://video3.example", "https://ai3.example"]);
    // Who writes to the AI registry reads the other one, too.
    let writer = writes_ai(3);
    assert_eq!(uris(&world, &writer, 3).await, ["https://ai3.example", "https://video3.example"]);
    let one = world.with_settings(|_| {});
    assert_eq!(uris(&world, &one, 2).await, Vec::<String>::new(), "a network with one registry");
    // News of either.
    writes_ai(2).register("https://moved2.example").await.unwrap();
    assert_eq!(uris(&world, &both, 2).await, ["https://moved2.example"]);
    world.account(1).register("https://moved1.example").await.unwrap();
    assert_eq!(uris(&world, &both, 1).await, ["https://moved1.example"]);
    writes_ai(1).register("https://moved1.example").await.unwrap();
    assert_eq!(uris(&world, &both, 1).await, ["https://moved1.example"], "the same in both");
}

#[tokio::test]
async fn an_event_that_an_endpoint_tells_of_late_is_not_missed() {
    let world = World::start().await;
    world.account(1).register("https://o1.example").await.unwrap();
    world.next_round().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let chain = open(&world, &endpoint, |_| {});
    assert_eq!(uris(&world, &chain, 1).await, ["https://o1.example"]);
    endpoint.answer(Answering::EventsLate);
    world.account(1).register("https://moved.example").await.unwrap();
    for _ in 0..3 {
        a_block(&world).await;
        assert_eq!(uris(&world, &chain, 1).await, ["https://o1.example"], "nobody told");
    }
    endpoint.answer(Answering::Well);
    a_block(&world).await;
    assert_eq!(uris(&world, &chain, 1).await, ["https://moved.example"]);
    // What was read with it is no news any more.
    let before = chain.questions();
    a_block(&world).await;
    uris(&world, &chain, 1).await;
    assert!(chain.questions() - before <= 4, "{}", chain.questions() - before);
}

#[tokio::test]
async fn an_event_that_no_endpoint_ever_tells_of_is_made_up_for_by_reading_anew() {
    let world = World::start().await;
    world.account(1).register("https://o1.example").await.unwrap();
    world.next_round().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::EventsLate).await;
    let chain = open(&world, &endpoint, |settings| settings.pool_reread = Duration::ZERO);
    assert_eq!(uris(&world, &chain, 1).await, ["https://o1.example"]);
    world.account(1).register("https://moved.example").await.unwrap();
    assert_eq!(uris(&world, &chain, 1).await, ["https://moved.example"]);
}

#[tokio::test]
async fn what_strangers_write_to_a_registry_makes_nobody_read_all_anew() {
    let world = World::start().await;
    world.account(1).register("https://o1.example").await.unwrap();
    world.next_round().await;
    let ai = world.anvil.ai_service_registry();
    let chain = world.with_settings(|settings| settings.ai_service_registry = Some(ai));
    assert_eq!(uris(&world, &chain, 1).await, ["https://o1.example"]);
    let stranger = world.address(7).to_string();
    world.anvil.rpc("anvil_impersonateAccount", &json!([stranger]));
    let uri = "https://stranger.example".to_owned();
    let data = IServiceRegistry::setServiceURICall { uri }.abi_encode();
    let data = format!("0x{}", hex::encode(data));
    let call = json!([{ "from": stranger, "to": ai.to_string(), "data": data }]);
    let tx = world.anvil.rpc("eth_sendTransaction", &call);
    let logs = until_some("it is in a block", || async {
        let receipt = world.anvil.rpc("eth_getTransactionReceipt", &json!([tx]));
        receipt["logs"].as_array().cloned()
    })
    .await;
    assert_eq!(logs.len(), 1, "there is an event");
    let before = chain.questions();
    assert_eq!(uris(&world, &chain, 1).await, ["https://o1.example"]);
    assert!(chain.questions() - before <= 4, "{}", chain.questions() - before);
}

#[tokio::test]
async fn a_registry_that_is_none_takes_nobody_away() {
    let world = World::start().await;
    world.account(1).register("https://o1.example").await.unwrap();
    world.next_round().await;
    for nobody in [world.address(7), world.anvil.controller()] {
        let chain = world.with_settings(|settings| settings.ai_service_registry = Some(nobody));
        assert_eq!(uris(&world, &chain, 1).await, ["https://o1.example"]);
    }
}
