//! Tickets that would be used up for nothing, since what the sender had is gone between a look at it and the sending.

use crate::{
    endpoint::{Answering, Endpoint},
    world::{World, settings, signer, winner},
};
use penstock_chain::{Chain, ChainError, Redemption, WinningTicket, Worth, conformance::Network};
use penstock_chain_ethereum::{Endpoints, EthereumChain};
use penstock_domain::Wei;

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

#[tokio::test]
async fn one_that_came_to_be_worth_nothing_while_it_was_stuck_is_not_made_to_come_sooner() {
    let world = world().await;
    let winners = [winner(&world, 0, 1, 30, 2).await];
    let endpoint = Endpoint::before(&world.anvil.url(), Answering::SwallowSent).await;
    let chain = open(&world, &endpoint, &["--eth-tx-timeout-ms", "200"]);
    let (is_there, go) = endpoint.stop_at("eth_getTransactionReceipt", 0);
    let asked = all_of(&winners);
    let redeeming = tokio::spawn(async move { chain.redeem_worth(&asked).await });
    is_there.await.unwrap();
    drain(&world).await;
    endpoint.answer(Answering::Well);
    go.send(()).unwrap();
    let outcome = redeeming.await.unwrap().remove(0);
    // Whoever has the first version may still bring it in: whether it came is asked later.
    assert!(matches!(outcome, Err(ChainError::Unavailable { .. })), "{outcome:?}");
    assert_eq!(endpoint.count("eth_sendRawTransaction"), 1);
    none_is_burnt(&world, &winners).await;
}
