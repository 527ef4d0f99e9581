//! A slow job gets company: which of the two answers counts.

use crate::{
    audio::wav,
    world::{MODEL, SOURCE, World, error},
};
use penstock_domain::{Capabilities, Capability};
use penstock_gateway::service::discovery::ai_pool;
use penstock_testkit::{
    sim::{orchestrator::Order, signer},
    until,
};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinHandle};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Two orchestrators that a choice knows, and that no job has been at.
async fn world() -> Arc<World> {
    let w = World::start(2, &["--hedge-after-ms=20"]).await;
    let pool = ai_pool(Capability::AudioToText, MODEL);
    let job = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
    w.gateway.pool_or_discover(&pool, &job).await.unwrap();
    until("both are known", || async {
        w.gateway.refresh_all().await;
        w.gateway.pool_or_discover(&pool, &job).await.unwrap().entries.len() == 2
    })
    .await;
    Arc::new(w)
}

fn post(w: &Arc<World>) -> JoinHandle<Response> {
    let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
    let request = request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    tokio::spawn(async move { request.send().await.unwrap() })
}

fn jobs(w: &World, at: usize) -> usize {
    w.orchestrators[at].seen.lock().unwrap().audio.len()
}

/// A door at each: the first of a pair is for the orchestrator's offers, the second for its jobs.
fn doors(w: &World, offers: usize) -> Vec<(Arc<Semaphore>, Arc<Semaphore>)> {
    let door = |o: &penstock_testkit::sim::SimOrchestrator| {
        let (offer, job) = (Arc::new(Semaphore::new(offers)), Arc::new(Semaphore::new(0)));
        *o.gate.lock().unwrap() = Some(Arc::clone(&offer));
        *o.ai_gate.lock().unwrap() = Some(Arc::clone(&job));
        (offer, job)
    };
    w.orchestrators.iter().map(|o| door(o)).collect()
}

/// What the operator is told about the job, once it has been written down.
async fn rounds(w: &World) -> Vec<Value> {
    let url = format!("{}/v1/selection/explain?job={TRACE}", w.admin);
    until("it is written down", || async {
        w.http.get(&url).send().await.unwrap().status() == 200
    })
    .await;
    let told: Value = w.http.get(&url).send().await.unwrap().json().await.unwrap();
    told["rounds"].as_array().unwrap().clone()
}

/// One of them keeps the job for ever; without company the job would last until its time limit of ten
/// minutes.
#[tokio::test]
async fn a_slow_job_gets_company() {
    let w = world().await;
    let doors = doors(&w, 100);
    let answer = post(&w);
    until("both are at it", || async { jobs(&w, 0) == 1 && jobs(&w, 1) == 1 }).await;
    doors[1].1.add_permits(1);
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_refusal_of_the_job_is_not_kept_waiting() {
    let w = world().await;
    let doors = doors(&w, 100);
    let answer = post(&w);
    until("both are at it", || async { jobs(&w, 0) == 1 && jobs(&w, 1) == 1 }).await;
    // The other one stays at it for ever.
    w.orchestrators[1]
        .audio_orders
        .then([Order::Status(500, "audio-to-text container returned 400: no speech in it")]);
    doors[1].1.add_permits(1);
    let (status, _, text) = error(answer.await.unwrap()).await;
    assert_eq!((status, text.as_str()), (400, "no speech in it"));
    let rounds = rounds(&w).await;
    assert_eq!(rounds.len(), 2, "both decisions: {rounds:?}");
    let uri = w.orchestrators[1].uri();
    let failed: Vec<_> = rounds.iter().filter(|r| r["failed"] == "job").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["chosen"], *uri, "each has its own end");
    assert!(rounds.iter().any(|r| r["chosen"] == *w.orchestrators[0].uri() && r["ms"].is_null()));
}

/// Paying the company fails, which would end the job if it were alone.
#[tokio::test]
async fn a_success_counts_whatever_happened_to_its_company() {
    let w = world().await;
    let before: Vec<_> = w.orchestrators.iter().map(|o| o.seen.lock().unwrap().offers).collect();
    let doors = doors(&w, 0);
    let answer = post(&w);
    until("both are asked for an offer", || async {
        let asked = w.orchestrators.iter().map(|o| o.seen.lock().unwrap().offers);
        asked.zip(&before).all(|(now, before)| now > *before)
    })
    .await;
    doors[0].0.add_permits(100);
    until("the first is at it", || async { jobs(&w, 0) == 1 }).await;
    let payments = || w.signer.payment_requests.lock().unwrap().len();
    let paid = payments();
    w.signer.payment_orders.then([signer::Order::Status(401)]);
    doors[1].0.add_permits(100);
    until("the second cannot be paid", || async { payments() > paid }).await;
    doors[0].1.add_permits(1);
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// A segment of a second, which gets company after two.
async fn push(w: &World, number: u32, duration_ms: &str) -> Response {
    let request = w.http.put(format!("{}/live/show/{number}.ts", w.url)).body(SOURCE);
    let request = request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    request.header("content-duration", duration_ms).send().await.unwrap()
}

/// That is nobody's fault who works on the segment, and another one would have to be paid as slowly.
#[tokio::test]
async fn a_slow_signer_brings_no_company() {
    let w = World::start(2, &["--segment-hedge-after-ms=1"]).await;
    // A segment of three seconds gets company after six; the signer alone takes longer.
    w.signer.faults.set_latency(Duration::from_millis(6_500));
    assert_eq!(push(&w, 0, "3000").await.status(), 200);
    assert_eq!(rounds(&w).await.len(), 1, "one decision");
    assert_eq!(w.segments(), 1);
}

/// Where nobody may be asked besides, a silent one is waited for until its time is over.
#[tokio::test]
async fn a_share_of_all_segments_gets_company() {
    for (percent, head, suspended) in [
        ("--hedge-percent=0", "--segment-head-timeout-ms=15000", true),
        ("--hedge-percent=1", "--segment-head-timeout-ms=600000", false),
    ] {
        let flags = ["--segment-hedge-after-ms=1", head, percent];
        let w = World::start(2, &flags).await;
        w.orchestrators.iter().for_each(|o| o.segment_orders.then([Order::Hang]));
        // Both are silent, and the second one's order is for another time.
        let answer = tokio::spawn({
            let request = w.http.put(format!("{}/live/show/0.ts", w.url)).body(SOURCE);
            request.header("content-duration", "3000").send()
        });
        until("one has the segment", || async { w.segments() == 1 }).await;
        w.orchestrators.iter().for_each(|o| drop(o.segment_orders.next()));
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
        let known = w.gateway.store.standings("video", penstock_gateway::clock::now()).await;
        let known = known.unwrap();
        assert_eq!(known.values().any(|s| s.suspended_until.is_some()), suspended, "{known:?}");
    }
}
