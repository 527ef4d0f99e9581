//! `POST /scope`, with a simulated runner that speaks the real protocol.

use crate::{
    payer::{Payer, answer, empty, post, short_live},
    world::{TICKET_EV, World},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_testkit::{
    sim::{Running, SimLiveRunner, live_runner::Order},
    until,
};
use penstock_wire::net;
use prost::Message as _;
use serde_json::{Value, json};
use std::cell::Cell;

const PATH: &str = "/scope";

/// A runner of `scope`, at a price.
async fn runner(price: &str) -> (Running<SimLiveRunner>, tempfile::NamedTempFile, String) {
    penstock_http_kit::tls::install_crypto_provider();
    let runner = SimLiveRunner::start(None).await;
    let entry = json!({
        "pipeline": "live-video-to-video",
        "model_id": "scope",
        "url": runner.uri(),
        "capacity": 1,
        "price_per_unit": serde_json::from_str::<Value>(price).unwrap(),
    });
    let models = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(models.path(), json!([entry]).to_string()).unwrap();
    let flag = format!("--models-file={}", models.path().display());
    (runner, models, flag)
}

async fn ask(world: &World, body: &Value) -> (u16, Value) {
    let request = world.http.post(format!("{}{PATH}", world.service)).json(body);
    let (status, text) = answer(request).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn ended(world: &World) {
    until("the session has ended and its runner is free", || async {
        let sessions = world.operator("/v1/live-sessions").await;
        let runners = world.operator("/v1/live-runners").await;
        sessions == json!([]) && runners[0]["in_use"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_free_session_has_messages_only() {
    let (runner, _models, flag) = runner("0").await;
    let world = World::offchain(&[&flag, "--live-health-interval-ms=20"]).await;
    let body = json!({ "model_id": "noop", "params": { "a": 1 }, "gateway_request_id": "mine" });
    let (status, begun) = ask(&world, &body).await;
    assert_eq!(status, 200, "{begun}");
    assert_eq!((&begun["publish_url"], &begun["subscribe_url"]), (&json!(""), &json!("")));
    let told = runner.requests.lock().unwrap()[0].clone();
    assert_eq!((&told["model_id"], &told["params"]), (&json!("scope"), &json!({ "a": 1 })));
    assert_eq!((&told["subscribe_url"], &told["publish_url"]), (&json!(""), &json!("")));
    for key in ["control_url", "events_url", "manifest_id"] {
        assert_eq!(told[key], begun[key], "{key}");
    }
    assert_eq!(told["gateway_request_id"], "mine");

    // It is found where clients look, and there is room for one.
    let list: Value = world
        .http
        .get(format!("{}/discovery", world.service))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let row = &list[0]["runners"][0];
    assert_eq!(
        (&row["app"], &row["capacity_available"]),
        (&json!("live-video-to-video/scope"), &json!(0))
    );
    assert_eq!(row["url"], format!("{}{PATH}", world.service));
    assert!(row["version"].as_str().unwrap().starts_with("serverless-"));
    assert_eq!(ask(&world, &body).await, (503, json!("insufficient capacity")));

    // Messages go there and back; the channel's end is the session's.
    let url = |key: &str| begun[key].as_str().unwrap().to_owned();
    let http = &world.http;
    let sent = http.post(format!("{}/0", url("control_url"))).body(r#"{"prompt":"b"}"#);
    assert_eq!(sent.send().await.unwrap().status(), 200);
    let mut heard = Vec::new();
    for n in 0..2 {
        let said = http.get(format!("{}/{n}", url("events_url"))).send().await.unwrap();
        heard.push(said.json::<Value>().await.unwrap()["event"]["type"].clone());
    }
    assert_eq!(heard, ["status", "params_update"]);
    assert_eq!(http.delete(url("control_url")).send().await.unwrap().status(), 200);
    ended(&world).await;

    // What the runner says of a request is passed on, what ails it is not the client's fault.
    for (said, status) in [(400, 400), (401, 401), (409, 500)] {
        runner.orders.then([Order::Refuse(said, "no")]);
        let (refused, words) = ask(&world, &body).await;
        assert_eq!(refused, status, "{words}");
        assert!(words.as_str().unwrap().ends_with("no"), "{words}");
    }
    let large = json!({ "params": { "a": "x".repeat(1 << 20) } });
    assert_eq!(ask(&world, &large).await.0, 413);
    let (none, _) = ask(&World::offchain(&[]).await, &body).await;
    assert_eq!(none, 503);
}

#[tokio::test]
async fn a_session_is_paid_before_and_while_it_runs() {
    let (_runner, _models, flag) = runner("0.00001").await;
    let quick = ["--live-health-interval-ms=20", "--live-payment-interval-ms=5"];
    let args = ["--auto-adjust-price=false", &flag, quick[0], quick[1]];
    let world = World::paid_with(100_000, &args).await;
    let payer = Payer::funded(&world).await;
    let who = payer.signer.address();
    let unpaid = |payer: String| {
        let request = world.http.post(format!("{}{PATH}", world.service)).json(&json!({}));
        request.header("Livepeer-Payer-Address", payer)
    };
    let (status, text) = answer(unpaid("nobody".to_owned())).await;
    assert_eq!(status, 402, "{text}");
    assert!(text.contains("invalid live runner payment signer address"), "{text}");
    let (status, text) = answer(unpaid(who.to_string())).await;
    assert_eq!(status, 402, "{text}");
    let challenge: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(challenge["payment_url"], format!("{}/payment", world.service));
    let info = STANDARD.decode(challenge["payment_params"].as_str().unwrap()).unwrap();
    let info = net::OrchestratorInfo::decode(info.as_slice()).unwrap();
    let manifest = challenge["manifest_id"].as_str().unwrap();
    assert_eq!(info.auth_token.as_ref().unwrap().session_id, manifest);

    let broke = payer.headers(&payer.nothing(&info), &empty(&info, manifest)).await;
    assert_eq!(
        answer(post(&world, PATH, &broke).json(&json!({}))).await,
        short_live("0", TICKET_EV)
    );
    let payment = payer.payment(&info, &[1, 2]).await;
    let headers = payer.headers(&payment, &empty(&info, manifest)).await;
    let (status, text) = answer(post(&world, PATH, &headers).json(&json!({}))).await;
    assert_eq!(status, 200, "{text}");
    let begun: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(begun["manifest_id"], manifest);
    let control = begun["control_url"].as_str().unwrap();
    assert!(!control.contains(manifest), "whoever knows a channel's name may use it");

    // Paid on by its manifest; time in which messages come is charged.
    let more = payer.payment(&info, &[3]).await;
    let more = payer.headers(&more, &empty(&info, manifest)).await;
    assert_eq!(answer(post(&world, "/payment", &more)).await.0, 200);
    let seq = Cell::new(0);
    until("the session is charged", || async {
        let message = world.http.post(format!("{control}/{}", seq.get())).body("{}");
        seq.set(seq.get() + 1);
        assert_eq!(message.send().await.unwrap().status(), 200);
        let summary = world.operator("/v1/summary").await;
        summary["debited_wei"].as_str().unwrap().parse::<Rational>().unwrap().is_positive()
    })
    .await;
    assert_eq!(world.http.delete(control).send().await.unwrap().status(), 200);
    ended(&world).await;
    assert!(world.balance(who, manifest).await.is_positive(), "what is left is its own");
}

#[tokio::test]
async fn one_manifest_is_one_session() {
    let (_first, models, flag) = runner("0.00001").await;
    // Room for two.
    let text = std::fs::read_to_string(models.path()).unwrap();
    std::fs::write(models.path(), text.replace("\"capacity\":1", "\"capacity\":2")).unwrap();
    let often = "--live-payment-interval-ms=5";
    let world = World::paid_with(100_000, &["--auto-adjust-price=false", &flag, often]).await;
    let payer = Payer::funded(&world).await;
    let scope = Capabilities::ai_job(Capability::LiveVideoToVideo, "scope", false);
    let info = payer.info(&world, Some(&scope)).await.unwrap();
    let start = async |nonce: u32, manifest: &str| {
        let payment = payer.payment(&info, &[nonce]).await;
        let headers = payer.headers(&payment, &empty(&info, manifest)).await;
        answer(post(&world, PATH, &headers).json(&json!({}))).await
    };
    assert_eq!(start(1, "ours").await.0, 200);
    let again = start(2, "ours").await;
    assert_eq!(again, (409, "a session of this manifest is running".to_owned()));
    assert_eq!(start(3, "another").await.0, 200);
}
