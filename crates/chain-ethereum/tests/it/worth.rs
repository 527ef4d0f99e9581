//! Tickets that would be used up for nothing, since what the sender had is gone between a look at it and the sending.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings, signer, winner},
};
use penstock_chain::{
    Chain, ChainError, NotesInMemory, Redemption, WinningTicket, Worth, conformance::Network,
};
use penstock_chain_ethereum::{Endpoints, EthereumChain};
use penstock_domain::Wei;
use penstock_testkit::until_some;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinHandle;

fn wei(amount: u64) -> Wei {
    Wei::from_u64(amount)
}

/// Accounts 1 and 2 earn. Account 1 has had its part of the reserve in this round, so that only the deposit of 30 pays
/// it: whoever empties that leaves it nothing, and the contract takes its tickets all the same.
async fn world() -> World {
    let world = World::start().await;
    for number in [1, 2] {
        world.ethereum(number).register("https://orchestrator.example").await.unwrap();
    }
    world.ethereum(0).fund_own(wei(30), wei(100)).await.unwrap();
    world.next_round().await;
    let first = winner(&world, 0, 1, 80, 1).await;
    assert_eq!(world.anyone().redeem(&first).await.unwrap().paid_from_reserve, wei(50));
    world.ethereum(0).fund_own(wei(30), Wei::ZERO).await.unwrap();
    world
}

/// The chain as account 1 through this endpoint.
fn open(world: &World, endpoint: &Endpoint, more: &[&str]) -> EthereumChain {
    let endpoints = Endpoints::parse(&format!("ethereum:{}", endpoint.url())).unwrap();
    let chain = EthereumChain::open(&endpoints, settings(&world.anvil, more)).unwrap();
    chain.with_account(signer(1))
}

fn all_of(winners: &[WinningTicket]) -> Vec<Worth> {
    let all =
        |winner: &WinningTicket| Worth { winner: winner.clone(), least: winner.ticket.face_value };
    winners.iter().map(all).collect()
}

/// Another orchestrator is paid the whole deposit.
async fn drain(world: &World) {
    let other = winner(world, 0, 2, 30, 99).await;
    assert_eq!(world.anyone().redeem(&other).await.unwrap().paid_from_deposit, wei(30));
}

/// Asks for these, and has the deposit emptied at the `nth` question for the account's number.
async fn drained_at(
    world: &World,
    winners: &[WinningTicket],
    nth: u64,
) -> Vec<Result<Redemption, ChainError>> {
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let chain = open(world, &endpoint, &[]);
    let (is_there, go) = endpoint.stop_at("eth_getTransactionCount", nth);
    let asked = all_of(winners);
    let redeeming = tokio::spawn(async move { chain.redeem_worth(&asked).await });
    is_there.await.unwrap();
    drain(world).await;
    go.send(()).unwrap();
    redeeming.await.unwrap()
}

async fn none_is_burnt(world: &World, winners: &[WinningTicket]) {
    for winner in winners {
        assert!(!world.chain().is_used_ticket(winner.ticket.hash()).await.unwrap());
    }
}

#[tokio::test]
async fn what_nothing_is_left_for_when_its_number_is_known_is_not_sent() {
    let world = world().await;
    let winners = [winner(&world, 0, 1, 30, 2).await];
    let outcomes = drained_at(&world, &winners, 0).await;
    assert!(matches!(outcomes[0], Err(ChainError::Underpaid { .. })), "{outcomes:?}");
    none_is_burnt(&world, &winners).await;
    // It waits for what its sender may put in.
    world.ethereum(0).fund_own(wei(30), Wei::ZERO).await.unwrap();
    let chain = world.with_settings(|_| {}).with_account(signer(1));
    let paid = chain.redeem_worth(&all_of(&winners)).await.remove(0).unwrap();
    assert_eq!(paid.paid(), wei(30));
}

