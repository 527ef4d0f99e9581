//! A payment request is idempotent (architecture.md rule 3).

use crate::world::{World, request};
use serde_json::json;
use std::collections::HashSet;

#[tokio::test]
async fn the_same_state_gives_the_same_bytes() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let first = world.pay(&request(&offer, json!({"type": "live", "ManifestID": "m"}))).await;
    let next = request(&offer, json!({"type": "live", "ManifestID": "m", "state": first.state()}));
    world.pass_s(30);
    let second = world.pay(&next).await;
    assert!(!second.replayed());
    let before = world.books().await;
    // Hours later, with an offer and a token that are long over, and other units: the same.
    world.pass_s(9_000);
    let mut late = world.offer(3, 1, 35);
    late.auth_token.as_mut().unwrap().expiration = 0;
    let late = request(
        &late,
        json!({"type": "live", "ManifestID": "m", "state": first.state(), "inPixels": 7}),
    );
    for ask in [&next, &next, &late] {
        let again = world.pay(ask).await;
        assert_eq!(again.status, 200);
        assert_eq!(again.body, second.body, "byte for byte");
        assert_eq!(again.units(), second.units());
        assert!(again.replayed());
    }
    assert_eq!(world.books().await, before, "no new tickets, no key operation");
    // An older state than the newest: its own stored answer.
    let third = json!({"type": "live", "ManifestID": "m", "state": second.state()});
    let third = world.pay(&request(&world.offer(3, 1, 3_500), third)).await;
    assert_eq!(third.status, 200);
    assert_eq!(world.pay(&next).await.body, second.body);
}

#[tokio::test]
async fn a_replay_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "alpha t1\nbeta t2\n").unwrap();
    let world = World::with(&["--auth-token-file", &tokens.display().to_string()]).await;
    let alpha = ("authorization", "Bearer t1");
    let offer = world.offer(3, 1, 35);
    let start = request(&offer, json!({"inPixels": 10, "ManifestID": "m", "app": "a"}));
    let first = world.pay_with(&start, &[alpha, ("signer-auth-id", "c:1")]).await;
    let next = request(
        &offer,
        json!({"type": "live", "ManifestID": "m", "app": "a", "state": first.state()}),
    );
    assert_eq!(world.pay_with(&next, &[alpha]).await.status, 200);
    let before = world.books().await;
    let other = |member: &str, value: &str| {
        let mut ask = next.clone();
        ask[member] = value.into();
        ask
    };
    let conflicts = [
        (other("ManifestID", "n"), vec![alpha], "ManifestID"),
        (other("type", "fixed"), vec![alpha], "type"),
        (next.clone(), vec![alpha, ("signer-auth-id", "c:2")], "auth id"),
        (next.clone(), vec![("authorization", "Bearer t2")], "account"),
    ];
    for (ask, headers, what) in conflicts {
        let reply = world.pay_with(&ask, &headers).await;
        assert_eq!(reply.status, 409, "{what}");
        assert_eq!(reply.message(), format!("already used with another {what}"));
    }
    let mut info = world.offer(3, 1, 35);
    info.address = vec![8; 20];
    let mut elsewhere = next.clone();
    elsewhere["orchestrator"] = request(&info, json!({}))["orchestrator"].clone();
    let reply = world.pay_with(&elsewhere, &[alpha]).await;
    assert_eq!((reply.status, reply.message().as_str()), (400, "orchestratorAddress mismatch"));
    let reply = world.pay_with(&other("app", "b"), &[alpha]).await;
    assert_eq!((reply.status, reply.message().as_str()), (400, "app mismatch"));
    assert_eq!(world.books().await, before);
    // The newest state of another account is refused as well, not only a replay.
    let fresh = world.pay_with(&next, &[alpha]).await.state();
    let stolen = {
        let mut ask = next.clone();
        ask["state"] = fresh;
        ask
    };
    assert_eq!(world.pay_with(&stolen, &[("authorization", "Bearer t2")]).await.status, 409);
    assert_eq!(world.books().await, before);
}

#[tokio::test]
async fn an_idempotency_key_covers_the_first_request() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let key = ("idempotency-key", "k-1");
    let start = request(&offer, json!({"type": "live"}));
    let first = world.pay_with(&start, &[key]).await;
    let before = world.books().await;
    let again =
        world.pay_with(&request(&world.offer(3, 1, 35), json!({"type": "live"})), &[key]).await;
    assert_eq!(again.body, first.body, "the manifest id that the signer made included");
    let reply = world.pay_with(&request(&offer, json!({"type": "lv2v"})), &[key]).await;
    assert_eq!(reply.status, 409);
    let named = request(&offer, json!({"type": "live", "ManifestID": "m"}));
    assert_eq!(world.pay_with(&named, &[key]).await.status, 409);
    assert_eq!(world.books().await, before);
    for bad in ["", "with space", &"k".repeat(129)] {
        let reply = world.pay_with(&start, &[("idempotency-key", bad)]).await;
        assert_eq!(reply.status, 400, "{bad:?}");
    }
    assert_eq!(world.books().await, before);
    let other = world.pay_with(&start, &[("idempotency-key", "k-2")]).await;
    assert_ne!(other.state(), first.state(), "another key, another session");
    assert_ne!(world.pay(&start).await.state(), first.state(), "no key, another session");
}

