//! `penstock status` against servers that answer `/readyz` as every role does.

use crate::network::{announce, penstock, server};
use penstock_http_kit::health::{self, NotReady};
use serde_json::Value;

async fn ready() -> String {
    server(health::router(|| Box::pin(async { Ok(()) }))).await
}

async fn waiting() -> String {
    let missing = || vec![NotReady::new("signer", "refused: see --signer-url")];
    server(health::router(move || Box::pin(async move { Err(missing()) }))).await
}

#[tokio::test]
async fn all_ready_is_well() {
    let folder = tempfile::tempdir().unwrap();
    for role in ["gateway", "signer", "orchestrator", "worker", "devnet"] {
        announce(folder.path(), role, "metrics", &ready().await);
    }
    let data_dir = folder.path().to_str().unwrap();
    let report = penstock(&["status", "--data-dir", data_dir]).await.unwrap();
    assert!(report.well);
    assert_eq!(report.text.matches("ready").count(), 5, "{}", report.text);
}

#[tokio::test]
async fn one_that_waits_or_is_down_is_not_well() {
    let folder = tempfile::tempdir().unwrap();
    announce(folder.path(), "gateway", "metrics", &waiting().await);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    announce(folder.path(), "signer", "http", &gone.to_string());
    let data_dir = folder.path().to_str().unwrap();
    let devnet = format!("devnet=http://{}/", ready().await);
    let words = ["status", "--data-dir", data_dir, "--role", &devnet];
    let report = penstock(&words).await.unwrap();
    assert!(!report.well);
    assert!(report.text.contains("signer: refused: see --signer-url"), "{}", report.text);
    assert!(report.text.contains("down"), "{}", report.text);
    let json = penstock(&[&words[..], &["--json"]].concat()).await.unwrap().text;
    let json: Value = serde_json::from_str(&json).unwrap();
    let states: Vec<&str> = (0..5).map(|i| json[i]["state"].as_str().unwrap()).collect();
    // Orchestrator and worker have announced nothing.
    assert_eq!(states, ["not_ready", "down", "down", "down", "ready"]);
}

#[tokio::test]
async fn no_network_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let error = penstock(&["status", "--data-dir", data_dir]).await.unwrap_err();
    assert_eq!(error.exit_status(), 64);
    assert!(error.to_string().contains("--role NAME=URL"), "{error}");
    let error = penstock(&["status", "--role", "x"]).await.unwrap_err();
    assert!(error.to_string().starts_with("--role: "), "{error}");
}