#[tokio::test]
async fn a_batch_looks_at_what_there_is_after_it_has_waited_and_again_before_it_is_sent() {
    // While it waits for the account's other transactions, and when it is about to be sent.
    for nth in [0, 2] {
        let world = world().await;
        let winners = [winner(&world, 0, 1, 10, 2).await, winner(&world, 0, 1, 20, 3).await];
        let outcomes = drained_at(&world, &winners, nth).await;
        for outcome in &outcomes {
            assert!(matches!(outcome, Err(ChainError::Underpaid { .. })), "{nth}: {outcomes:?}");
        }
        none_is_burnt(&world, &winners).await;
    }
}

/// What waits of account 1 for a block.
fn waiting(world: &World) -> Vec<Value> {
    let pool = world.anvil.rpc("txpool_content", &json!([]));
    let of = pool["pending"].as_object().unwrap().iter();
    let mine = of.filter(|(who, _)| who.eq_ignore_ascii_case(&signer(1).address().to_string()));
    mine.flat_map(|(_, by_nonce)| by_nonce.as_object().unwrap().values().cloned()).collect()
}

fn automine(world: &World, is_on: bool) {
    world.anvil.rpc("evm_setAutomine", &json!([is_on]));
}

fn mine(world: &World) {
    world.anvil.rpc("evm_mine", &json!([]));
}

/// The next block takes only what offers so much for a unit of gas.
fn gas_costs(world: &World, gwei: u64) {
    let wei = format!("{:#x}", gwei * 1_000_000_000);
    world.anvil.rpc("anvil_setNextBlockBaseFeePerGas", &json!([wei]));
    mine(world);
}

const PATIENT: [&str; 6] = [
    "--eth-tx-timeout-ms",
    "200",
    "--eth-tx-replacements",
    "20",
    "--eth-max-gas-price-wei",
    "1000000000000",
];

/// Sends them, has gas become dear while they wait, and then the deposit be emptied by somebody who pays for that.
async fn stuck_and_drained(world: &World, chain: &EthereumChain, endpoint: &Endpoint) -> Held {
    let winners = vec![winner(world, 0, 1, 30, 2).await];
    automine(world, false);
    let (is_there, go) = endpoint.stop_at("eth_getTransactionReceipt", 0);
    let (asked, chain) = (all_of(&winners), chain.clone());
    let redeeming = tokio::spawn(async move { chain.redeem_worth(&asked).await.remove(0) });
    is_there.await.unwrap();
    assert_eq!(waiting(world).len(), 1);
    gas_costs(world, 100);
    let draining = drain(world);
    let blocks = async {
        until_some("somebody empties the deposit", || async {
            // What is too cheap for the next block is not shown.
            let status = world.anvil.rpc("txpool_status", &json!([]));
            (status["pending"] == "0x1").then_some(())
        })
        .await;
        mine(world);
    };
    tokio::join!(draining, blocks);
    go.send(()).unwrap();
    Held { winners, redeeming }
}

struct Held {
    winners: Vec<WinningTicket>,
    redeeming: JoinHandle<Result<Redemption, ChainError>>,
}

/// What waits now does nothing, and comes; then gas is cheap, and whoever has the first one brings it once more.
async fn something_else_comes(world: &World, endpoint: &Endpoint) {
    until_some("it is called off", || async {
        waiting(world).iter().any(|tx| tx["input"] == "0x").then_some(())
    })
    .await;
    mine(world);
    gas_costs(world, 1);
    let again = json!([endpoint.sent()[0]]);
    let refusal = world.anvil.refusal("eth_sendRawTransaction", &again);
    assert!(refusal.contains("nonce too low"), "{refusal}");
    mine(world);
}

#[tokio::test]
async fn one_that_came_to_be_worth_nothing_while_it_waited_is_called_off() {
    let world = world().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let chain = open(&world, &endpoint, &PATIENT);
    let held = stuck_and_drained(&world, &chain, &endpoint).await;
    something_else_comes(&world, &endpoint).await;
    let outcome = held.redeeming.await.unwrap();
    assert!(matches!(outcome, Err(ChainError::Underpaid { .. })), "{outcome:?}");
    none_is_burnt(&world, &held.winners).await;
}

