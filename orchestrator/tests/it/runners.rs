//! Live runners that register, by themselves and by the operator, and that clients find.

use crate::world::{SECRET, World};
use axum::{
    Router,
    http::StatusCode,
    routing::{any, get},
};
use penstock_testkit::{sim::Server, until};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering::SeqCst},
};

/// What every world of these tests has: runners that need not say often that they are there.
pub const ON: [&str; 3] = ["--use-live-runners", "--eth-usd=2000", "--live-runner-ttl-ms=3600000"];

/// Status and body, JSON or text.
pub async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text.trim()));
    (status, value)
}

/// A heartbeat.
pub async fn beat(world: &World, auth: &str, said: &Value) -> (u16, Value) {
    let url = format!("{}/runners/heartbeat", world.service);
    read(world.http.post(url).header("Authorization", auth).body(said.to_string())).await
}

/// What a runner of these tests says.
pub fn said(id: &str, url: &str) -> Value {
    json!({
        "runner_id": id, "runner_url": url, "app": "echo", "capacity": 1,
        "price_info": { "price": 0.0072, "currency": "usd", "unit": "hour" },
    })
}

pub async fn listed(world: &World) -> Value {
    let (status, list) = read(world.http.get(format!("{}/discovery", world.service))).await;
    assert_eq!(status, 200);
    assert_eq!(list[0]["address"], world.service.as_str());
    list[0]["runners"].clone()
}

#[tokio::test]
async fn a_runner_registers_is_found_and_goes() {
    let world = World::paid_with(100_000, &ON).await;
    let runner = said("runner_a", "http://10.9.8.7:9000/base");
    assert_eq!(listed(&world).await, Value::Null);
    let wrong = beat(&world, "wrong", &runner).await;
    assert_eq!(wrong, (401, json!("invalid registration authorization")));
    let (status, first) = beat(&world, SECRET, &runner).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(first["orchestrator"], world.service.as_str());
    let secret = first["heartbeat_secret"].as_str().unwrap();
    let stale = beat(&world, SECRET, &runner).await;
    assert_eq!(stale, (401, json!("invalid heartbeat authorization")));

    let list = listed(&world).await;
    assert!(!list.to_string().contains("10.9.8.7"), "{list}");
    assert_eq!(list[0]["url"], format!("{}/apps/runner_a/session", world.service));
    let price = json!({ "price": 1_000_000_000, "currency": "wei", "unit": "seconds" });
    assert_eq!(list[0]["price_info"], price);
    // The operator knows where it is.
    let shown = world.operator("/v1/runners").await;
    assert_eq!(shown[0]["url"], "http://10.9.8.7:9000/base");

    // Each heartbeat replaces everything; not ready is not there.
    let mut changed = runner.clone();
    (changed["status"], changed["capacity"]) = (json!("loading"), json!(4));
    assert_eq!(beat(&world, secret, &changed).await.0, 200);
    assert_eq!(listed(&world).await, Value::Null);
    changed["status"] = json!("ready");
    assert_eq!(beat(&world, secret, &changed).await.0, 200);
    assert_eq!(listed(&world).await[0]["capacity"], 4);

    for (key, bad, why) in [
        ("runner_url", json!("10.9.8.7"), "invalid runner_url"),
        ("app", json!(" x"), "app must be trimmed"),
        ("metadata", json!("é".repeat(513)), "metadata must be at most 1024 bytes"),
        ("mode", json!("x"), "mode must be \"persistent\" or \"single-shot\""),
        ("price_info", json!({}), "price_info.price is required"),
    ] {
        let mut other = runner.clone();
        other[key] = bad;
        assert_eq!(beat(&world, secret, &other).await, (400, json!(why)));
    }
    let unregister = |auth: &str| {
        let url = format!("{}/runners/runner_a/unregister", world.service);
        read(world.http.post(url).header("Authorization", auth))
    };
    assert_eq!(unregister("x").await, (401, json!("invalid authorization")));
    assert_eq!(unregister(secret).await.0, 204);
    assert_eq!(unregister(secret).await, (404, json!("runner not found")));
    assert_eq!(listed(&world).await, Value::Null);
}

#[tokio::test]
async fn a_runner_that_is_silent_is_gone_and_may_come_back() {
    let world = World::offchain(&["--use-live-runners", "--live-runner-ttl-ms=200"]).await;
    let runner = said("runner_a", "http://10.9.8.7:9000");
    let (_, first) = beat(&world, SECRET, &runner).await;
    assert_eq!(
        (&first["heartbeat_interval"], &first["heartbeat_ttl"]),
        (&json!("50ms"), &json!("200ms"))
    );
    until("it is gone", || async { listed(&world).await == Value::Null }).await;
    let secret = first["heartbeat_secret"].as_str().unwrap();
    // Late it is unknown; once swept, its secret is none for a registration, upon which it registers.
    until("it was swept", || async { beat(&world, secret, &runner).await.0 == 401 }).await;
    assert_eq!(beat(&world, SECRET, &runner).await.0, 200);
}

#[tokio::test]
async fn without_the_setting_there_are_none() {
    let world = World::offchain(&[]).await;
    let off = json!("live runners are not supported");
    assert_eq!(beat(&world, SECRET, &json!({})).await, (404, off.clone()));
    assert_eq!(read(world.http.get(format!("{}/discovery", world.service))).await, (404, off));
}

#[tokio::test]
async fn the_operators_own_are_asked_how_they_are() {
    let status = Arc::new(AtomicU16::new(204));
    let said_status = Arc::clone(&status);
    let health = get(async move || StatusCode::from_u16(said_status.load(SeqCst)).unwrap());
    let router = Router::new().route("/health", health).route("/{*rest}", any(async || "app"));
    let server = Server::clear(router).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runners.json");
    let entry = |label: &str, routing: &str| {
        json!({
            "label": label, "routing": routing, "runner_url": server.uri, "app": "echo",
            "health_url": "/health", "healthy_status_code": 204,
        })
    };
    std::fs::write(&file, json!({ "runners": [entry("own", "label")] }).to_string()).unwrap();
    let config = format!("--live-runner-config={}", file.display());
    let world = World::offchain(&[&config, "--live-runner-health-ms=50"]).await;
    assert_eq!(listed(&world).await[0]["url"], format!("{}/apps/own/session", world.service));
    let mut dynamic = said("runner_a", &server.uri);
    let closed = "dynamic live runner registration is disabled";
    assert_eq!(beat(&world, SECRET, &dynamic).await, (404, json!(closed)));
    dynamic["runner_id"] = json!("own");
    assert_eq!(beat(&world, "", &dynamic).await, (400, json!("static runner cannot heartbeat")));

    status.store(200, SeqCst);
    until("it is not well", || async { listed(&world).await == Value::Null }).await;
    status.store(204, SeqCst);
    until("it is well again", || async { listed(&world).await != Value::Null }).await;

    let upsert = async |list: Value| {
        let url = format!("{}/registerLiveRunners", world.admin);
        read(world.http.post(url).body(list.to_string())).await
    };
    let bad = json!({ "runners": [entry("two", ""), entry("two", "")] });
    assert_eq!(upsert(bad).await, (400, json!("runners[1]: duplicate label \"two\"")));
    assert_eq!(listed(&world).await.as_array().unwrap().len(), 1);
    let (status, answer) = upsert(json!({ "runners": [entry("two", "")] })).await;
    assert_eq!((status, &answer["runners"][0]["healthy"]), (200, &json!(true)));
    assert_eq!(listed(&world).await.as_array().unwrap().len(), 2);
}
