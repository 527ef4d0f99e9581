//! The program itself: exit codes, address file, drain.

use std::process::Stdio;
use tokio::process::{Child, Command};

fn gateway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-gateway"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn bad_settings_exit_64() {
    for args in
        [&["--session-store", "redis://x"][..], &["--no-such-flag"], &["--http-addr", "nowhere"]]
    {
        let done = gateway(args).output().await.unwrap();
        assert_eq!(done.status.code(), Some(64), "{args:?}");
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let done = gateway(&["--http-addr", &addr]).output().await.unwrap();
    assert_eq!(done.status.code(), Some(1), "an address that is taken is a failed start");
}

#[tokio::test]
async fn the_document_is_printed() {
    let done = gateway(&["openapi"]).output().await.unwrap();
    assert!(done.status.success());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), penstock_gateway::openapi::json());
}

#[tokio::test]
async fn it_announces_itself_and_drains() {
    penstock_http_kit::tls::install_crypto_provider();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("addrs.json");
    let signer = format!("http://{}", penstock_testkit::sim::nobody());
    let mut child: Child = gateway(&[
        "--http-addr=127.0.0.1:0",
        "--metrics-addr=127.0.0.1:0",
        "--log-format=json",
        "--signer-url",
        &signer,
        "--addr-file",
        file.to_str().unwrap(),
    ])
    .spawn()
    .unwrap();
    let addrs: serde_json::Value = loop {
        if let Ok(text) = std::fs::read(&file) {
            break serde_json::from_slice(&text).unwrap();
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was up");
        tokio::task::yield_now().await;
    };
    for (listener, path, status) in [
        ("http", "/healthz", 200),
        ("http", "/readyz", 503),
        ("metrics", "/metrics", 200),
        ("metrics", "/healthz", 200),
    ] {
        let url = format!("http://{}{path}", addrs[listener].as_str().unwrap());
        assert_eq!(reqwest::get(&url).await.unwrap().status(), status, "{url}");
    }
    assert!(addrs["admin"].is_string());
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let done = child.wait_with_output().await.unwrap();
    assert_eq!(done.status.code(), Some(0));
    let log = String::from_utf8(done.stderr).unwrap();
    for line in log.lines() {
        let _: serde_json::Value = serde_json::from_str(line).expect("every log line is JSON");
    }
}
