//! The webhook, and what holds for every sink: outages, crashes, replicas.

use super::{Deliverer, Outbox, all_in_order, first_arrivals, to};
use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing::post};
use hmac::{Hmac, Mac};
use penstock_testkit::{sim::SimSink, until};
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

#[tokio::test]
async fn events_arrive_in_order_and_leave_the_ledger() {
    let (outbox, sink) = (Outbox::new().await, SimSink::start().await);
    outbox.pay(5, 0, 60).await;
    let webhook = Deliverer::start(&outbox.ledger, to(&format!("webhook:{}/", sink.uri())));
    outbox.emptied().await;
    outbox.pay(5, 60, 70).await;
    outbox.emptied().await;
    assert_eq!(sink.sequences(), all_in_order(5, 70));
    assert_eq!((sink.deliveries(), sink.malformed()), (350, 0), "each once");
    until("all are counted", || async { webhook.report().await["delivered"] == 350 }).await;
    let report = webhook.report().await;
    assert_eq!((&report["state"], &report["pending"]), (&json!("ok"), &json!(0)));
    assert_eq!(report["sink"], format!("webhook:{}", sink.uri()));
    assert_eq!((&report["oldest_age_ms"], &report["last_error"]), (&Value::Null, &Value::Null));
    webhook.stop().await;
}

#[tokio::test]
async fn a_sink_that_is_down_loses_nothing_and_is_shown() {
    let (outbox, sink) = (Outbox::new().await, SimSink::start().await);
    sink.faults.fail_one_in(1);
    let webhook = Deliverer::start(&outbox.ledger, to(&format!("webhook:{}/", sink.uri())));
    outbox.pay(3, 0, 200).await;
    until("several deliveries have failed", || async {
        webhook.report().await["failures_in_a_row"].as_u64() >= Some(3)
    })
    .await;
    let report = webhook.report().await;
    assert_eq!((&report["state"], &report["pending"]), (&json!("degraded"), &json!(600)));
    assert!(report["last_error"].as_str().unwrap().contains("503"), "{report}");
    assert!(report["oldest_age_ms"].as_u64() > Some(0));
    // Payments go on meanwhile, and it comes back half well.
    outbox.pay(3, 200, 210).await;
    sink.faults.fail_one_in(2);
    outbox.emptied().await;
    assert_eq!(sink.sequences(), all_in_order(3, 210));
    until("it is well again", || async { webhook.report().await["state"] == "ok" }).await;
    webhook.stop().await;
}

/// Keeps what it is sent; answers only when it is let to.
async fn slow_receiver() -> (String, Arc<Mutex<Vec<Value>>>, Arc<Semaphore>) {
    let (taken, gate) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::new(Semaphore::new(0)));
    let route = {
        let (taken, gate) = (taken.clone(), gate.clone());
        post(move |body: Bytes| async move {
            let events: Vec<Value> = serde_json::from_slice(&body).unwrap();
            taken.lock().unwrap().extend(events);
            gate.acquire().await.unwrap().forget();
        })
    };
    (serve(Router::new().route("/", route)).await, taken, gate)
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("webhook:http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_crash_in_the_middle_repeats_events_by_their_ids() {
    let outbox = Outbox::new().await;
    let (url, taken, gate) = slow_receiver().await;
    let mut args = to(&url);
    args.events_lease_ms = 500;
    outbox.pay(2, 0, 10).await;
    let first = Deliverer::start(&outbox.ledger, args.clone());
    until("the sink has them", || async { !taken.lock().unwrap().is_empty() }).await;
    first.crash().await;
    assert_eq!(outbox.ledger.backlog().await.unwrap().events, 20, "nobody knows yet");
    gate.add_permits(1000);
    let second = Deliverer::start(&outbox.replica("second").await, args);
    outbox.emptied().await;
    let taken = taken.lock().unwrap().clone();
    // Twice; oftener when a busy machine keeps a deliverer beyond its lease.
    assert!(taken.len() >= 40 && taken.len().is_multiple_of(20), "{}", taken.len());
    for again in taken.chunks(20) {
        assert_eq!(again, &taken[..20], "the same events, with the same ids");
    }
    assert_eq!(first_arrivals(&taken), all_in_order(2, 10));
    second.stop().await;
}

