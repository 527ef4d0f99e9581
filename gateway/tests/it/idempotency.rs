//! The same request under the same key: one job, one answer.

use crate::{
    audio::wav,
    world::{Replica, World, error},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::StreamExt;
use penstock_domain::PriceInfo;
use penstock_gateway::clock;
use penstock_store::{Cas, DocKey, MemberStore, RedisOptions, RedisStore, RedisUrl};
use penstock_testkit::{
    redis::RedisServer,
    sim::{
        orchestrator::{Order, PaymentOrder},
        signer,
    },
    until,
};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Each call chooses a boundary of its own.
async fn transcribe(w: &World, key: &str, tenths: u32) -> Response {
    let form = Form::new().part("audio", Part::bytes(wav(tenths)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
    request.header("idempotency-key", key).send().await.unwrap()
}

fn ai_jobs(w: &World) -> usize {
    w.orchestrator().seen.lock().unwrap().audio.len()
}

#[tokio::test]
async fn the_same_key_has_the_same_answer_and_is_done_once() {
    let w = World::with(1).await;
    let first = transcribe(&w, "k1", 30).await;
    assert!(first.status() == 200 && !first.headers().contains_key("idempotency-replayed"));
    let first = first.text().await.unwrap();
    for _ in 0..2 {
        let again = transcribe(&w, "k1", 30).await;
        assert_eq!(again.status(), 200);
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!(again.headers()["content-type"], "application/json");
        assert_eq!(again.text().await.unwrap(), first);
    }
    assert_eq!(ai_jobs(&w), 1);
    // Another content is another request, and must have a key of its own.
    let (status, code, _) = error(transcribe(&w, "k1", 20).await).await;
    assert_eq!((status, code.as_str()), (422, "idempotency_key_reused"));
    assert_eq!(transcribe(&w, "k2", 20).await.status(), 200);
    assert_eq!(ai_jobs(&w), 2);
    let (status, code, _) = error(transcribe(&w, &"k".repeat(129), 20).await).await;
    assert_eq!((status, code.as_str()), (400, "bad_idempotency_key"));
}

#[tokio::test]
async fn a_key_is_its_callers_own() {
    let w = World::start(1, &["--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    w.signer.admit("psk_eve", "evil:eve", json!({}));
    for token in ["psk_bob", "psk_eve"] {
        let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
        let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
        let answer = request.bearer_auth(token).header("idempotency-key", "k").send().await;
        let answer = answer.unwrap();
        assert!(answer.status() == 200 && !answer.headers().contains_key("idempotency-replayed"));
    }
    assert_eq!(ai_jobs(&w), 2);
}

#[tokio::test]
async fn who_repeats_while_it_is_at_work_gets_its_answer() {
    let w = Arc::new(World::with(1).await);
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().ai_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let call = |w: Arc<World>| tokio::spawn(async move { transcribe(&w, "k", 30).await });
    let first = call(w.clone());
    until("it is at work", || async { ai_jobs(&w) == 1 }).await;
    let second = call(w.clone());
    // Its client hangs up: what was begun is finished and kept.
    first.abort();
    gate.add_permits(1);
    let answer = second.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["idempotency-replayed"], "true");
    assert_eq!(ai_jobs(&w), 1);
}

/// Bodies that come slowly, or not at all, have no place yet: each caller may have only so many.
#[tokio::test]
async fn slow_bodies_under_keys_are_counted() {
    let w = Arc::new(World::start(1, &["--caller-max-in-flight=1"]).await);
    let url = format!("{}/audio-to-text", w.url);
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("--b\r\n")]);
    let body = reqwest::Body::wrap_stream(begun.chain(futures::stream::pending()));
    let slow = w.http.post(url).header("content-type", "multipart/form-data; boundary=b");
    let slow = tokio::spawn(slow.header("idempotency-key", "slow").body(body).send());
    until("the next one is turned away", || async {
        let answer = transcribe(&w, "k", 20).await;
        answer.status() == 429 && error(answer).await.1 == "too_many_jobs"
    })
    .await;
    // Without a key it is a job, whose body is read when it has a place.
    let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
    let answer = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    slow.abort();
    until("there is room again", || async { transcribe(&w, "k", 20).await.status() == 200 }).await;
}

#[tokio::test]
async fn what_failed_for_now_may_be_tried_again() {
    let w = World::with(1).await;
    w.orchestrator().audio_orders.then([Order::Status(500, "runner crashed")]);
    assert_eq!(transcribe(&w, "k", 30).await.status(), 503);
    until("it is done", || async { transcribe(&w, "k", 30).await.status() == 200 }).await;
    let again = transcribe(&w, "k", 30).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
}

#[tokio::test]
async fn a_request_whose_replica_died_is_taken_over() {
    let w = World::with(1).await;
    assert_eq!(transcribe(&w, "k", 30).await.status(), 200);
    // As that replica left it, dead since long ago.
    let now = clock::now();
    leave(&w, json!({ "holder": "gone", "until": now.0 - 1 })).await;
    let answer = transcribe(&w, "k", 30).await;
    assert!(answer.status() == 200 && !answer.headers().contains_key("idempotency-replayed"));
    assert_eq!(ai_jobs(&w), 2);
    assert_eq!(transcribe(&w, "k", 30).await.headers()["idempotency-replayed"], "true");
}

/// Key `k`, whose answer was given, is at work as this says.
async fn leave(w: &World, working: serde_json::Value) {
    let key = {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(w.gateway.settings.auth_id.as_str());
        hash.update([0]);
        hash.update("k");
        DocKey::new("idem", hex::encode(hash.finalize()))
    };
    let (now, store) = (clock::now(), &w.gateway.store);
    let done = store.doc(&key, now).await.unwrap().unwrap();
    let head = done.value.split(|b| *b == b'\n').next().unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(head).unwrap();
    record["stage"] = json!({ "Working": working });
    let text = format!("{record}\n").into();
    let put = store.put_doc(&key, Some(done.version), text, 600_000, now).await.unwrap();
    assert!(matches!(put, Cas::Stored(_)));
}

/// Its hold would last for minutes; but it is not seen at Redis any more, and its request is another's soon.
#[tokio::test]
async fn a_replica_that_has_ended_is_not_waited_for() {
    let redis = RedisServer::start().await;
    let store = format!("--session-store={}", redis.url());
    let flags = [store.as_str(), "--segment-store=redis", "--session-store-timeout-ms=20000"];
    let w = World::start(1, &flags).await;
    assert_eq!(transcribe(&w, "k", 30).await.status(), 200);
    let url = RedisUrl::parse(&redis.url()).unwrap();
    let replica = RedisStore::open(RedisOptions::new(url)).await;
    let (name, until) = (replica.seen_as().unwrap(), clock::now().0 + 300_000);
    leave(&w, json!({ "holder": "gone", "until": until, "seen_as": name })).await;
    drop(replica);
    let answer = transcribe(&w, "k", 30).await;
    assert!(answer.status() == 200 && !answer.headers().contains_key("idempotency-replayed"));
    assert_eq!(ai_jobs(&w), 2);
}

/// Two gateways whose stores know nothing of each other: as one whose store was lost.
#[tokio::test]
async fn a_job_names_its_payment_at_the_signer() {
    let w = World::with(1).await;
    let keys = || w.signer.first_keys.lock().unwrap().clone();
    assert_eq!(transcribe(&w, "k", 30).await.status(), 200);
    let other = Replica::start(&w.signer.uri(), &[]).await;
    other.gateway.refresh_all().await;
    let ask = |key: &'static str| {
        let form = Form::new().part("audio", Part::bytes(wav(30)).file_name("a.wav"));
        let request = w.http.post(format!("{}/audio-to-text", other.url)).multipart(form);
        request.header("idempotency-key", key).send()
    };
    assert_eq!(ask("k").await.unwrap().status(), 200);
    let asked = keys();
    assert_eq!((asked.len(), &asked[0]), (2, &asked[1]), "the same payment, asked for again");
    let opened = w.signer.payments().iter().filter(|p| p.sequence == 1).count();
    assert_eq!(opened, 1, "it opened no second payment session");
    // Another key, another payment; and a key that the signer used otherwise is left.
    let third = Replica::start(&w.signer.uri(), &[]).await;
    third.gateway.refresh_all().await;
    w.signer.payment_orders.then([signer::Order::Status(409)]);
    let form = Form::new().part("audio", Part::bytes(wav(30)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", third.url)).multipart(form);
    let answer = request.header("idempotency-key", "other").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let asked = keys();
    assert!(asked.len() == 3 && !asked[2].starts_with("job-"), "{asked:?}");
    other.stop.cancel();
    third.stop.cancel();
}

/// The same of a brought capability's job, and of one behind an OpenAI path.
#[tokio::test]
async fn a_brought_job_names_its_payment_at_the_signer() {
    let flags = ["--embeddings-capability=flux"];
    let w = World::start(1, &flags).await;
    let orchestrator = w.orchestrator();
    orchestrator.byoc.has("flux", PriceInfo::new(10_000_000, 1).unwrap());
    *orchestrator.byoc.says.lock().unwrap() = Some(json!({ "data": [] }));
    let job = json!({ "request": "{}", "capability": "flux", "timeout_seconds": 2 });
    let brought = |url: &str| {
        let request = w.http.post(format!("{url}/process/request/flux")).body("{}");
        let request = request.header("livepeer", BASE64.encode(job.to_string()));
        let request = request.header("livepeer-orch-search-timeout", "30s");
        request.header("livepeer-orch-search-resp-timeout", "30s")
    };
    let embeddings = |url: &str| {
        let request = w.http.post(format!("{url}/v1/embeddings"));
        request.json(&json!({ "model": "m", "input": "a" }))
    };
    for (nth, key) in ["brought", "embedded"].into_iter().enumerate() {
        // The second one's store knows nothing of the first one's.
        for _ in 0..2 {
            let replica = Replica::start(&w.signer.uri(), &flags).await;
            replica.gateway.refresh_all().await;
            let request = if nth == 0 { brought(&replica.url) } else { embeddings(&replica.url) };
            let answer = request.header("idempotency-key", key).send().await.unwrap();
            assert!(!answer.headers().contains_key("idempotency-replayed"));
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
            replica.stop.cancel();
        }
        let asked = std::mem::take(&mut *w.signer.first_keys.lock().unwrap());
        assert_eq!((asked.len(), &asked[0]), (2, &asked[1]), "the same payment, asked for again");
        assert!(asked[0].starts_with("job-"), "{asked:?}");
        let opened = w.signer.payments().iter().filter(|p| p.sequence == 1).count();
        assert_eq!(opened, nth + 1, "it opened no second payment session");
    }
}

/// A caller's key comes again after all here forgot it: what the signer has kept under it was paid long
/// ago, and is of no use any more.
#[tokio::test]
async fn a_key_of_long_ago_is_paid_for_anew() {
    let w = World::with(1).await;
    assert_eq!(transcribe(&w, "k", 30).await.status(), 200);
    for number in 0..20 {
        let key = format!("other-{number}");
        assert_eq!(transcribe(&w, &key, 600).await.status(), 200);
    }
    let opened = || w.signer.payments().iter().filter(|p| p.sequence == 1).count();
    let bought = w.signer.payments().len();
    assert!(bought > 1 && opened() == 1, "{bought} payments of one session");
    let late = Replica::start(&w.signer.uri(), &[]).await;
    late.gateway.refresh_all().await;
    let expired = PaymentOrder::Status(480, "expired");
    w.orchestrators[0].payment_orders.then([expired, expired]);
    let form = Form::new().part("audio", Part::bytes(wav(30)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", late.url)).multipart(form);
    let answer = request.header("idempotency-key", "k").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        (w.signer.payments().len(), opened()),
        (bought + 1, 2),
        "a payment session of its own"
    );
    late.stop.cancel();
}

#[tokio::test]
async fn problem_details_for_who_asks() {
    let w = World::with(0).await;
    let url = format!("{}/stream/none.m3u8", w.url);
    let answer = w.http.get(&url).header("accept", "application/problem+json").send().await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:penstock:error:not_found");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["instance"], "/stream/none.m3u8");
    assert_eq!(problem["request_id"], id);
    let plain = w.http.get(&url).send().await.unwrap();
    assert_eq!(error(plain).await.1, "not_found");
}
