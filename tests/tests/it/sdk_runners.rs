//! The official Python SDK, unmodified, on both sides of a live runner: it registers one, finds it, calls
//! it, reserves a session of it and pays, by our signer and through our orchestrator.

use std::path::Path;

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{Sdk, figure, until};
use serde_json::{Value, json};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

#[tokio::test]
async fn the_official_sdk_registers_finds_calls_and_pays_live_runners() {
    let settings = ["--use-live-runners", "--eth-usd=2000", "--live-payment-interval-ms=200"]
        .map(str::to_owned);
    let network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &settings).await;
    let orchestrator = network.url(Role::Orchestrator);
    let operator = async |path: &str| {
        network.get(&format!("{}{path}", network.admin(Role::Orchestrator))).await
    };
    let accounts = async |session: &str| {
        let all = operator("/v1/accounts").await;
        let own = all.as_array().unwrap().iter().find(|a| a["session_id"] == session).cloned();
        own.unwrap_or_else(|| panic!("{session} has no account: {all}"))
    };
    let wei = |value: &Value| value.as_str().unwrap().parse::<Rational>().unwrap();
    let signer = network.url(Role::Signer);
    let secret = network.plan.layout.worker_secret();
    let mut sdk = Sdk::start("runners.py", [Path::new(&signer), Path::new(&orchestrator), &secret]);

    // Single calls: JSON, bytes, events; each paid once, when it was delivered.
    let call = sdk.hear().await["call"].clone();
    assert!(call["url"].as_str().unwrap().starts_with(&format!("{orchestrator}/apps/runner_")));
    // 0.00002 dollars, an ether for 2,000.
    let price = json!({ "price": 10_000_000_000_u64, "currency": "wei", "unit": "fixed" });
    assert_eq!(call["price_info"], price);
    let answer = sdk.hear().await;
    let session = answer["session"].as_str().unwrap();
    let echoed =
        json!({ "got": { "a": 1 }, "path": "/call/echo", "session": session, "paid": false });
    assert_eq!(answer["json"], echoed);
    until("the call was charged", || async {
        wei(&accounts(session).await["debited_wei"]) == Rational::from(10_000_000_000_u64)
    })
    .await;
    assert_eq!(sdk.hear().await["events"], json!(["data: 0", "data: 1", "data: 2"]));

    // A session, paid by the second.
    let session = sdk.hear().await;
    let id = session["session"].as_str().unwrap().to_owned();
    let control = format!("{orchestrator}/apps/live-1/session/{id}");
    assert_eq!(session["control_url"], control.as_str());
    assert_eq!(session["app_url"], format!("{control}/app"));
    let echo = sdk.hear().await["echo"].clone();
    assert_eq!((&echo["path"], &echo["session"]), (&json!("/live/echo"), &json!(id)));
    assert_eq!(sdk.hear().await["socket"], "HELLO");
    let channels = sdk.hear().await;
    assert_eq!(channels["channels"], json!(["ONE", "TWO"]));
    assert_eq!(channels["urls"]["in"], format!("{orchestrator}/ai/trickle/{id}-in"));
    assert_eq!(sdk.hear().await["closed"], json!({ "gone": ["in"] }));
    let proxy = sdk.hear().await;
    assert!(proxy["proxy"].as_str().unwrap().starts_with(&format!("{orchestrator}/run/")));
    assert_eq!(proxy["through"]["path"], "/deep/echo");

    let first = accounts(&id).await["tickets"].as_u64().unwrap();
    until("the SDK pays again, and time was charged", || async {
        let now = accounts(&id).await;
        now["tickets"].as_u64() > Some(first) && now["debited_wei"] != "0"
    })
    .await;
    sdk.tell("enough").await;
    let stopped = sdk.hear().await;
    assert_eq!(stopped, json!({ "event": "released", "reason": "client_stopped", "same": true }));
    let stopped = sdk.hear().await;
    assert_eq!(stopped, json!({ "event": "released", "reason": "runner_stopped", "same": true }));
    assert_eq!(sdk.hear().await["left"], json!([]));

    let sessions = operator("/v1/runner-sessions").await;
    let reasons: Vec<_> =
        sessions.as_array().unwrap().iter().map(|row| row["reason"].as_str().unwrap()).collect();
    let completed = ["runner_stopped", "client_stopped", "completed", "completed", "completed"];
    assert_eq!(reasons, completed, "{sessions}");
    let charged = accounts(&id).await;
    let seconds = sessions[1]["units_charged"].as_u64().unwrap();
    // 0.072 dollars an hour are 10,000,000,000 wei a second.
    assert_eq!(wei(&charged["debited_wei"]), Rational::from(10_000_000_000_u64).times(seconds));
    // A payment that the SDK gave up half-way, as its session ended, may have been signed in vain.
    let signed = network.get(&format!("{}/v1/summary", network.admin(Role::Signer))).await;
    let summary = operator("/v1/summary").await;
    assert!(wei(&signed["ticket_ev_total_wei"]) >= wei(&summary["credited_wei"]));
    figure(
        "SDK, live runners: sessions, tickets",
        format!("{}, {}", reasons.len(), summary["tickets"]),
    );
    Books::read(&network).await;
}
