//! image-to-video without waiting: any replica knows how a job stands, and one that died costs a retry.

use crate::{
    ai::world,
    world::{Replica as Another, World, error},
};
use bytes::Bytes;
use penstock_gateway::service::{
    Gateway,
    ai::later::{self, LaterJob, LaterState},
};
use penstock_store::{Cas, MemberStore as _, RedisOptions, RedisStore, RedisUrl};
use penstock_testkit::{
    redis::RedisServer,
    sim::{
        orchestrator::{Order, picture},
        signer,
    },
    until,
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::sync::Arc;

/// A second replica over the same stores.
struct Replica {
    gateway: Arc<Gateway>,
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn replica(w: &World) -> Replica {
    let (store, segments) = (Arc::clone(&w.gateway.store), Arc::clone(&w.gateway.segments));
    let gateway = Gateway::new(w.gateway.settings.clone(), store, segments).unwrap();
    let gateway = Arc::new(gateway);
    let router = penstock_gateway::stack::public(&gateway);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Replica { gateway, url, serving }
}

async fn begin(w: &World) -> String {
    let image = Part::bytes(picture(64, 64, "a cat").to_vec()).file_name("cat.png");
    let answer = w
        .http
        .post(format!("{}/image-to-video", w.url))
        .header("prefer", "respond-async")
        .multipart(Form::new().part("image", image).text("fps", "8"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let begun: Value = answer.json().await.unwrap();
    begun["request_id"].as_str().unwrap().to_owned()
}

async fn poll(w: &World, url: &str, id: &str) -> (u16, Value) {
    let answer = w
        .http
        .post(format!("{url}/image-to-video/result"))
        .json(&json!({ "request_id": id }))
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn complete(w: &World, url: &str, id: &str) -> Value {
    until("the job is done", || async { poll(w, url, id).await.0 == 200 }).await;
    poll(w, url, id).await.1
}

#[tokio::test]
async fn another_replica_has_the_result() {
    let w = world(1, &[]).await;
    let other = replica(&w).await;
    let id = begin(&w).await;
    let done = complete(&w, &other.url, &id).await;
    assert_eq!(done["status"], "complete");
    let url = done["result"]["images"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&other.url), "{url}");
    let film = w.http.get(url).send().await.unwrap();
    assert_eq!(film.headers()["content-type"], "video/mp4");
    assert!(film.bytes().await.unwrap().ends_with(b"a film"));
    assert_eq!(w.orchestrator().ai.count("image-to-video"), 1);
}

/// Makes a job's lease look lapsed, as after the death of its replica.
async fn lapse(w: &World, id: &str) {
    leave(w, id, 0, None).await;
}

/// Makes a job another replica's, which says nothing more.
async fn leave(w: &World, id: &str, lease_until_ms: u64, seen_as: Option<String>) {
    let (key, now) = (later::key(id), penstock_gateway::clock::now());
    // Its replica is alive and may renew it at the same moment; it lets go of what is another's.
    until("it is another's", || async {
        let found = w.gateway.store.doc(&key, now).await.unwrap().unwrap();
        let mut record: LaterJob = serde_json::from_slice(&found.value).unwrap();
        let LaterState::Working { tries, .. } = record.state else { panic!("{record:?}") };
        let (owner, seen_as) = ("dead".to_owned(), seen_as.clone());
        record.state = LaterState::Working { owner, tries, lease_until_ms, seen_as };
        let value = Bytes::from(serde_json::to_vec(&record).unwrap());
        let put = w.gateway.store.put_doc(&key, Some(found.version), value, 60_000, now);
        matches!(put.await.unwrap(), Cas::Stored(_))
    })
    .await;
}

async fn asked(w: &World, times: usize) {
    until("the orchestrator has the job", || async {
        w.orchestrator().ai.count("image-to-video") == times
    })
    .await;
}

#[tokio::test]
async fn a_job_outlives_its_replica() {
    let w = world(1, &[]).await;
    let other = replica(&w).await;
    w.orchestrator().ai.orders.then([Order::Hang]);
    let id = begin(&w).await;
    asked(&w, 1).await;
    assert_eq!(poll(&w, &other.url, &id).await, (202, json!({ "status": "processing" })));
    lapse(&w, &id).await;
    let done = complete(&w, &other.url, &id).await;
    assert!(done["result"]["images"][0]["url"].is_string(), "{done}");
    let jobs = w.orchestrator().ai.jobs.lock().unwrap().clone();
    assert_eq!(jobs.len(), 2);
    assert_eq!(jobs[0], jobs[1], "the same request, from what the stores know");
}

/// Its lease would last for minutes; but it is not seen at Redis any more.
#[tokio::test]
async fn a_replica_that_has_ended_is_not_waited_for() {
    let redis = RedisServer::start().await;
    let store = format!("--session-store={}", redis.url());
    let flags = [store.as_str(), "--segment-store=redis", "--session-store-timeout-ms=20000"];
    let w = world(1, &flags).await;
    w.orchestrator().ai.orders.then([Order::Hang]);
    let id = begin(&w).await;
    asked(&w, 1).await;
    let replica = RedisStore::open(RedisOptions::new(RedisUrl::parse(&redis.url()).unwrap())).await;
    let until_ms = penstock_gateway::clock::now().0 + 300_000;
    leave(&w, &id, until_ms, replica.seen_as()).await;
    assert_eq!(poll(&w, &w.url, &id).await.0, 202, "it is there");
    drop(replica);
    let done = complete(&w, &w.url, &id).await;
    assert!(done["result"]["images"][0]["url"].is_string(), "{done}");
    assert_eq!(w.orchestrator().ai.count("image-to-video"), 2);
}

/// However many jobs a dead replica leaves, no more of them are begun than there are places.
#[tokio::test]
async fn a_job_of_a_dead_replica_waits_for_a_place() {
    let w = world(1, &["--ai-max-in-flight=1"]).await;
    let other = replica(&w).await;
    w.orchestrator().ai.orders.then([Order::Hang]);
    let id = begin(&w).await;
    asked(&w, 1).await;
    lapse(&w, &id).await;
    let caller = penstock_gateway::front::caller::Caller::of_settings(&w.gateway.settings);
    let workload = penstock_gateway::front::workload::Workload::Ai;
    let place = other.gateway.workloads.enter(workload, &caller).await.unwrap();
    for _ in 0..3 {
        assert_eq!(poll(&w, &other.url, &id).await, (202, json!({ "status": "processing" })));
        // Nobody works on it, in nobody's name.
        let found = w.gateway.store.doc(&later::key(&id), penstock_gateway::clock::now()).await;
        let record: LaterJob = serde_json::from_slice(&found.unwrap().unwrap().value).unwrap();
        assert!(matches!(record.state, LaterState::Working { tries: 1, .. }), "{record:?}");
    }
    drop(place);
    complete(&w, &other.url, &id).await;
}

#[tokio::test]
async fn a_job_that_dies_three_times_is_given_up() {
    let w = world(1, &[]).await;
    w.orchestrator().ai.orders.then([Order::Hang, Order::Hang, Order::Hang]);
    let id = begin(&w).await;
    for times in 1..=3 {
        asked(&w, times).await;
        lapse(&w, &id).await;
        poll(&w, &w.url, &id).await;
    }
    let failed = json!({ "error": { "message": "Internal Server Error" } });
    let answer = json!({ "status": "complete", "result": failed });
    assert_eq!(poll(&w, &w.url, &id).await, (200, answer));
    assert_eq!(w.orchestrator().ai.count("image-to-video"), 3);
}

#[tokio::test]
async fn a_failed_job_says_so() {
    let w = world(1, &[]).await;
    w.orchestrator()
        .ai
        .orders
        .then([Order::Status(400, "image-to-video container returned 400: no")]);
    let id = begin(&w).await;
    let done = complete(&w, &w.url, &id).await;
    assert_eq!(done["result"]["error"]["message"], "Internal Server Error");
}

/// Its client has its 202 and does not send it again.
#[tokio::test]
async fn what_fails_for_the_moment_is_tried_again() {
    let w = world(1, &["--ai-max-in-flight=1", "--ai-retry-timeout-ms=1"]).await;
    w.signer.payment_orders.then([signer::Order::Status(402)]);
    w.orchestrator().ai.orders.then([Order::Status(500, "out of memory")]);
    let id = begin(&w).await;
    let done = complete(&w, &w.url, &id).await;
    assert!(done["result"]["images"][0]["url"].is_string(), "{done}");
    assert!(w.signer.payment_orders.next().is_none());
    assert!(w.orchestrator().ai.orders.next().is_none());
}

/// A rolling restart takes every replica that works on it.
#[tokio::test]
async fn replicas_that_stop_leave_a_job_to_the_next() {
    let brief = ["--drain-notice-ms=1", "--drain-timeout-ms=1000"];
    let w = world(1, &brief).await;
    let stores = || (Arc::clone(&w.gateway.store), Arc::clone(&w.gateway.segments));
    let second = Another::on(&w.signer.uri(), &brief, Some(stores())).await;
    let third = Another::on(&w.signer.uri(), &[], Some(stores())).await;
    w.orchestrator().ai.orders.then([Order::Hang, Order::Hang]);
    let id = begin(&w).await;
    asked(&w, 1).await;
    w.stop();
    until("the second has it", || async {
        let (status, _) = poll(&w, &second.url, &id).await;
        assert_eq!(status, 202);
        w.orchestrator().ai.count("image-to-video") == 2
    })
    .await;
    second.stop.cancel();
    let done = complete(&w, &third.url, &id).await;
    assert!(done["result"]["images"][0]["url"].is_string(), "{done}");
    third.stop.cancel();
}

#[tokio::test]
async fn names_that_nobody_was_given() {
    let w = world(1, &[]).await;
    for id in ["", "nope", &"x".repeat(600)] {
        let answer = w
            .http
            .post(format!("{}/image-to-video/result", w.url))
            .json(&json!({ "request_id": id }))
            .send()
            .await
            .unwrap();
        assert_eq!(error(answer).await, (400, "bad_form".into(), "invalid request ID".into()));
    }
    let request = w.http.post(format!("{}/image-to-video/result", w.url)).body("no JSON");
    assert_eq!(error(request.send().await.unwrap()).await.0, 400);
}

/// In a flood of jobs, over every limit: a result that is there is given, and a poll has no key.
#[tokio::test]
async fn a_poll_takes_no_place_and_no_quota() {
    let flags = ["--ai-max-in-flight=1", "--ai-queue=0", "--caller-requests-per-day=2"];
    let w = world(1, &flags).await;
    let id = begin(&w).await;
    complete(&w, &w.url, &id).await;
    // The one place is taken, by a job that has not sent its body yet, and so is the day's last request.
    let caller = penstock_gateway::front::caller::Caller::of_settings(&w.gateway.settings);
    let workload = penstock_gateway::front::workload::Workload::Ai;
    let _place = w.gateway.workloads.enter(workload, &caller).await.unwrap();
    let ask = || w.http.post(format!("{}/llm", w.url)).json(&json!({ "messages": [] }));
    let bad = || w.http.post(format!("{}/llm", w.url)).body("no JSON");
    for _ in 0..3 {
        until("it is turned away, and not counted", || async {
            // What was given back may be on its way.
            error(ask().send().await.unwrap()).await.1 == "busy"
        })
        .await;
    }
    drop(_place);
    until("the day is used up", || async {
        error(bad().send().await.unwrap()).await.1 == "quota_exceeded"
    })
    .await;
    let _place = w.gateway.workloads.enter(workload, &caller).await.unwrap();
    for _ in 0..2 {
        let poll = w.http.post(format!("{}/image-to-video/result", w.url));
        let poll = poll.header("idempotency-key", "k").json(&json!({ "request_id": id }));
        let answer = poll.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        for header in ["idempotency-replayed", "ratelimit-limit"] {
            assert!(!answer.headers().contains_key(header), "{header}");
        }
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "complete");
    }
}
