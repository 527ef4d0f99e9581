//! The whole way of the money on Ethereum: funded, paid with tickets for segments that were transcoded, won, redeemed,
//! withdrawn, and ledgers, contract, tickets and accounts agree to the wei.

use penstock::dev::Role;
use penstock_chain::Chain as _;
use penstock_chain_ethereum::EthereumChain;
use penstock_clients::{EthUsd, EthUsdSettings, Feed, PriceSource};
use penstock_domain::{Address, B256, Rational, U256, Wei};
use penstock_loadtest::chain_chaos::used;
use penstock_testkit::{anvil::Anvil, figure, until};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    books::Books,
    ethereum::FUNDS,
    funds,
    kills::Application,
    network::{Needs, Network, SignerOn},
    stake::{by_program, transactions},
    video::small_segments,
};

fn wei(value: &Value) -> U256 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("wei: {value}"))
}

fn rational(amount: U256) -> Rational {
    amount.to_string().parse().unwrap()
}

/// What an ether costs, of the chain's own feed; and an address where none is.
#[tokio::test]
async fn a_price_feed_says_what_an_ether_costs() {
    penstock_http_kit::tls::install_crypto_provider();
    let anvil = Anvil::start().await;
    let from = |address| {
        let feed = Feed { url: anvil.url().parse().unwrap(), address };
        let max_age = Duration::from_secs(3_600);
        let settings =
            EthUsdSettings { source: PriceSource::Feed(feed), max_age, ..Default::default() };
        EthUsd::new(settings).unwrap()
    };
    let price = from(anvil.price_feed());
    assert_eq!(price.micro_usd_per_eth(), None, "nobody has looked");
    price.refresh().await.unwrap();
    assert_eq!(price.micro_usd_per_eth(), Some(Rational::from(3_000_000_000_u64)));
    let said = from(Address::repeat_byte(7)).refresh().await.unwrap_err();
    assert!(said.contains("there is no price feed at"), "{said}");
    let said = from(anvil.controller()).refresh().await.unwrap_err();
    assert!(said.contains("description()"), "{said}");
}

/// What the signer's operator adds to the deposit.
const ADDED: u128 = FUNDS / 100;
/// Winners, before the work stops.
const WINNERS: u64 = 2;

/// Segments of a film for as long as it takes until tickets for them have won.
async fn work_until_some_have_won(network: &Network) {
    let segments = small_segments(network.scratch());
    let stop = Arc::new(AtomicBool::new(false));
    let name = "on-anvil".to_owned();
    let stream = Application::start(network, name, segments, Arc::clone(&stop));
    // One ticket in four wins: with work going on, some do.
    until("tickets for work have won", || async {
        assert!(!stream.task.is_finished(), "the application gave up");
        Books::read(network).await.winners >= WINNERS
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    stream.task.await.unwrap();
}

/// A transaction, and what a ticket in it paid.
type Paid = (B256, Wei);

/// Of each ticket that is used, as the contract's events say it.
fn paid_by_the_chain(anvil: &Anvil) -> Vec<Paid> {
    let mut paid: Vec<Paid> = used(anvil).into_iter().map(|one| (one.tx, one.paid)).collect();
    paid.sort_unstable();
    paid
}

#[tokio::test]
async fn wei_agree_from_deposit_to_withdrawal() {
    let flags = vec!["--deposit-transactions".to_owned()];
    let on = SignerOn { ethereum: true, flags, ..SignerOn::default() };
    // So dear that a segment costs a ticket or so.
    let price = ["--price-per-unit=10000".to_owned()];
    let mut network = Network::start_with(Needs::VIDEO, on, &price).await;
    let (sender, recipient) = (network.sender.parse().unwrap(), network.recipient.parse().unwrap());
    let signer_account: EthereumChain = network.ethereum_as(Role::Signer);
    let orchestrator_account = network.ethereum_as(Role::Orchestrator);
    let was = signer_account.sender_info(sender).await.unwrap();
    let had = network.anvil().balance(sender);
    let gas = funds::done(&network, &["deposit", &format!("{ADDED}wei")]).await;
    assert_eq!(network.anvil().balance(sender), had - U256::from(ADDED) - gas);
    let before = signer_account.sender_info(sender).await.unwrap();
    assert_eq!(before.deposit, Wei(U256::from(FUNDS + ADDED)));
    assert_eq!(before.reserve, was.reserve);

    work_until_some_have_won(&network).await;
    let stored = Books::read(&network).await;
    stored.assert_settled();
    assert!(stored.winners >= WINNERS && stored.debited_wei.is_positive(), "{stored:?}");
    figure(
        "on anvil: winners of tickets for segments",
        format!("{} of {}", stored.winners, stored.signed_tickets),
    );

    // The offer ends; a death on the way changes nothing.
    let env = network.process(Role::Orchestrator).env_mut();
    env.insert("PENSTOCK_STAKE_TRANSACTIONS".to_owned(), "true".to_owned());
    network.mine(60).await;
    network.crash(Role::Orchestrator).await;
    let winners = network.winners_settled().await;
    assert_eq!(winners.len() as u64, stored.winners);
    let (mut won, mut paid) = (U256::ZERO, Vec::new());
    for winner in &winners {
        assert_eq!(winner["status"], "redeemed", "{winner}");
        let hash = winner["ticket_hash"].as_str().unwrap().parse().unwrap();
        assert!(signer_account.is_used_ticket(hash).await.unwrap());
        let worth = wei(&winner["face_value_wei"]);
        won += worth;
        paid.push((winner["tx_hash"].as_str().unwrap().parse().unwrap(), Wei(worth)));
    }
    paid.sort_unstable();
    assert_eq!(paid, paid_by_the_chain(network.anvil()), "ledger and tickets");
    let after = signer_account.sender_info(sender).await.unwrap();
    assert_eq!(before.deposit.0 - after.deposit.0, won, "out of the sender's deposit");
    assert_eq!(after.reserve, before.reserve);
    let earned = orchestrator_account.pending_fees(recipient).await.unwrap();
    assert_eq!(earned, Wei(won), "to the recipient");
    // What was read of the chain, and how old it is, at both.
    for role in [Role::Signer, Role::Orchestrator] {
        let metrics = format!("{}/metrics", network.metrics(role));
        let text = network.http.get(&metrics).send().await.unwrap().text().await.unwrap();
        for name in ["chain_seen_block", "chain_block_lag_blocks", "chain_block_lag_seconds"] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{role:?}: {name}");
        }
    }
    let summary = network.get(&format!("{}/v1/summary", network.admin(Role::Orchestrator))).await;
    assert_eq!(wei(&summary["redeemed_face_value_wei"]), won);
    assert!(rational(won) > Rational::from_int(0));

    // What is left goes back, and what was earned goes out.
    let anvil = network.anvil();
    let had = anvil.balance(recipient);
    let said = by_program(&network, &["withdraw-fees", "--yes"]).await;
    let [sent] = transactions(&said)[..] else { panic!("{said}") };
    assert_eq!(anvil.balance(recipient), had + won - anvil.gas_paid(sent));
    assert_eq!(orchestrator_account.pending_fees(recipient).await.unwrap(), Wei::ZERO);
    funds::done(&network, &["unlock"]).await;
    anvil.next_round(true);
    anvil.next_round(true);
    let had = anvil.balance(sender);
    let gas = funds::done(&network, &["withdraw"]).await;
    let left = after.deposit.0 + after.reserve.funds_remaining.0;
    assert_eq!(anvil.balance(sender), had + left - gas);
    assert_eq!(signer_account.sender_info(sender).await.unwrap().deposit, Wei::ZERO);
}