#[tokio::test]
async fn one_replica_delivers_and_another_goes_on_when_it_stops() {
    let (outbox, sink) = (Outbox::new().await, SimSink::start().await);
    let mut args = to(&format!("webhook:{}/", sink.uri()));
    // Longer than a test may last: only what is given back can be taken.
    args.events_lease_ms = 3_600_000;
    let first = Deliverer::start(&outbox.ledger, args.clone());
    outbox.pay(1, 0, 1).await;
    outbox.emptied().await;
    let second = Deliverer::start(&outbox.replica("second").await, args);
    until("the second stands by", || async { second.report().await["state"] == "standby" }).await;
    outbox.pay(1, 1, 50).await;
    outbox.emptied().await;
    assert_eq!(sink.deliveries(), 50, "each once, although two could");
    assert_eq!(second.report().await["delivered"], 0);
    first.stop().await;
    outbox.pay(1, 50, 60).await;
    outbox.emptied().await;
    assert_eq!((sink.deliveries(), sink.sequences()), (60, all_in_order(1, 60)));
    until("the second has counted", || async { second.report().await["delivered"] != 0 }).await;
    assert_eq!(second.report().await["state"], "ok");
    second.stop().await;
}

#[tokio::test]
async fn bodies_are_signed_and_redirects_are_not_followed() {
    type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;
    let outbox = Outbox::new().await;
    let (seen, elsewhere) = (Seen::default(), Seen::default());
    let status = Arc::new(Mutex::new(StatusCode::TEMPORARY_REDIRECT));
    let keep = |seen: Seen, status: Arc<Mutex<StatusCode>>| {
        post(move |headers: HeaderMap, body: Bytes| async move {
            seen.lock().unwrap().push((headers, body));
            (*status.lock().unwrap(), [("location", "/elsewhere")])
        })
    };
    let router = Router::new()
        .route("/", keep(seen.clone(), status.clone()))
        .route("/elsewhere", keep(elsewhere.clone(), Arc::new(Mutex::new(StatusCode::OK))));
    let files = tempfile::tempdir().unwrap();
    let mut args = to(&serve(router).await);
    std::fs::write(files.path().join("token"), "t0ken\n").unwrap();
    std::fs::write(files.path().join("key"), "s3cret\n").unwrap();
    args.events_token_file = Some(files.path().join("token"));
    args.events_hmac_key_file = Some(files.path().join("key"));
    outbox.pay(1, 0, 3).await;
    let webhook = Deliverer::start(&outbox.ledger, args);
    until("it was sent twice", || async { seen.lock().unwrap().len() > 1 }).await;
    *status.lock().unwrap() = StatusCode::NO_CONTENT;
    outbox.emptied().await;
    assert!(elsewhere.lock().unwrap().is_empty());
    for (headers, body) in seen.lock().unwrap().iter() {
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["authorization"], "Bearer t0ken");
        let signature = headers["penstock-signature"].to_str().unwrap();
        let (time, mac) = signature.split_once(",v1=").unwrap();
        let mut expected = Hmac::<Sha256>::new_from_slice(b"s3cret").unwrap();
        expected.update(time.strip_prefix("t=").unwrap().as_bytes());
        expected.update(b".");
        expected.update(body);
        expected.verify_slice(&hex::decode(mac).unwrap()).unwrap();
    }
    webhook.stop().await;
}

#[tokio::test]
async fn without_a_sink_nothing_is_delivered_and_what_waits_is_counted() {
    let outbox = Outbox::new().await;
    outbox.pay(1, 0, 2).await;
    let mut args = to("");
    args.events = None;
    let off = Deliverer::start(&outbox.ledger, args);
    let report = off.report().await;
    assert_eq!((&report["state"], &report["pending"]), (&json!("off"), &json!(2)));
    off.stop().await;
}
