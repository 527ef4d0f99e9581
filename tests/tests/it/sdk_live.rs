//! The official Python SDK, unmodified, runs live video: our signer pays, our orchestrator relays and
//! charges, a simulated live runner passes frames on. Payments are on.

use penstock::dev::Role;
use penstock_domain::Rational;
use penstock_testkit::{
    Sdk, figure,
    sim::{Running, SimLiveRunner},
    until,
};
use serde_json::{Value, json};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

/// A network whose orchestrator has one live runner.
struct Stage {
    network: Network,
    runner: Running<SimLiveRunner>,
    _models: tempfile::NamedTempFile,
}

/// A live runner, and the file that tells an orchestrator of it.
pub async fn runner() -> (Running<SimLiveRunner>, tempfile::NamedTempFile) {
    penstock_http_kit::tls::install_crypto_provider();
    let runner = SimLiveRunner::start(None).await;
    let models = tempfile::NamedTempFile::new().unwrap();
    let noop = json!({
        "pipeline": "live-video-to-video", "model_id": "noop", "url": runner.uri(), "capacity": 1,
    });
    std::fs::write(models.path(), json!([noop]).to_string()).unwrap();
    (runner, models)
}

/// An orchestrator that has it.
pub fn settings(models: &tempfile::NamedTempFile) -> Vec<String> {
    vec![
        format!("--models-file={}", models.path().display()),
        "--live-payment-interval-ms=200".to_owned(),
        "--live-health-interval-ms=200".to_owned(),
    ]
}

impl Stage {
    async fn start(signer_on: SignerOn) -> Self {
        let (runner, models) = runner().await;
        let network = Network::start_with(Needs::PAYMENTS, signer_on, &settings(&models)).await;
        Self { network, runner, _models: models }
    }

    async fn operator(&self, path: &str) -> Value {
        self.network.get(&format!("{}{path}", self.network.admin(Role::Orchestrator))).await
    }

    fn sdk(&self, case: &str, signer: &str) -> Sdk {
        Sdk::start("live.py", [case, signer, &self.network.url(Role::Orchestrator)])
    }
}

#[tokio::test]
async fn the_official_sdk_runs_live_video_and_pays_for_it() {
    let stage = Stage::start(SignerOn::default()).await;
    let mut sdk = stage.sdk("session", &stage.network.url(Role::Signer));
    let started = sdk.hear().await;
    let manifest = started["manifest"].as_str().unwrap().to_owned();
    let base = format!("{}/ai/trickle/{manifest}", stage.network.url(Role::Orchestrator));
    assert_eq!(started["publish"], base.as_str());
    assert_eq!(started["subscribe"], format!("{base}-out"));
    let told = stage.runner.requests.lock().unwrap()[0].clone();
    assert_eq!(told["subscribe_url"], base.as_str());
    assert_eq!(told["params"], json!({ "prompt": "a kite" }));
    assert_eq!(told["gateway_request_id"], "request");

    let frames = sdk.hear().await;
    assert_eq!(frames, json!({ "sizes": [[320, 180]], "errors": 0 }));
    let events = sdk.hear().await;
    let events = events["events"].as_array().unwrap();
    assert_eq!(events[0]["event"]["state"], "ONLINE");
    assert_eq!(events.last().unwrap()["event"]["params"], json!({ "prompt": "a fish" }));

    // Its first payment opened the account; those that follow while frames flow come to the same one.
    let account = async || {
        let accounts = stage.operator("/v1/accounts").await;
        let all = accounts.as_array().unwrap();
        assert_eq!(all.len(), 1, "{accounts}");
        assert_eq!(all[0]["session_id"], manifest.as_str());
        all[0].clone()
    };
    let first = account().await["tickets"].as_u64().unwrap();
    until("the SDK pays again, and time was charged", || async {
        let now = account().await;
        now["tickets"].as_u64() > Some(first) && now["debited_wei"] != "0"
    })
    .await;
    sdk.tell("enough").await;
    assert_eq!(sdk.hear().await, json!({ "closed": true }));

    until("the session has ended", || async {
        stage.operator("/v1/live-sessions").await == json!([])
            && stage.operator("/v1/live-runners").await[0]["in_use"] == 0
    })
    .await;
    assert_eq!(stage.runner.sessions(), 0);
    let wei = |value: &Value| value.as_str().unwrap().parse::<Rational>().unwrap();
    assert!(wei(&account().await["balance_wei"]).is_positive());
    let signer = format!("{}/v1/summary", stage.network.admin(Role::Signer));
    // The SDK's last payment may still be on its way.
    until("what the signer has signed was credited", || async {
        let signed = stage.network.get(&signer).await;
        wei(&signed["ticket_ev_total_wei"]) == wei(&account().await["credited_wei"])
    })
    .await;
    let signed = stage.network.get(&signer).await;
    figure(
        "SDK, live video: payments, tickets",
        format!("{}, {}", signed["payments"], signed["tickets"]),
    );
    Books::read(&stage.network).await;
}

#[tokio::test]
async fn the_official_sdk_s_live_video_ends_with_its_orchestrator_and_the_next_has_its_money() {
    let mut stage = Stage::start(SignerOn::default()).await;
    let mut sdk = stage.sdk("lasting", &stage.network.url(Role::Signer));
    let first = sdk.hear().await;
    assert_eq!(sdk.hear().await, json!({ "frames": true }));
    let only_account = async |stage: &Stage| {
        let accounts = stage.operator("/v1/accounts").await;
        let [account] = &accounts.as_array().unwrap()[..] else { panic!("{accounts}") };
        account.clone()
    };
    until("time was charged", || async { only_account(&stage).await["debited_wei"] != "0" }).await;
    stage.network.process(Role::Orchestrator).kill9();
    stage.network.process(Role::Orchestrator).restart().await;
    stage.network.ready(Role::Orchestrator).await;
    assert_eq!(sdk.hear().await, json!({ "ended": true }));
    sdk.kill9().await;
    until("the runner is free", || async { stage.runner.sessions() == 0 }).await;

    let mut sdk = stage.sdk("lasting", &stage.network.url(Role::Signer));
    let second = sdk.hear().await;
    assert_eq!(sdk.hear().await, json!({ "frames": true }));
    assert_eq!(second["manifest"], first["manifest"]);
    let account = only_account(&stage).await;
    assert_eq!(account["session_id"], first["manifest"]);
    let wei = |name: &str| account[name].as_str().unwrap().parse::<Rational>().unwrap();
    assert_eq!(wei("balance_wei"), &wei("credited_wei") - &wei("debited_wei"));
    Books::read(&stage.network).await;
}

#[tokio::test]
async fn the_official_sdk_gets_no_live_video_without_money() {
    let stage = Stage::start(SignerOn { unfunded: true, ..SignerOn::default() }).await;
    let refused = async |signer: &str| {
        let seen = stage.sdk("refused", signer).hear().await;
        seen["reasons"][0].as_str().unwrap_or_default().to_owned()
    };
    // An account without a deposit, and nobody at all.
    let poor = refused(&stage.network.url(Role::Signer)).await;
    assert!(poor.contains("insufficient sender reserve"), "{poor}");
    let nobody = refused("").await;
    assert!(nobody.contains("orchestrator req sig check failed"), "{nobody}");
    assert!(stage.runner.requests.lock().unwrap().is_empty());
    assert_eq!(stage.operator("/v1/accounts").await, json!([]));
}
