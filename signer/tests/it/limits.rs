//! The last line: what the operator allows whoever asks, and how often the key works for it.

use crate::world::{World, request};
use penstock_domain::{U256, be_bytes};
use serde_json::{Value, json};

#[tokio::test]
async fn the_key_works_once_a_ticket() {
    let world = World::new().await;
    let offer = world.offer(1, 1, 1);
    let mut state = Value::Null;
    let before = world.books().await;
    for round in 0..20u64 {
        let ask = json!({"inPixels": 3, "ManifestID": "m", "state": state});
        let reply = world.pay(&request(&offer, ask)).await;
        state = reply.state();
        let books = world.books().await;
        let operations = books.key_operations - before.key_operations;
        assert_eq!(operations, 3 * (round + 1) + 1, "tickets, and one credential for ever");
        let digest = penstock_payments::segment_digest::<&str>(
            b"m",
            0,
            &penstock_payments::EMPTY_DATA_HASH,
            &[],
        );
        let signature = penstock_payments::Signature::from_slice(&reply.seg_data().sig).unwrap();
        signature.verify(&digest, world.account).unwrap();
    }
    // A new session of the same manifest id needs no new credential; another one does.
    for (manifest, operations) in [("m", 3), ("other", 4)] {
        let before = world.books().await;
        world.pay(&request(&offer, json!({"inPixels": 3, "ManifestID": manifest}))).await;
        let after = world.books().await;
        assert_eq!(after.key_operations - before.key_operations, operations, "{manifest}");
    }
}

#[tokio::test]
async fn fewer_tickets_than_the_reference_allows() {
    let world = World::with(&["--max-tickets=10"]).await;
    let offer = world.offer(1, 1, 3);
    let before = world.books().await;
    let reply = world.pay(&request(&offer, json!({"inPixels": 1000}))).await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.message(),
        "numTickets 334 exceeds maximum of 10: a ticket EV of 100 wei or more would work, this offer's is 3.000"
    );
    assert_eq!(world.books().await, before);
    let enough = world.offer(1, 1, 100);
    let reply = world.pay(&request(&enough, json!({"inPixels": 1000}))).await;
    assert_eq!(reply.nonces().len(), 10, "what it said works");
    let world = World::with(&["--max-ticket-ev=99"]).await;
    let reply = world.pay(&request(&world.offer(1, 1, 3), json!({"inPixels": 10_000}))).await;
    assert!(reply.message().ends_with(
        "this offer's is 3.000 (but --max-ticket-ev is 99: ask for fewer units at once)"
    ));
}

#[tokio::test]
async fn an_offer_that_ends_soon_is_refreshed() {
    let world = World::new().await;
    let height = world.signer().chain.fresh().unwrap().rounds.last_seen_l1_block;
    let ask = |left: u64| {
        let mut offer = world.offer(1, 1, 10);
        let params = offer.ticket_params.as_mut().unwrap();
        params.expiration_block = be_bytes(U256::from(height + left));
        request(&offer, json!({"inPixels": 1}))
    };
    for (left, status) in [(1, 480), (3, 480), (4, 200)] {
        assert_eq!(world.pay(&ask(left)).await.status, status, "{left} blocks left");
    }
    let relaxed = World::with(&["--ticket-expiry-margin-blocks=1"]).await;
    let height = relaxed.signer().chain.fresh().unwrap().rounds.last_seen_l1_block;
    let mut offer = relaxed.offer(1, 1, 10);
    offer.ticket_params.as_mut().unwrap().expiration_block = be_bytes(U256::from(height + 2));
    let reply = relaxed.pay(&request(&offer, json!({"inPixels": 1}))).await;
    assert_eq!(reply.status, 200, "the reference's margin");
}

#[tokio::test]
async fn who_makes_no_room_for_an_answer_loses_the_connection() {
    let least = ["--min-read-bytes-per-second=1048576", "--min-read-window-ms=100"];
    let world = World::with(&least).await;
    penstock_testkit::http2::ask_without_room(&world.http, "/nowhere").await;
}