#[tokio::test]
async fn many_at_once_with_one_state_make_one_payment() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let first = world.pay(&request(&offer, json!({"type": "live", "ManifestID": "m"}))).await;
    world.pass_s(20);
    let before = world.books().await;
    let next = request(&offer, json!({"type": "live", "ManifestID": "m", "state": first.state()}));
    let replies = futures::future::join_all((0..40).map(|_| world.pay(&next))).await;
    let bodies: HashSet<&[u8]> = replies.iter().map(|r| r.body.as_slice()).collect();
    assert_eq!(bodies.len(), 1, "one answer for all");
    assert_eq!(replies.iter().filter(|r| !r.replayed()).count(), 1);
    let after = world.books().await;
    assert_eq!(after.summary.payments, before.summary.payments + 1);
    let tickets = after.summary.tickets - before.summary.tickets;
    assert_eq!(after.key_operations - before.key_operations, tickets, "signed once");
    // The same with a first request and a key.
    let key = [("idempotency-key", "k")];
    let start = request(&offer, json!({"type": "live"}));
    let replies = futures::future::join_all((0..40).map(|_| world.pay_with(&start, &key))).await;
    let bodies: HashSet<&[u8]> = replies.iter().map(|r| r.body.as_slice()).collect();
    assert_eq!(bodies.len(), 1);
    assert_eq!(world.books().await.summary.payments, after.summary.payments + 1);
}

#[tokio::test]
async fn two_signers_on_one_ledger_give_one_answer() {
    let world = World::new().await;
    let twin = world.twin().await;
    let offer = world.offer(1, 1, 10);
    let mut state = serde_json::Value::Null;
    let mut tickets = HashSet::new();
    for round in 0..12u64 {
        let ask = request(&offer, json!({"inPixels": 30, "ManifestID": "m", "state": state}));
        let key = [("idempotency-key", "k")];
        let urls = [&world.http, &twin, &world.http, &twin];
        let replies = futures::future::join_all(urls.map(|url| {
            let body = ask.to_string();
            let post = world.client.post(format!("{url}/generate-live-payment"));
            crate::world::reply(post.header(key[0].0, key[0].1).body(body))
        }))
        .await;
        let bodies: HashSet<&[u8]> = replies.iter().map(|r| r.body.as_slice()).collect();
        assert_eq!(bodies.len(), 1, "round {round}: one answer, whoever was asked");
        assert_eq!(replies.iter().filter(|r| !r.replayed()).count(), 1);
        for ticket in world.tickets(&replies[0]) {
            assert!(tickets.insert(ticket.sender_nonce), "nonce {} twice", ticket.sender_nonce);
        }
        state = replies[0].state();
    }
    let total = world.books().await.summary;
    assert_eq!((total.payments, total.tickets), (12, 36));
    assert_eq!(total.balance_total_wei, "0".parse().unwrap());
}

#[tokio::test]
async fn a_manifest_that_was_made_gives_way_once() {
    let world = World::new().await;
    let offer = world.offer(3, 1, 35);
    let first = world.pay(&request(&offer, json!({"type": "live"}))).await;
    let made = first.seg_data().manifest_id;
    let next = json!({"type": "live", "ManifestID": "real", "state": first.state()});
    world.pass_s(20);
    let second = world.pay(&request(&offer, next)).await;
    assert_ne!(second.seg_data().manifest_id, made);
    assert_eq!(second.seg_data().manifest_id, b"real");
    let next = json!({"type": "live", "ManifestID": "third", "state": second.state()});
    let reply = world.pay(&request(&offer, next)).await;
    assert_eq!((reply.status, reply.message().as_str()), (400, "manifestID mismatch"));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    use penstock_ledger::signer;
    let world = World::new().await;
    let offer = world.offer(1, 1, 1);
    let start = request(&offer, json!({"inPixels": 7, "ManifestID": "m"}));
    let first = world.pay(&start).await;
    let before = world.books().await.summary;
    let folder = world.stop().await;
    let ledger = format!("sqlite://{}", folder.path().join("data/signer.db").display());
    let ledger = signer::open(&ledger, "signer").await.unwrap();
    assert_eq!(ledger.summary().await.unwrap(), before);
    assert_eq!(ledger.fence().await.unwrap(), 1);
    let id = ledger.sessions(1).await.unwrap()[0].state_id.clone();
    assert_eq!(ledger.payment(&id, 0).await.unwrap().unwrap().answer, first.body);
    ledger.close().await;
}