#[tokio::test]
async fn one_that_was_given_up_and_still_waits_is_called_off_when_it_is_held() {
    let world = world().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let hasty = ["--eth-tx-timeout-ms", "100", "--eth-tx-replacements", "0"];
    let chain = open(&world, &endpoint, &hasty);
    let held = stuck_and_drained(&world, &chain, &endpoint).await;
    let outcome = held.redeeming.await.unwrap();
    assert!(matches!(outcome, Err(ChainError::Unavailable { .. })), "{outcome:?}");
    let again = chain.clone();
    let calling_off = tokio::spawn(async move { again.call_off(signer(0).address()).await });
    something_else_comes(&world, &endpoint).await;
    // It may have given up waiting for its block meanwhile.
    drop(calling_off.await.unwrap());
    none_is_burnt(&world, &held.winners).await;
    let sent = endpoint.count("eth_sendRawTransaction");
    chain.call_off(signer(0).address()).await.unwrap();
    assert_eq!(endpoint.count("eth_sendRawTransaction"), sent, "there is nothing to call off");
}

#[tokio::test]
async fn nothing_else_is_called_off() {
    let world = world().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let hasty = ["--eth-tx-timeout-ms", "100", "--eth-tx-replacements", "0"];
    let chain = open(&world, &endpoint, &hasty);
    automine(&world, false);
    let before = async |what: &str| {
        let before = waiting(&world);
        assert_eq!(before.len(), 1, "{what}");
        // Of this life, and of the next one, which knows of none.
        for chain in [chain.clone(), open(&world, &endpoint, &hasty)] {
            for sender in [0, 3].map(|number| signer(number).address()) {
                chain.call_off(sender).await.unwrap();
            }
        }
        assert_eq!(waiting(&world), before, "{what}");
        mine(&world);
    };
    let noting = chain.for_operation(Arc::<NotesInMemory>::default());
    noting.fund_own(wei(5), Wei::ZERO).await.unwrap_err();
    before("what is noted").await;
    // Of another sender.
    let sender = world.ethereum(4);
    let funding = sender.fund_own(wei(30), Wei::ZERO);
    let blocks = async {
        until_some("it waits", || async {
            (world.anvil.rpc("txpool_status", &json!([]))["pending"] == "0x1").then_some(())
        })
        .await;
        mine(&world);
    };
    tokio::join!(funding, blocks).0.unwrap();
    let other = [winner(&world, 4, 1, 30, 5).await];
    chain.redeem_worth(&all_of(&other)).await.remove(0).unwrap_err();
    before("a redemption of another sender's ticket").await;
}

#[tokio::test]
async fn what_an_earlier_life_sent_is_called_off_where_an_endpoint_shows_it() {
    let world = world().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let hasty = ["--eth-tx-timeout-ms", "100", "--eth-tx-replacements", "0"];
    automine(&world, false);
    // One, and several in one transaction.
    for nonces in [2..3, 3..5] {
        let mut winners = Vec::new();
        for nonce in nonces {
            winners.push(winner(&world, 0, 1, 15, nonce).await);
        }
        let earlier = open(&world, &endpoint, &hasty);
        for outcome in earlier.redeem_worth(&all_of(&winners)).await {
            outcome.unwrap_err();
        }
        let left = waiting(&world);
        assert!(left.len() == 1 && left[0]["input"] != "0x", "{left:?}");
        let next = open(&world, &endpoint, &PATIENT);
        next.call_off(signer(3).address()).await.unwrap();
        assert_eq!(waiting(&world), left);
        let calling_off =
            tokio::spawn(async move { next.call_off(signer(0).address()).await.map(|()| next) });
        until_some("it is called off", || async {
            waiting(&world).iter().any(|tx| tx["input"] == "0x").then_some(())
        })
        .await;
        mine(&world);
        drop(calling_off.await.unwrap());
        assert!(waiting(&world).is_empty());
        none_is_burnt(&world, &winners).await;
    }
}

