//! Payment states: replayed, forked, edited, foreign, carried elsewhere, used many times at once.

use super::{on_both_books, pay_at, refused};
use crate::world::{Books, World, b64, request};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_keys::LocalKey;
use serde_json::{Value, json};
use std::collections::HashSet;

on_both_books!(
    a_replayed_state_makes_no_new_tickets,
    a_forked_state_is_one_payment,
    an_edited_state_is_no_state,
    a_foreign_state_is_no_state,
    a_state_belongs_to_one_orchestrator,
    one_state_at_once_over_two_replicas,
);

fn next(state: &Value, members: Value) -> Value {
    let mut all = json!({"inPixels": 20, "ManifestID": "m", "app": "a", "state": state});
    for (key, value) in members.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

async fn started(world: &World) -> (penstock_wire::net::OrchestratorInfo, Value) {
    let offer = world.offer(1, 1, 10);
    let start = json!({"inPixels": 20, "ManifestID": "m", "app": "a"});
    let first = world.pay(&request(&offer, start)).await;
    (offer, first.state())
}

async fn a_replayed_state_makes_no_new_tickets(books: Books) {
    let world = World::on(books, &[]).await;
    let (offer, state) = started(&world).await;
    let ask = request(&offer, next(&state, json!({})));
    let answer = world.pay(&ask).await;
    assert_eq!(answer.nonces(), [3, 4]);
    let before = world.books().await;
    // However often, and whatever amount it now asks for: the stored answer.
    for units in [20, 20, 1_000_000, 1] {
        let again = world.pay(&request(&offer, next(&state, json!({"inPixels": units})))).await;
        assert_eq!((again.body, again.status), (answer.body.clone(), 200));
    }
    assert_eq!(world.books().await, before, "nothing was made");
    // With fresh parameters of the orchestrator as well: they are not those of the answer.
    let again = world.pay(&request(&world.offer(1, 1, 10), next(&state, json!({})))).await;
    assert_eq!(again.body, answer.body);
    assert_eq!(world.books().await, before);
}

async fn a_forked_state_is_one_payment(books: Books) {
    let world = World::on(books, &[]).await;
    let (offer, state) = started(&world).await;
    let mut newest = state.clone();
    for _ in 0..5 {
        newest = world.pay(&request(&offer, next(&newest, json!({})))).await.state();
    }
    // The old state of a session that went on: with another binding it is a fork.
    for (members, what) in
        [(json!({"ManifestID": "fork"}), "ManifestID"), (json!({"type": "live"}), "type")]
    {
        let ask = request(&offer, next(&state, members));
        assert_eq!(
            refused(&world, &ask, &[], 409).await,
            format!("already used with another {what}")
        );
    }
    let ask = request(&offer, next(&state, json!({})));
    refused(&world, &ask, &[("signer-auth-id", "somebody:else")], 409).await;
}

async fn an_edited_state_is_no_state(books: Books) {
    let world = World::on(books, &[]).await;
    let (offer, state) = started(&world).await;
    let bytes = STANDARD.decode(state["State"].as_str().unwrap()).unwrap();
    let sig = STANDARD.decode(state["Sig"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let mut attempts: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (text.replace("\"SequenceNumber\":0", "\"SequenceNumber\":7").into_bytes(), sig.clone()),
        (text.replace("\"App\":\"a\"", "\"App\":\"b\"").into_bytes(), sig.clone()),
        ([text.as_bytes(), b" "].concat(), sig.clone()),
        (bytes.clone(), sig[..sig.len() - 1].to_vec()),
        (bytes.clone(), vec![]),
        (vec![], sig.clone()),
        (bytes.clone(), [&sig[..], &[0]].concat()),
    ];
    // Another key id, and every single bit of the MAC's first and last bytes.
    for (at, bit) in [(0, 1), (0, 128), (1, 1), (sig.len() - 1, 1), (sig.len() - 1, 128)] {
        let mut flipped = sig.clone();
        flipped[at] ^= bit;
        attempts.push((bytes.clone(), flipped));
    }
    for (bytes, sig) in attempts {
        assert_ne!(
            (&bytes, &sig),
            (&text.clone().into_bytes(), &STANDARD.decode(state["Sig"].as_str().unwrap()).unwrap())
        );
        let edited = json!({"State": b64(bytes), "Sig": b64(sig)});
        let ask = request(&offer, next(&edited, json!({})));
        assert_eq!(refused(&world, &ask, &[], 400).await, "invalid sig");
    }
}

async fn a_foreign_state_is_no_state(books: Books) {
    let world = World::on(books, &[]).await;
    let (offer, _) = started(&world).await;
    // Of another signer of ours, with its own state keys.
    let other = World::new().await;
    let (_, foreign) = started(&other).await;
    let ask = request(&offer, next(&foreign, json!({})));
    assert_eq!(refused(&world, &ask, &[], 400).await, "invalid sig");
    // Of the Go signer with the very same account: JSON under a signature of the account's key.
    let go = json!({
        "StateID": "a1b2c3d4", "PMSessionID": "0x00", "LastUpdate": "2026-11-21T12:00:00Z",
        "OrchestratorAddress": "0x0707070707070707070707070707070707070707", "App": "a",
        "AuthExpiry": 0, "SenderNonce": 3, "Balance": "1000000", "InitialPricePerUnit": 1,
        "InitialPixelsPerUnit": 1, "Type": "", "SequenceNumber": 3, "AuthID": "",
    });
    let key = LocalKey::random().unwrap();
    let signer = penstock_keys::TypedSigner::new(std::sync::Arc::new(key));
    let signature = signer.sign_ping(&[7; 32]).await.unwrap();
    let foreign = json!({"State": b64(go.to_string()), "Sig": b64(signature.as_bytes())});
    let ask = request(&offer, next(&foreign, json!({})));
    assert_eq!(refused(&world, &ask, &[], 400).await, "invalid sig");
}

async fn a_state_belongs_to_one_orchestrator(books: Books) {
    let world = World::on(books, &[]).await;
    let (_, state) = started(&world).await;
    // The credit that it stands for was paid to somebody else.
    let mut elsewhere = world.offer(1, 1, 10);
    elsewhere.address = vec![8; 20];
    let ask = request(&elsewhere, next(&state, json!({})));
    assert_eq!(refused(&world, &ask, &[], 400).await, "orchestratorAddress mismatch");
    let mut anonymous = world.offer(1, 1, 10);
    anonymous.address = vec![];
    refused(&world, &request(&anonymous, next(&state, json!({}))), &[], 400).await;
}

async fn one_state_at_once_over_two_replicas(books: Books) {
    let world = World::on(books, &[]).await;
    let twin = world.twin().await;
    let (offer, mut state) = started(&world).await;
    let mut nonces: HashSet<u32> = [1, 2].into();
    for round in 0..4 {
        let ask = request(&offer, next(&state, json!({})));
        let replies = futures::future::join_all(
            (0..32).map(|n| pay_at(&world, [&world.http, &twin][n % 2], &ask, &[])),
        )
        .await;
        let bodies: HashSet<&[u8]> = replies.iter().map(|r| r.body.as_slice()).collect();
        assert_eq!(bodies.len(), 1, "round {round}: one answer for all");
        for nonce in replies[0].nonces() {
            assert!(nonces.insert(nonce), "nonce {nonce} twice");
        }
        state = replies[0].state();
    }
    let total = world.books().await.summary;
    assert_eq!((total.payments, total.tickets), (5, 10));
}
