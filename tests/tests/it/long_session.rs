//! One payment session goes on for thousands of tickets. An orchestrator takes 600 nonces of one
//! offer, so the signer asks for new offers in time (480), and the orchestrator refuses none.

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::figure;
use serde_json::Value;

use crate::{
    books::Books,
    network::{Needs, Network},
    payer::{Payer, Restart},
};

/// Pixels that cost a hundred tickets at the network's prices: the most of one payment.
const UNITS: u64 = 4_000_000_000;
/// Each of them ended sessions somewhere: an offer's nonces, twice that, and ten times.
const MARKS: [u64; 3] = [600, 1_200, 6_000];

#[tokio::test]
async fn one_session_passes_600_and_1200_and_6000_tickets() {
    let mut network = Network::start(Needs::PAYMENTS).await;
    let mut payer = Payer::new("long");
    for mark in MARKS {
        let mut signed = 0;
        while signed <= mark {
            // Panics on any refusal of the orchestrator.
            payer.pay(&mut network, UNITS, Restart::Dead(&[])).await;
            signed = Books::read(&network).await.signed_tickets;
        }
        let books = Books::read(&network).await;
        books.assert_settled();
        figure(
            &format!("one session past {mark} tickets: tickets, payments, offers"),
            format!("{}, {}, {}", signed, payer.acknowledged, books.signed_by_offer.len()),
        );
    }
    let sessions = network.get(&format!("{}/v1/sessions", network.admin(Role::Signer))).await;
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "it is one session: {sessions}");
    let books = Books::read(&network).await;
    assert!(books.signed_tickets > 6_000 && books.signed_by_offer.len() >= 12, "{books:?}");
    let fullest = books.signed_by_offer.values().map(|(tickets, _)| *tickets).max();
    assert!(fullest <= Some(600), "{fullest:?} tickets of one offer");
    let taken = network.get(&format!("{}/v1/summary", network.admin(Role::Orchestrator))).await;
    let credited: Rational = text(&taken["credited_wei"]).parse().unwrap();
    assert_eq!(credited, books.signed_ev_wei);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
