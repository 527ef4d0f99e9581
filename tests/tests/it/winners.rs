//! A ticket is won and redeemed: the chain pays its face value, once, out of the sender's deposit.

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::figure;
use serde_json::Value;

use crate::{
    books::Books,
    network::{Needs, Network},
    payer::{Payer, Restart},
};

fn wei(value: &Value) -> Rational {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("wei: {value}"))
}

#[tokio::test]
async fn a_winning_ticket_is_paid_its_face_value() {
    let mut network = Network::start(Needs::PAYMENTS).await;
    let devnet = network.url(Role::Devnet);
    let sender_url = format!("{devnet}/v1/senders/{}", network.sender);
    let deposit_before = wei(&network.get(&sender_url).await["deposit_wei"]);

    let mut payer = Payer::new("winners");
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

    figure("winners: of tickets", format!("{} of {}", stored.winners, stored.signed_tickets));
    // A winner is shown to the chain only when its offer has expired, since that reveals the
    // number that decides the draw.
    let status = network.get(&format!("{devnet}/v1/status")).await;
    assert_eq!(status["redemptions"].as_u64(), Some(0));
    network.mine(60).await;
    let winners = network.winners_settled().await;
    assert_eq!(winners.len() as u64, stored.winners);

    let mut paid = Rational::from_int(0);
    for winner in &winners {
        assert_eq!(winner["status"], "redeemed", "{winner}");
        let hash = winner["ticket_hash"].as_str().unwrap();
        let on_chain = network.get(&format!("{devnet}/v1/tickets/{hash}")).await;
        assert_eq!(on_chain["used"], Value::Bool(true));
        let redemption = &on_chain["redemption"];
        assert_eq!(redemption["tx_hash"], winner["tx_hash"]);
        assert_eq!(wei(&redemption["face_value_wei"]), wei(&winner["face_value_wei"]));
        paid = &paid + &wei(&winner["face_value_wei"]);
    }
    let recipient = network.get(&format!("{devnet}/v1/accounts/{}", network.recipient)).await;
    assert_eq!(wei(&recipient["earned_wei"]), paid, "the recipient earned the face values");
    let deposit_after = wei(&network.get(&sender_url).await["deposit_wei"]);
    assert_eq!(&deposit_before - &deposit_after, paid, "out of the sender's deposit");
    let summary = network.get(&format!("{}/v1/summary", network.admin(Role::Orchestrator))).await;
    assert_eq!(wei(&summary["redeemed_face_value_wei"]), paid);
    assert_eq!(summary["redeemed"].as_u64(), Some(stored.winners));
}
