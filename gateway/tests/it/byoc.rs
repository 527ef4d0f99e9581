//! Brought capabilities: `/process/request/…`, and `/v1/embeddings` over them.

use crate::{
    ai_stream::event,
    world::{OFFCHAIN, World, error},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{PriceInfo, Rational};
use penstock_testkit::{
    sim::orchestrator::{ByocOrder, SimCapability},
    until,
};
use serde_json::{Value, json};
use std::{sync::atomic::Ordering::SeqCst, time::Duration};

/// Wei a second: ten seconds are a ticket's worth.
const PRICE: i64 = 10_000_000;

async fn world(orchestrators: usize, flags: &[&str]) -> World {
    let w = World::start(orchestrators, flags).await;
    for o in &w.orchestrators {
        o.byoc.has("flux", price(PRICE));
    }
    w
}

fn price(wei: i64) -> PriceInfo {
    PriceInfo::new(wei, 1).unwrap()
}

fn job(parameters: &str) -> Value {
    json!({
        "id": "mine", "request": r#"{"run":"now"}"#, "parameters": parameters,
        "capability": "flux", "timeout_seconds": 2,
    })
}

fn request(w: &World, path: &str, job: &Value) -> reqwest::RequestBuilder {
    // A moment is enough for a real search, and a busy machine takes longer.
    w.http
        .post(format!("{}/process/request/{path}", w.url))
        .header("livepeer", BASE64.encode(job.to_string()))
        .header("livepeer-orch-search-timeout", "30s")
        .header("livepeer-orch-search-resp-timeout", "30s")
        .header("content-type", "application/json")
        .body(r#"{"prompt":"a"}"#)
}

async fn post(w: &World, path: &str, job: &Value) -> reqwest::Response {
    request(w, path, job).send().await.unwrap()
}

fn jobs(w: &World) -> usize {
    w.orchestrators.iter().map(|o| o.byoc.jobs.lock().unwrap().len()).sum()
}

#[tokio::test]
async fn a_job_is_signed_paid_and_answered() {
    let w = world(1, &[]).await;
    let answer = post(&w, "flux/v1?x=1", &job("")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-metadata"), "made by a worker");
    assert_eq!(header("x-orchestrator-url"), w.orchestrator().uri());
    assert!(header("livepeer-balance").parse::<i128>().unwrap() > 0);
    assert_eq!(answer.json::<Value>().await.unwrap()["got"], r#"{"prompt":"a"}"#);
    let (path, request, _) = w.orchestrator().byoc.jobs.lock().unwrap()[0].clone();
    assert_eq!(path, "flux/v1");
    assert_eq!((&request["id"], &request["parameters"]), (&json!("mine"), &json!("{}")));
    let book = w.orchestrator().book("flux");
    assert_eq!(book.debited, Rational::from_int(PRICE.into()));
    // A minute's worth was there before, and the rest stays for the next job.
    assert!(book.balance() >= Rational::from_int(i128::from(PRICE) * 59));
    let asked = w.signer.asked();
    let mut next = job("{}");
    // With the parameters 32 bytes, which no signer signs.
    next["request"] = json!(format!(r#"{{"run":"{}"}}"#, "x".repeat(20)));
    assert_eq!(post(&w, "flux", &next).await.status(), 200);
    assert_eq!(w.signer.asked(), asked, "bought ahead");
    let (_, sent, _) = w.orchestrator().byoc.jobs.lock().unwrap()[1].clone();
    assert_eq!((&sent["request"], &sent["parameters"]), (&next["request"], &json!("{} ")));
}

#[tokio::test]
async fn include_and_exclude() {
    let w = world(2, &[]).await;
    let uri = |n: usize| w.orchestrators[n].uri();
    for parameters in [
        json!({ "orchestrators": { "include": [uri(1)] } }),
        json!({ "orchestrators": { "exclude": [uri(0)] } }),
    ] {
        let answer = post(&w, "flux", &job(&parameters.to_string())).await;
        assert_eq!(answer.headers()["x-orchestrator-url"].to_str().unwrap(), uri(1));
    }
    let nobody = json!({ "orchestrators": { "include": ["https://other:8935"] } });
    let answer = post(&w, "flux", &job(&nobody.to_string())).await;
    assert_eq!(answer.status(), 400);
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said["error"]["message"], "No orchestrators found for capability flux");
}

#[tokio::test]
async fn a_failing_worker_is_replaced_and_a_refusal_is_told() {
    let w = world(2, &[]).await;
    for o in &w.orchestrators {
        o.byoc.orders.then([ByocOrder::Status(500, "worker crashed")]);
    }
    let answer = post(&w, "flux", &job("{}")).await;
    assert_eq!((answer.status().as_u16(), jobs(&w)), (503, 2));
    assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
    let before = jobs(&w);
    for o in &w.orchestrators {
        o.byoc.orders.then([ByocOrder::Status(422, "no such style")]);
    }
    let answer = post(&w, "flux", &job("{}")).await;
    assert_eq!((answer.status().as_u16(), jobs(&w)), (422, before + 1));
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said["error"]["message"], "no such style");
}

/// Whoever fails is left alone, as for every other job, and not tried first again and again.
#[tokio::test]
async fn a_failing_orchestrator_is_kept_out() {
    let w = world(2, &[]).await;
    let jobs_at = |at: usize| w.orchestrators[at].byoc.jobs.lock().unwrap().len();
    // Who is asked first is drawn: until it was the bad one.
    for n in 0.. {
        assert!(n < 100, "100 jobs, and one orchestrator had all of them");
        w.orchestrators[0].byoc.orders.then([ByocOrder::Status(500, "worker crashed")]);
        assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
        if jobs_at(0) > 0 {
            break;
        }
        w.orchestrators[0].byoc.orders.next();
    }
    let good = jobs_at(1);
    for n in 1..=5 {
        assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
        assert_eq!((jobs_at(0), jobs_at(1)), (1, good + n));
    }
    // Where nobody else is left it gets another chance.
    let only = json!({ "orchestrators": { "include": [w.orchestrators[0].uri()] } });
    assert_eq!(post(&w, "flux", &job(&only.to_string())).await.status(), 200);
    assert_eq!(jobs_at(0), 2);
}

/// Whoever gives no token in time is not waited for again by every job.
#[tokio::test]
async fn a_silent_orchestrator_costs_one_job_its_time() {
    let w = world(2, &[]).await;
    w.orchestrators[1].faults.set_silent(true);
    let hasty = |ms| {
        w.http
            .post(format!("{}/process/request/flux", w.url))
            .header("livepeer", BASE64.encode(job("{}").to_string()))
            .header("livepeer-orch-search-timeout", "30s")
            .header("livepeer-orch-search-resp-timeout", ms)
            .body("{}")
    };
    let silent = w.orchestrators[1].uri();
    let kept_out = || async {
        let all = w.gateway.store.standings("byoc", penstock_gateway::clock::now()).await.unwrap();
        all.get(&silent).is_some_and(|s| s.suspended_until.is_some())
    };
    // A caller who gives hardly any time shuts nobody out.
    let _any = hasty("5ms").send().await.unwrap();
    assert!(!kept_out().await);
    // One who gives the usual time finds out for all.
    until("the other one answers in time", || async {
        hasty("500ms").send().await.unwrap().status() == 200 && kept_out().await
    })
    .await;
    // It is not asked now, or this would take half a minute.
    let answer = tokio::time::timeout(Duration::from_secs(20), post(&w, "flux", &job("{}"))).await;
    assert_eq!(answer.unwrap().status(), 200);
}

/// What a token does not tell, the gateway knows from the menus.
#[tokio::test]
async fn versions_and_gpus_count_for_brought_jobs() {
    let flags = ["--gpu-classes=h100", "--min-node-version=0.8.0"];
    let w = World::arranged(3, &flags, |_, all| {
        let nodes = [("0.8.1", "NVIDIA H100"), ("0.7.9", "NVIDIA H100"), ("0.8.1", "RTX 4090")];
        for (sim, (version, gpu)) in all.iter().zip(nodes) {
            sim.byoc.has("flux", price(PRICE));
            let mut terms = sim.terms.lock().unwrap();
            (terms.version, terms.gpus) = (version, vec![gpu]);
        }
    })
    .await;
    for _ in 0..5 {
        let answer = post(&w, "flux", &job("{}")).await;
        assert_eq!(
            answer.headers()["x-orchestrator-url"].to_str().unwrap(),
            w.orchestrators[0].uri()
        );
    }
    let others = json!({ "orchestrators": { "exclude": [w.orchestrators[0].uri()] } });
    let (status, code, _) = error(post(&w, "flux", &job(&others.to_string())).await).await;
    assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
    assert_eq!(jobs(&w), 5);
}

#[tokio::test]
async fn a_forgotten_balance_is_bought_anew() {
    let w = world(1, &[]).await;
    assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
    w.orchestrator().forget_balances();
    assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
    assert_eq!(jobs(&w), 3, "refused once");
}

#[tokio::test]
async fn events_come_as_they_are_made() {
    let w = world(1, &[]).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    *w.orchestrator().ai.gate.lock().unwrap() = Some(gate.clone());
    w.orchestrator().byoc.orders.then([ByocOrder::Events(2), ByocOrder::CutAfter(1)]);
    let mut answer = post(&w, "flux", &job("{}")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert!(answer.headers().contains_key("livepeer-balance"));
    let mut rest = String::new();
    for expected in [r#"data: {"n":0}"#, r#"data: {"n":1}"#, "data: [DONE]"] {
        assert_eq!(event(&mut answer, &mut rest).await.as_deref(), Some(expected));
        gate.add_permits(1);
    }
    assert_eq!(event(&mut answer, &mut rest).await, None);
    let mut answer = post(&w, "flux", &job("{}")).await;
    assert_eq!(event(&mut answer, &mut rest).await.as_deref(), Some(r#"data: {"n":0}"#));
    gate.add_permits(1);
    let broken = event(&mut answer, &mut rest).await.unwrap();
    assert!(broken.starts_with("event: error\ndata: {\"error\""), "{broken}");
    // Nothing stays set aside: less than five seconds cost nothing.
    until("both streams are settled", || async { w.gateway.jobs.is_empty() }).await;
}

#[tokio::test]
async fn bad_job_requests_cost_nothing() {
    let w = world(1, &[]).await;
    let mut cases = Vec::new();
    for (key, value) in [
        ("timeout_seconds", json!(0)),
        // Longer than a job may take here.
        ("timeout_seconds", json!(601)),
        ("timeout_seconds", json!(u32::MAX)),
        ("request", json!("no object")),
        ("parameters", json!("[]")),
        ("capability", json!("")),
        ("capability", json!("x".repeat(65))),
        ("capability", json!("nobody-has-it")),
    ] {
        let mut job = job("{}");
        job[key] = value;
        cases.push(job);
    }
    cases.push(json!([]));
    for job in cases {
        let answer = post(&w, "flux", &job).await;
        assert_eq!(answer.status(), 400, "{job}");
        assert!(answer.json::<Value>().await.unwrap()["error"]["code"].is_string());
    }
    let url = format!("{}/process/request/flux", w.url);
    assert_eq!(w.http.post(&url).send().await.unwrap().status(), 400);
    assert_eq!(w.http.get(&url).send().await.unwrap().status(), 405);
    assert_eq!(jobs(&w), 0);
    w.assert_untouched().await;
}

#[tokio::test]
async fn what_costs_nothing_is_not_paid() {
    let w = world(1, &[]).await;
    w.orchestrator().byoc.has("flux", price(0));
    assert_eq!(post(&w, "", &job("{}")).await.status(), 200);
    assert_eq!((w.signer.asked(), w.orchestrator().book("flux").tickets), (0, 0));
    let (path, request, _) = w.orchestrator().byoc.jobs.lock().unwrap()[0].clone();
    assert_eq!(path, "", "the worker's root");
    assert_eq!(request["sender"], w.signer.key.address().to_string());

    // From now on it costs something; and then something else.
    for wei in [PRICE, 3 * PRICE] {
        let had = w.orchestrator().book("flux").debited;
        w.orchestrator().byoc.has("flux", price(wei));
        assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
        let debited = &w.orchestrator().book("flux").debited - &had;
        assert_eq!(debited, Rational::from_int(wei.into()));
    }
    assert!(w.orchestrator().seen.lock().unwrap().refusals.is_empty());
}

#[tokio::test]
async fn without_a_signer_only_what_costs_nothing_is_used() {
    let w = world(1, &[OFFCHAIN]).await;
    assert_eq!(post(&w, "flux", &job("{}")).await.status(), 503, "its price cannot be paid");
    assert_eq!(jobs(&w), 0);
    w.orchestrator().byoc.has("flux", price(0));
    let answer = post(&w, "flux", &job("{}")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let (_, request, _) = w.orchestrator().byoc.jobs.lock().unwrap()[0].clone();
    let nobody = "0x0000000000000000000000000000000000000000";
    assert_eq!((&request["sender"], &request["sig"]), (&json!(nobody), &json!("")));
}

#[tokio::test]
async fn no_room_and_too_dear() {
    let w = world(2, &["--max-price=10000000"]).await;
    for o in &w.orchestrators {
        o.byoc.offers("flux", SimCapability { price: price(PRICE), capacity: 0 });
    }
    let answer = post(&w, "flux", &job("{}")).await;
    assert!(answer.headers().contains_key("retry-after"));
    let (status, code, _) = error(answer).await;
    assert_eq!((status, code.as_str()), (400, "nobody_has_it"));
    w.orchestrators[0].byoc.has("flux", price(PRICE + 1));
    let (status, code, _) = error(post(&w, "flux", &job("{}")).await).await;
    assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
    assert_eq!((jobs(&w), w.signer.asked()), (0, 0));

    // What was decided, and why, can be asked for.
    w.orchestrators[1].byoc.has("flux", price(PRICE));
    w.orchestrators[1].byoc.orders.then([ByocOrder::Status(500, "worker crashed")]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let answer = request(&w, "flux", &job("{}")).header("traceparent", parent).send().await;
    assert_eq!(answer.unwrap().status(), 503);
    let url = format!("{}/v1/selection/explain?job={trace}", w.admin);
    until("it is written down", || async {
        w.http.get(&url).send().await.unwrap().status() == 200
    })
    .await;
    let told: Value = w.http.get(&url).send().await.unwrap().json().await.unwrap();
    let round = &told["rounds"][0];
    assert_eq!(round["summary"], "1 of 2 excluded by price");
    assert_eq!(round["chosen"], w.orchestrators[1].uri());
    assert_eq!((&round["failed"], &round["error"]), (&json!("failed"), &json!("worker crashed")));
}

/// A second costs more than a pixel.
#[tokio::test]
async fn a_ceiling_of_its_own() {
    let ceilings = json!({ "capabilities_prices": [
        { "pipeline": "byoc", "model_id": "flux", "price_per_unit": PRICE, "pixels_per_unit": 1 },
    ]});
    let flag = format!("--max-price-per-capability={ceilings}");
    let w = world(1, &["--max-price=2", &flag]).await;
    assert_eq!(post(&w, "flux", &job("{}")).await.status(), 200);
    w.orchestrator().byoc.has("flux", price(PRICE + 1));
    assert_eq!(error(post(&w, "flux", &job("{}")).await).await.1, "no_orchestrators");
    assert_eq!(jobs(&w), 1);
}

#[tokio::test]
async fn a_caller_uses_what_its_account_has_and_a_key_once() {
    let w = world(1, &["--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({ "allowed_capabilities": ["byoc/flux"] }));
    w.signer.admit("psk_eve", "evil:eve", json!({ "allowed_capabilities": ["llm/*"] }));
    let ask = |token: &str, job: &Value| {
        request(&w, "flux", job).bearer_auth(token).header("idempotency-key", "k").send()
    };
    let (status, code, _) = error(ask("psk_eve", &job("{}")).await.unwrap()).await;
    assert_eq!((status, code.as_str()), (403, "not_allowed"));
    let first = ask("psk_bob", &job("{}")).await.unwrap();
    assert_eq!(first.status(), 200, "{}", first.text().await.unwrap());
    let again = ask("psk_bob", &job("{}")).await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.headers()["livepeer-balance"], first.headers()["livepeer-balance"]);
    assert_eq!(again.text().await.unwrap(), first.text().await.unwrap());
    // The same body under another job request is another job.
    let mut other = job("{}");
    other["request"] = json!(r#"{"run":"later"}"#);
    assert_eq!(error(ask("psk_bob", &other).await.unwrap()).await.1, "idempotency_key_reused");
    assert_eq!(jobs(&w), 1);
    assert_eq!(*w.signer.auth_ids.lock().unwrap(), ["acme:bob"]);
}

#[tokio::test]
async fn embeddings_are_a_brought_capabilitys() {
    let w = world(1, &["--embeddings-capability=flux"]).await;
    // Clients that look first find a model there, while somebody has the capability.
    for (model, listed) in [("flux", true), ("other", false)] {
        let (status, list) = w.get("/v1/models").await;
        assert_eq!(status, 200);
        assert_eq!(list.contains(&format!(r#""id":"{model}""#)), listed, "{list}");
    }
    let url = format!("{}/v1/embeddings", w.url);
    let body = json!({ "model": "m", "input": ["a", "b"] });
    let vectors = json!({ "object": "list", "data": [{ "index": 0, "embedding": [0.5] }] });
    *w.orchestrator().byoc.says.lock().unwrap() = Some(vectors.clone());
    let answer = w.http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(answer.json::<Value>().await.unwrap(), vectors);
    let (path, _, sent) = w.orchestrator().byoc.jobs.lock().unwrap()[0].clone();
    assert_eq!(path, "v1/embeddings");
    assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), body, "as the client sent it");

    w.orchestrator().byoc.orders.then([ByocOrder::Status(422, "no such model")]);
    *w.orchestrator().byoc.says.lock().unwrap() = Some(json!({ "error": "none" }));
    for (body, status, kind, code) in [
        (json!({ "model": "m" }), 400, "invalid_request_error", "bad_form"),
        (body.clone(), 422, "invalid_request_error", "worker_refused"),
        (body.clone(), 503, "server_error", "attempts_exhausted"),
    ] {
        let answer = w.http.post(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let said: Value = answer.json().await.unwrap();
        assert_eq!((&said["error"]["type"], &said["error"]["code"]), (&json!(kind), &json!(code)));
    }
    w.orchestrator().byoc.capabilities.lock().unwrap().clear();
    let answer = w.http.post(&url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "no_orchestrators");
}

/// Tokens that each orchestrator was asked for.
fn tokens_asked(w: &World) -> Vec<usize> {
    w.orchestrators.iter().map(|o| o.byoc.tokens_asked.load(SeqCst)).collect()
}

#[tokio::test]
async fn embeddings_ask_only_those_who_are_known_to_have_them() {
    let w = World::start(3, &["--embeddings-capability=flux"]).await;
    let url = format!("{}/v1/embeddings", w.url);
    let body = json!({ "model": "m", "input": "a" });
    let vectors = json!({ "object": "list", "data": [{ "index": 0, "embedding": [0.5] }] });
    let embed = async || {
        let answer = w.http.post(&url).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        // With the answer all is over: nobody is asked any more.
        drop(answer.bytes().await.unwrap());
        status
    };
    let with = &w.orchestrators[1];
    with.byoc.has("flux", price(PRICE));
    w.orchestrators[2].byoc.has("other", price(PRICE));
    *with.byoc.says.lock().unwrap() = Some(vectors);
    for n in 1..=3 {
        assert_eq!(embed().await, 200);
        // One for the search, and one for the terms of the tickets at most.
        let asked = tokens_asked(&w);
        assert_eq!((asked[0], asked[2]), (0, 0), "{asked:?}");
        assert!((n..=2 * n).contains(&asked[1]), "{asked:?}");
    }
    // Any other brought job asks everybody, as the network does.
    let mut other = job("");
    other["capability"] = json!("other");
    assert_eq!(post(&w, "other", &other).await.status(), 200);
    assert!(tokens_asked(&w).iter().all(|asked| *asked > 0));
}
