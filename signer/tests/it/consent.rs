//! What is asked between the decision and the reservation: the auth webhook (remote-signer.md
//! section 7); and what happens when the key fails after it.

use crate::{
    attack::on_both_books,
    world::{Books, World, request},
};
use axum::{Json, Router, extract::State, routing::post};
use penstock_signer::audit_command::verify;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, atomic::Ordering};

/// What it answers next, and what it was asked.
#[derive(Clone, Default)]
struct Hook {
    answer: Arc<Mutex<(u16, Value)>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    fn says(&self, status: u16, answer: Value) {
        *self.answer.lock().unwrap() = (status, answer);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn last(&self) -> Value {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn hook() -> (Hook, String) {
    let hook = Hook::default();
    let router = Router::new().route(
        "/auth",
        post(|State(hook): State<Hook>, Json(body): Json<Value>| async move {
            hook.asked.lock().unwrap().push(body);
            let (status, answer) = hook.answer.lock().unwrap().clone();
            (http::StatusCode::from_u16(status).unwrap(), Json(answer))
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("--auth-webhook-url=http://{}/auth", listener.local_addr().unwrap());
    let router = router.with_state(hook.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (hook, url)
}

#[tokio::test]
async fn the_webhook_says_no_before_anything_is_signed() {
    let (hook, url) = hook().await;
    let world = World::with(&[&url]).await;
    let offer = world.offer(1, 1, 35);
    let ask = request(&offer, json!({"type": "live", "ManifestID": "m"}));
    let bid = |price: Value, currency: &str| json!({"status": 200, "maxPrice": {"price": price, "currency": currency, "unit": "seconds"}});
    for (http, answer, status, message) in [
        (200, json!({"status": 403, "reason": "not today"}), 403, "not today"),
        (200, json!({"status": 429}), 429, "signer auth rejected request with status 429"),
        (200, json!({"status": 503, "reason": "hidden"}), 503, "Service Unavailable Error"),
        (401, json!({"status": 200}), 500, "Internal Server Error"),
        (200, json!({}), 500, "Internal Server Error"),
        (200, json!({"status": 0}), 500, "Internal Server Error"),
        (200, json!({"status": 101}), 500, "Internal Server Error"),
        (200, bid(json!(0.5), "wei"), 481, "exceeds auth webhook maxPrice ceiling 0.500"),
        (
            200,
            bid(json!(5), "usd"),
            502,
            "signer auth invalid maxPrice: maxPrice.currency must be wei",
        ),
    ] {
        hook.says(http, answer.clone());
        let before = world.books().await;
        let reply = world.pay_with(&ask, &[("x-request-id", "abc")]).await;
        assert_eq!(reply.status, status, "{answer}: {reply:?}");
        assert!(reply.message().contains(message), "{answer}: {}", reply.message());
        assert_eq!(world.books().await, before, "no trace, no key operation");
    }
    let asked = hook.last();
    assert_eq!(asked["headers"]["X-Request-Id"], json!(["abc"]));
    assert_eq!(
        (&asked["state"]["Balance"], &asked["state"]["SequenceNumber"]),
        (&json!("25"), &json!(0))
    );
    // What is refused without it, it is not asked about.
    let before = hook.asked();
    let nothing = request(&offer, json!({"inPixels": 0}));
    assert_eq!(world.pay(&nothing).await.status, 400);
    assert_eq!(hook.asked(), before);
}

#[tokio::test]
async fn the_webhooks_yes_lasts_as_long_as_it_says() {
    let (hook, url) = hook().await;
    let world = World::with(&[&url]).await;
    let offer = world.offer(3, 1, 35);
    let next =
        |state: &Value| request(&offer, json!({"type": "live", "ManifestID": "m", "state": state}));
    hook.says(200, json!({"status": 200, "auth_id": "c:s", "expiry": world.now_s() + 60}));
    let first = world.pay(&next(&Value::Null)).await;
    assert_eq!((first.status, hook.asked()), (200, 1));
    let newest = world.admin("/v1/payments?limit=1").await;
    assert_eq!(newest[0]["auth_id"], "c:s");
    // A replay asks nobody, and neither does a payment before the expiry.
    world.pass_s(30);
    let second = world.pay(&next(&first.state())).await;
    assert_eq!((second.status, hook.asked()), (200, 1));
    assert_eq!(world.pay(&next(&first.state())).await.body, second.body);
    assert_eq!(hook.asked(), 1);
    // Nor at another replica, which has it from the state.
    let twin = world.twin().await;
    world.pass_s(1);
    let second = crate::attack::pay_at(&world, &twin, &next(&second.state()), &[]).await;
    assert_eq!((second.status, hook.asked()), (200, 1));
    // Another subject in the header is refused even then.
    world.pass_s(20);
    let before = world.books().await;
    let reply = world.pay_with(&next(&second.state()), &[("signer-auth-id", "x:y")]).await;
    assert_eq!((reply.status, hook.asked()), (500, 1));
    assert_eq!(world.books().await, before);
    // Afterwards it is asked again, and may not change whose the session is.
    world.pass_s(20);
    hook.says(200, json!({"status": 200, "auth_id": "someone:else"}));
    assert_eq!(world.pay(&next(&second.state())).await.status, 500);
    assert_eq!(world.books().await, before);
    hook.says(200, json!({"status": 200}));
    let third = world.pay(&next(&second.state())).await;
    assert_eq!((third.status, hook.asked()), (200, 3));
    let state = &hook.last()["state"];
    assert_eq!((&state["AuthID"], &state["SequenceNumber"]), (&json!("c:s"), &json!(3)));
    // No expiry: each time.
    world.pass_s(40);
    assert_eq!(world.pay(&next(&third.state())).await.status, 200);
    assert_eq!(hook.asked(), 4);
}

#[tokio::test]
async fn whom_only_the_webhook_knows_gets_nothing_without_its_yes() {
    let (hook, url) = hook().await;
    let world = World::with(&[&url]).await;
    let offer = world.offer(3, 1, 35);
    let ask =
        |state: &Value| request(&offer, json!({"type": "live", "ManifestID": "m", "state": state}));
    hook.says(200, json!({"status": 200}));
    // Another stranger's idempotency key is no way to its tickets.
    let key = [("idempotency-key", "k")];
    let first = world.pay_with(&ask(&Value::Null), &key).await;
    let other = world.pay_with(&ask(&Value::Null), &key).await;
    assert_eq!((first.status, other.status, other.replayed()), (200, 200, false));
    assert_ne!(first.nonces(), other.nonces());
    world.pass_s(30);
    let next = ask(&first.state());
    let second = world.pay(&next).await;
    assert_eq!((second.status, hook.asked()), (200, 3));
    // A stored answer is one that it is asked about too.
    let before = world.books().await;
    hook.says(200, json!({"status": 403, "reason": "not today"}));
    let refused = world.pay(&next).await;
    assert_eq!((refused.status, hook.asked()), (403, 4));
    hook.says(200, json!({"status": 200}));
    let again = world.pay(&next).await;
    assert_eq!((again.status, hook.asked()), (200, 5));
    assert_eq!((again.body, &hook.last()["state"]["SequenceNumber"]), (second.body, &json!(1)));
    // Other signatures are for callers with a credential.
    let job = json!({"id": "1", "capability": "c", "request": "{}", "timeout_seconds": 1});
    let job = world.post("/sign-byoc-job", job.to_string(), &[]).await;
    let segment = json!({"state": first.state(), "segment": "AAAA"});
    let segment = world.post("/sign-segment-credentials", segment.to_string(), &[]).await;
    for reply in [job, segment] {
        assert_eq!(reply.status, 403, "{reply:?}");
        assert!(reply.message().contains("--accounts or --auth-token-file"), "{reply:?}");
    }
    assert_eq!((world.books().await, hook.asked()), (before, 5));
    // With accounts beside it, theirs is the say.
    let world = World::with(&[&url, "--accounts"]).await;
    let key = world.account("acme", json!({})).await;
    let job = json!({"id": "1", "capability": "c", "request": "{}", "timeout_seconds": 1});
    let headers = [("authorization", key.as_str())];
    assert_eq!(world.post("/sign-byoc-job", job.to_string(), &headers).await.status, 200);
}

on_both_books!(a_key_that_fails_gives_the_budget_back);

async fn a_key_that_fails_gives_the_budget_back(books: Books) {
    let world = World::on(books, &["--accounts"]).await;
    let key = world.account("acme", json!({"budget_day": "1000 wei"})).await;
    let headers = [("authorization", key.as_str())];
    let ask = |units: u64| request(&world.offer(1, 1, 100), json!({"inPixels": units}));
    world.key_is_away.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        let before = world.books().await.summary;
        // What the last failure holds is given back beside its answer.
        penstock_testkit::until("the key is asked", || async {
            let reply = world.pay_with(&ask(1_000), &headers).await;
            assert!([500, 429].contains(&reply.status), "{reply:?}");
            reply.status == 500
        })
        .await;
        assert_eq!(world.books().await.summary, before, "nothing is stored");
    }
    world.key_is_away.store(false, Ordering::SeqCst);
    penstock_testkit::until("the whole budget is there again", || async {
        world.pay_with(&ask(1_000), &headers).await.status == 200
    })
    .await;
    assert_eq!(world.pay_with(&ask(100), &headers).await.status, 429);
    // The audit knows of all of it, an hour later too.
    let now_ms = (world.now_s() + 3_600) * 1_000;
    let found = verify(world.signer().ledger.as_ref(), &[], now_ms).await.unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!((found.handed_out, found.withheld, found.audit.voids), (10, 50, 5));
}
