//! What operators and their tools see on the admin listener.

use crate::{
    audio::wav,
    world::{MODEL, OFFCHAIN, SOURCE, World},
};
use penstock_testkit::until;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;

async fn get(w: &World, path: &str) -> (u16, String) {
    let answer = w.http.get(format!("{}{path}", w.admin)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn json(w: &World, path: &str) -> Value {
    let (status, text) = get(w, path).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn what_the_go_nodes_tools_ask() {
    let w = World::start(1, &["--max-price=1000", "--transcoding-options=P240p30fps16x9"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let uri = w.orchestrator().uri();
    let status = json(&w, "/status").await;
    assert!(status["Manifests"]["show"].is_object());
    assert_eq!(status["OrchestratorPool"][0], uri);
    assert_eq!(status["OrchestratorPoolInfos"][0]["Url"]["Scheme"], "https");
    assert_eq!(get(&w, "/manifestID").await, (200, "show".to_owned()));
    let config = json(&w, "/getBroadcastConfig").await;
    assert_eq!(config["MaxPrice"], "1000/1");
    assert_eq!(config["TranscodingOptions"], "P240p30fps16x9");
    let presets = json(&w, "/getAvailableTranscodingOptions").await;
    assert!(presets.as_array().unwrap().contains(&"P720p60fps16x9".into()));
    let pools = json(&w, "/getAISessionPoolsInfo").await;
    assert_eq!(pools[format!("31_{MODEL}")]["warm"]["size"], 1);
    let network = json(&w, "/getNetworkCapabilities").await;
    assert_eq!(network["orchestrators"][0]["orch_uri"], uri);
    assert_eq!(network["capabilities_names"]["31"], "Audio to text");
    let (_, address) = get(&w, "/ethAddr").await;
    assert_eq!(address.to_lowercase(), format!("{:#x}", w.signer.key.address()));
    assert_eq!(get(&w, "/IsOrchestrator").await, (200, "false".to_owned()));
    assert_eq!(json(&w, "/localStreams").await, serde_json::json!([]));
    assert_eq!(get(&w, "/bond").await, (500, "missing ETH client\n".to_owned()));
    let (status, text) = get(&w, "/setBroadcastConfig?maxPricePerUnit=1").await;
    assert!(status == 400 && text.contains("--max-price"), "{text}");
}

#[tokio::test]
async fn a_replica_that_stops_finishes_what_it_has() {
    let w = Arc::new(World::start(1, &["--drain-notice-ms=0", "--drain-timeout-ms=3600000"]).await);
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().ai_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let job = tokio::spawn({
        let w = Arc::clone(&w);
        async move {
            let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
            let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
            request.send().await.unwrap()
        }
    });
    until("it is at work", || async { !w.orchestrator().seen.lock().unwrap().audio.is_empty() })
        .await;
    w.stop();
    until("nobody new is let in", || async {
        w.http.get(format!("{}/healthz", w.url)).send().await.is_err()
    })
    .await;
    gate.add_permits(1);
    assert_eq!(job.await.unwrap().status(), 200);
}

#[tokio::test]
async fn off_chain_there_is_no_signer() {
    let flags = [OFFCHAIN, "--signer-url=http://127.0.0.1:1"];
    let w = World::start(1, &flags).await;
    until("it is ready", || async { w.get("/readyz").await.0 == 200 }).await;
    for seq in 0..3 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(w.signer.faults.requests(), 0);
    let seen = w.orchestrator().seen.lock().unwrap();
    assert_eq!((seen.segments.len(), seen.audio.len(), seen.payments), (3, 1, 0));
}
