//! The program: subcommands, exit statuses, what it refuses to start with.

use crate::world::{PASSWORD, devnet, keystore_in};
use penstock_domain::Address;
use penstock_testkit::{Process, Spec, until::DEADLINE};
use std::{
    path::Path,
    process::{Command, Output},
};

fn run(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock-signer"))
        .args(words)
        .args(["--data-dir", &folder.display().to_string()])
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn bad_settings_exit_64_and_name_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let chain = "--chain=devnet:http://127.0.0.1:1";
    for (words, setting) in [
        (&["--http-addr=0.0.0.0:0", chain][..], "--auth-token-file"),
        (&["--admin-addr=0.0.0.0:0", chain], "--admin-token-file"),
        (&[], "--chain"),
        (&["--chain=https://x"], "--chain"),
        (&[chain, "--key=vault:x"], "--key"),
        (&[chain], "--key-password-file"),
        (&[chain, "--max-ticket-ev=many"], "--max-ticket-ev"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let output = run(folder.path(), words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 64, "{words:?}: {text}");
        assert!(text.contains(setting), "{words:?}: {text}");
    }
}

#[test]
fn a_failed_start_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    keystore_in(folder.path());
    let chain = "--chain=devnet:http://127.0.0.1:1";
    std::fs::write(folder.path().join("keystore-password"), "wrong").unwrap();
    let output = run(folder.path(), &[chain]);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrong password"));
    std::fs::write(folder.path().join("keystore-password"), PASSWORD).unwrap();
    let output = run(folder.path(), &[chain, "--ledger=postgres://x"]);
    assert_eq!(code(&output), 1);
    std::fs::write(folder.path().join("state-keys"), "rubbish").unwrap();
    let output = run(folder.path(), &[chain, "--http-addr=127.0.0.1:0"]);
    assert_eq!(code(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("state keys"));
}

#[test]
fn keys_migrate_and_document() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keystore-password"), PASSWORD).unwrap();
    let created = run(folder.path(), &["keys", "create", "--scrypt-log-n=4"]);
    assert_eq!(code(&created), 0, "{created:?}");
    let address = String::from_utf8(created.stdout).unwrap();
    assert!(address.trim().parse::<Address>().is_ok());
    let shown = run(folder.path(), &["keys", "show"]);
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), address);
    assert_eq!(
        code(&run(folder.path(), &["keys", "create", "--scrypt-log-n=4"])),
        1,
        "never twice"
    );
    assert_eq!(code(&run(folder.path(), &["migrate"])), 0);
    assert_eq!(code(&run(folder.path(), &["migrate"])), 0);
    assert_eq!(code(&run(folder.path(), &["fence", "--force"])), 0);
    assert!(folder.path().join("signer.db").exists());
    let document = run(folder.path(), &["openapi", "--admin"]);
    assert_eq!(
        String::from_utf8(document.stdout).unwrap(),
        include_str!("../../../openapi/signer-admin.json")
    );
    let document = run(folder.path(), &["openapi"]);
    assert_eq!(
        String::from_utf8(document.stdout).unwrap(),
        include_str!("../../../openapi/signer.json")
    );
}

#[tokio::test]
async fn it_announces_serves_and_drains() {
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let net = devnet(key.address()).await;
    let spec = spec(folder.path(), &net.chain_url);
    let mut signer = Process::start(spec, folder.path()).await;
    let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    let metrics = format!("http://{}", signer.addr("metrics"));
    penstock_testkit::until("it is ready", || async {
        let ready = client.get(format!("{metrics}/readyz")).send().await;
        ready.is_ok_and(|r| r.status() == 200)
    })
    .await;
    let url = format!("http://{}/sign-orchestrator-info", signer.addr("http"));
    let info: serde_json::Value = client.post(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(info["address"], key.address().to_string());
    let url = format!("http://{}/generate-live-payment", signer.addr("http"));
    assert_eq!(client.post(url).body("{}").send().await.unwrap().status(), 400);
    let text = client.get(format!("{metrics}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("signer_http_requests_total{path=\"/sign-orchestrator-info\""), "{text}");
    assert!(text.contains("signer_payments_refused_total{status=\"400\"} 1"), "{text}");
    let admin = format!("http://{}/v1/summary", signer.addr("admin"));
    assert_eq!(client.get(admin).send().await.unwrap().status(), 200);
    assert_eq!(signer.terminate().await.code(), Some(0));
}

/// The signer as a process, on port 0.
pub fn spec(folder: &Path, chain: &str) -> Spec {
    Spec {
        name: "signer".into(),
        program: env!("CARGO_BIN_EXE_penstock-signer").into(),
        args: [
            "serve",
            "--http-addr=127.0.0.1:0",
            "--metrics-addr=127.0.0.1:0",
            "--addr-file={addr_file}",
            "--chain-poll-ms=100",
            &format!("--chain={chain}"),
            &format!("--data-dir={}", folder.display()),
        ]
        .map(str::to_owned)
        .into(),
        env: Default::default(),
    }
}