#[tokio::test]
async fn what_offers_too_much_to_be_called_off_is_not_said_to_be() {
    let world = world().await;
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let hasty = ["--eth-tx-timeout-ms", "100", "--eth-tx-replacements", "0"];
    automine(&world, false);
    let winners = [winner(&world, 0, 1, 30, 2).await];
    open(&world, &endpoint, &hasty).redeem_worth(&all_of(&winners)).await.remove(0).unwrap_err();
    let left = waiting(&world);
    let offered = left[0]["maxFeePerGas"].as_str().unwrap().trim_start_matches("0x").to_owned();
    // An operator who pays less than before: no more than what is out offers.
    let most = u128::from_str_radix(&offered, 16).unwrap().to_string();
    let next = open(&world, &endpoint, &["--eth-max-gas-price-wei", &most]);
    for _ in 0..2 {
        let error = next.call_off(signer(0).address()).await.unwrap_err();
        assert!(error.to_string().contains("--eth-max-gas-price-wei"), "{error}");
        assert_eq!(waiting(&world), left);
    }
}

#[tokio::test]
async fn an_offer_at_the_limit_that_nobody_has_is_made_once_more() {
    let world = world().await;
    let winners = [winner(&world, 0, 1, 30, 2).await];
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::NoSends).await;
    // Below what would be offered first.
    let most = ["--eth-max-gas-price-wei", "1500000000"];
    let more = ["--eth-tx-timeout-ms", "100", "--eth-tx-replacements", "1"];
    let chain = open(&world, &endpoint, &[most, [more[0], more[1]], [more[2], more[3]]].concat());
    for _ in 0..2 {
        let outcome = chain.redeem_worth(&all_of(&winners)).await.remove(0);
        assert!(matches!(outcome, Err(ChainError::Unavailable { .. })), "{outcome:?}");
    }
    endpoint.answer(Answering::Well);
    let outcome = chain.redeem_worth(&all_of(&winners)).await.remove(0);
    assert_eq!(outcome.unwrap().paid(), wei(30));
}

#[tokio::test]
async fn the_least_is_believed_of_what_endpoints_say_that_there_is() {
    let world = world().await;
    let winners = [winner(&world, 0, 1, 30, 2).await];
    let number = world.anvil.rpc("eth_blockNumber", &json!([]));
    let number =
        u64::from_str_radix(number.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    drain(&world).await;
    // The first one is behind, and knows the deposit as it was.
    let behind = Endpoint::before(&world.anvil.url(), Answering::AsOf(number)).await;
    let other = Endpoint::before(&world.anvil.url(), Answering::Well).await;
    let urls = format!("ethereum:{},{}", behind.url(), other.url());
    let endpoints = Endpoints::parse(&urls).unwrap();
    let chain = EthereumChain::open(&endpoints, settings(&world.anvil, &[])).unwrap();
    let chain = chain.with_account(signer(1));
    let outcome = chain.redeem_worth(&all_of(&winners)).await.remove(0);
    assert!(matches!(outcome, Err(ChainError::Underpaid { .. })), "{outcome:?}");
    none_is_burnt(&world, &winners).await;
    // One that answers nothing, or has no right to ask, holds nobody up.
    behind.answer(Answering::Well);
    let answers = [Answering::Nonsense, Answering::NoCalls, Answering::Empty];
    for (nonce, answering) in (3..).zip(answers) {
        other.answer(answering);
        world.ethereum(0).fund_own(wei(30), Wei::ZERO).await.unwrap();
        let winners = [winner(&world, 0, 1, 30, nonce).await];
        let paid = chain.redeem_worth(&all_of(&winners)).await.remove(0);
        assert_eq!(paid.unwrap().paid(), wei(30), "{answering:?}");
    }
}
