//! Tickets at a simulated orchestrator are checked as at a real one.

use crate::orchestrators::{client, request};
use penstock_clients::PaidHeaders;
use penstock_domain::{ManifestId, Rational};
use penstock_keys::{SegmentCredential, TypedSigner};
use penstock_payments::{ExpirationParams, Ticket, TicketParams};
use penstock_testkit::sim::{SimOrchestrator, account};
use penstock_wire::{OrchestratorOffer, PaymentFields, SegmentSpec, SenderFields, header};
use std::ops::RangeInclusive;

/// The two headers of a payment with these nonces.
async fn headers(
    key: &TypedSigner,
    offer: &OrchestratorOffer,
    nonces: RangeInclusive<u32>,
) -> PaidHeaders {
    let terms = offer.terms().unwrap();
    let p = terms.ticket_params;
    let expiration_params = ExpirationParams {
        creation_round: p.expiration_params.creation_round,
        creation_round_block_hash: p.expiration_params.creation_round_block_hash,
    };
    let params = TicketParams {
        recipient: p.recipient,
        face_value: p.face_value,
        win_prob: p.win_prob,
        recipient_rand_hash: p.recipient_rand_hash,
        seed: p.seed,
        expiration_block: p.expiration_block,
        expiration_params,
    };
    let mut tickets = Vec::new();
    for sender_nonce in nonces {
        let ticket = Ticket::from_params(&params, expiration_params, key.address(), sender_nonce);
        let sig = key.sign_ticket(&ticket).await.unwrap().as_bytes().to_vec();
        tickets.push(SenderFields { sender_nonce, sig });
    }
    let payment = PaymentFields {
        sender: Some(key.address()),
        ticket_params: Some(p.clone()),
        expiration_params: p.expiration_params,
        tickets,
        expected_price: Some(terms.price),
    };
    let manifest = ManifestId::new("m").unwrap();
    let spec = SegmentSpec::empty(manifest, None, terms.auth_token.clone());
    let sig = key
        .sign_segment::<String>(&SegmentCredential {
            manifest_id: b"m",
            sequence: 0,
            data_hash: spec.hash.as_slice(),
            rendition_names: &[],
        })
        .await
        .unwrap();
    PaidHeaders {
        payment: header::encode_payment(&payment.to_message()),
        segment: header::encode_segment(&spec.to_message(sig.as_bytes().to_vec())),
        traceparent: None,
    }
}

#[tokio::test]
async fn six_hundred_nonces_are_taken_and_none_twice() {
    let (client, sim, key) = (client(), SimOrchestrator::start().await, account());
    let request = request(&key).await;
    let offered = client.get_orchestrator(&sim.uri(), &request, None).await.unwrap();
    let pay = async |nonces| {
        let headers = headers(&key, &offered.offer, nonces).await;
        client.pay(&sim.uri(), &headers).await.map_err(|error| format!("{error:?}"))
    };
    for hundred in 0..6 {
        pay(hundred * 100 + 1..=hundred * 100 + 100).await.unwrap();
    }
    assert_eq!(sim.book("m").tickets, 600);
    assert_eq!(sim.book("m").credited, &sim.ticket_ev() * &Rational::from_int(600));
    let refused = pay(601..=601).await.unwrap_err();
    assert!(refused.contains("too many values"), "{refused}");
    let refused = pay(7..=7).await.unwrap_err();
    assert!(refused.contains("already seen"), "{refused}");
    assert_eq!(sim.book("m").tickets, 600);
    assert_eq!(sim.refusals().len(), 2);
}

#[tokio::test]
async fn expired_and_foreign_offers_are_refused() {
    let (client, sim, key) = (client(), SimOrchestrator::start().await, account());
    let request = request(&key).await;
    let mut offered = client.get_orchestrator(&sim.uri(), &request, None).await.unwrap();
    let good = headers(&key, &offered.offer, 1..=1).await;
    sim.rounds.lock().unwrap().last_seen_l1_block += 40;
    let refused = client.pay(&sim.uri(), &good).await.unwrap_err();
    assert!(format!("{refused:?}").contains("TicketParams expired"), "{refused:?}");
    // Cheaper than it was offered.
    let mut price = offered.offer.price.unwrap();
    price = penstock_domain::PriceInfo::new(price.price_per_unit(), price.pixels_per_unit() * 2)
        .unwrap();
    offered.offer.price = Some(price);
    let cheap = headers(&key, &offered.offer, 2..=2).await;
    let refused = client.pay(&sim.uri(), &cheap).await.unwrap_err();
    assert!(format!("{refused:?}").contains("invalid recipientRand"), "{refused:?}");
    assert_eq!(sim.totals().tickets, 0);
}
