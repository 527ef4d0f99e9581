//! The whole way of the money on Ethereum: funded, paid with tickets for work, won, redeemed, withdrawn, and ledgers,
//! contract and accounts agree to the wei.

use penstock::dev::Role;
use penstock_chain::Chain as _;
use penstock_chain_ethereum::EthereumChain;
use penstock_clients::{EthUsd, EthUsdSettings, Feed, PriceSource};
use penstock_domain::{Address, Rational, U256, Wei};
use penstock_testkit::{anvil::Anvil, figure};
use serde_json::Value;
use std::time::Duration;

use crate::{
    books::Books,
    ethereum::FUNDS,
    network::{Needs, Network, SignerOn},
    payer::{Payer, Restart},
    stake::{by_program, transactions},
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

#[tokio::test]
async fn wei_agree_from_deposit_to_withdrawal() {
    let on = SignerOn { ethereum: true, ..SignerOn::default() };
    let mut network = Network::start_on(Needs::PAYMENTS, on).await;
    let (sender, recipient) = (network.sender.parse().unwrap(), network.recipient.parse().unwrap());
    let signer_account: EthereumChain = network.ethereum_as(Role::Signer);
    let orchestrator_account = network.ethereum_as(Role::Orchestrator);
    let before = signer_account.sender_info(sender).await.unwrap();
    assert_eq!(before.deposit, Wei(U256::from(FUNDS)));

    let mut payer = Payer::new("on-anvil");
    // One ticket in four wins: some 400 tickets without a winner do not happen.
    for _ in 0..100 {
        payer.pay(&mut network, 100_000_000, Restart::Dead(&[])).await;
        if Books::read(&network).await.winners >= 2 {
            break;
        }
    }
    let stored = Books::read(&network).await;
    stored.assert_settled();
    assert!(stored.winners >= 2, "{stored:?}");
    figure(
        "on anvil: winners of tickets",
        format!("{} of {}", stored.winners, stored.signed_tickets),
    );

    // The offer ends; a death on the way changes nothing.
    let env = network.process(Role::Orchestrator).env_mut();
    env.insert("PENSTOCK_STAKE_TRANSACTIONS".to_owned(), "true".to_owned());
    network.mine(60).await;
    network.crash(Role::Orchestrator).await;
    let winners = network.winners_settled().await;
    assert_eq!(winners.len() as u64, stored.winners);
    let mut won = U256::ZERO;
    for winner in &winners {
        assert_eq!(winner["status"], "redeemed", "{winner}");
        let hash = winner["ticket_hash"].as_str().unwrap().parse().unwrap();
        assert!(signer_account.is_used_ticket(hash).await.unwrap());
        won += wei(&winner["face_value_wei"]);
    }
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
    signer_account.unlock().await.unwrap();
    anvil.next_round(true);
    anvil.next_round(true);
    let had = anvil.balance(sender);
    let receipt = signer_account.withdraw().await.unwrap();
    let left = after.deposit.0 + after.reserve.funds_remaining.0;
    assert_eq!(anvil.balance(sender), had + left - anvil.gas_paid(receipt.tx_hash));
    assert_eq!(signer_account.sender_info(sender).await.unwrap().deposit, Wei::ZERO);
}
