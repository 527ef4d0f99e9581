//! The documents against the service: schemathesis makes requests from `openapi/*.json`, good and
//! bad ones, and holds the real program to what the documents promise. No 5xx, no answer outside
//! its schema.

use crate::{
    scripted_orchestrator::ScriptedOrchestrator,
    startup::spec,
    world::{devnet, keystore_in},
};
use penstock_testkit::{Process, schemathesis::Run, until, until::DEADLINE};
use serde_json::{Value, json};
use std::path::Path;

/// Something to be found under the names that paths hold: else nearly all of them lead nowhere.
async fn known_names(admin: &str, folder: &Path) {
    let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
    let done = client.post(format!("{admin}/v1/accounts")).json(&json!({"name": "known"})).send();
    assert_eq!(done.await.unwrap().status(), 201);
    let key = client.post(format!("{admin}/v1/accounts/known/keys")).json(&json!({})).send();
    let key: Value = key.await.unwrap().json().await.unwrap();
    let id = key["id"].as_str().expect("the new key's id");
    let config = format!("[parameters]\n\"path.name\" = \"known\"\n\"path.id\" = \"{id}\"\n");
    std::fs::write(folder.join("schemathesis.toml"), config).unwrap();
}

#[tokio::test]
async fn the_documents_hold() {
    let folder = tempfile::tempdir().unwrap();
    let key = keystore_in(folder.path());
    let net = devnet(key.address()).await;
    let orchestrator = ScriptedOrchestrator::start().await;
    orchestrator.says(crate::discovery::info(&orchestrator.uri, &["m"], 1));
    let mut spec = spec(folder.path(), &net.chain_url);
    spec.args.push(format!("--orchestrators={}", orchestrator.uri));
    let mut signer = Process::start(spec, folder.path()).await;
    let url = format!("http://{}", signer.addr("http"));
    until("an orchestrator is listed", || async {
        let answer = reqwest::get(format!("{url}/discover-orchestrators")).await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let admin = format!("http://{}", signer.addr("admin"));
    known_names(&admin, folder.path()).await;
    let run = Run {
        document: "signer.json",
        url: &url,
        folder: folder.path(),
        examples: 25,
        without_tag: None,
    };
    run.holds().await;
    Run { document: "signer-admin.json", url: &admin, ..run }.holds().await;
    assert!(signer.runs());
    assert_eq!(signer.terminate().await.code(), Some(0));
}
