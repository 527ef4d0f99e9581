//! The official Python SDK, unmodified, on both sides of a live runner: it registers one, finds it, calls
//! it, reserves a session of it and pays, by our signer and through our orchestrator.

use std::process::Stdio;

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{figure, places, until, until::DEADLINE};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

struct Sdk {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Sdk {
    fn start(network: &Network) -> Self {
        let mut child = Command::new(places::sdk_python())
            .arg(places::repository().join("tests/sdk/runners.py"))
            .args([network.url(Role::Signer), network.url(Role::Orchestrator)])
            .arg(network.plan.layout.worker_secret())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// Its next line.
    async fn hear(&mut self) -> Value {
        match timeout(DEADLINE, self.said.next_line()).await.unwrap().unwrap() {
            Some(line) => serde_json::from_str(&line).unwrap(),
            None => {
                let mut complaint = String::new();
                let mut stderr = self.child.stderr.take().unwrap();
                stderr.read_to_string(&mut complaint).await.unwrap();
                panic!("the SDK ended:\n{complaint}");
            }
        }
    }

    async fn enough(&mut self) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"enough\n").await.unwrap();
        stdin.flush().await.unwrap();
    }
}

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
    let mut sdk = Sdk::start(&network);

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
    sdk.enough().await;
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
