//! What operators and their tools see on the admin listener.

use crate::{
    audio::wav,
    world::{MODEL, OFFCHAIN, SOURCE, World},
};
use penstock_domain::{Capability, PriceInfo};
use penstock_testkit::{
    sim::orchestrator::{SimModel, rendition},
    until,
};
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
    let (_, address) = get(&w, "/ethAddr").await;
    assert_eq!(address.to_lowercase(), format!("{:#x}", w.signer.key.address()));
    assert_eq!(get(&w, "/IsOrchestrator").await, (200, "false".to_owned()));
    assert_eq!(json(&w, "/localStreams").await, serde_json::json!([]));
    for path in ["/bond", "/signMessage", "/ticketBrokerParams"] {
        assert_eq!(get(&w, path).await, (500, "missing ETH client\n".to_owned()), "{path}");
    }
    let (_, debug) = get(&w, "/debug").await;
    assert!(debug.starts_with("\n\nLatestPlaylist: #EXTM3U"), "{debug}");
    let (status, text) = get(&w, "/setBroadcastConfig?maxPricePerUnit=1").await;
    assert!(status == 400 && text.contains("--max-price"), "{text}");
}

/// Streams with their bytes and their other names, from whichever replica asks.
#[tokio::test]
async fn streams_as_the_go_node_lists_them() {
    let w = World::with(1).await;
    let renamed = r#"{"manifestID":"show","profiles":[{"name":"small","width":16,"height":16,"bitrate":1000,"fps":30}]}"#;
    let mut made = 0;
    for seq in 0..2 {
        let answer = w
            .http
            .put(format!("{}/live/camera-1/{seq}.ts", w.url))
            .header("livepeer-transcode-configuration", renamed)
            .body(SOURCE)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        made += rendition("small", seq, SOURCE).len();
    }
    // The count is kept up behind the answer.
    until("both are counted", || async {
        json(&w, "/status").await["StreamInfo"]["show"]["TranscodedBytes"] == made
    })
    .await;
    let status = json(&w, "/status").await;
    assert_eq!(status["StreamInfo"]["show"]["SourceBytes"], 2 * SOURCE.len());
    assert_eq!(status["InternalManifests"], serde_json::json!({ "camera-1": "show" }));
    let variants = status["Manifests"]["show"]["Variants"].as_array().unwrap();
    let named: Vec<_> = variants.iter().map(|v| (&v["URI"], &v["Resolution"])).collect();
    assert_eq!(named.len(), 2, "{variants:?}");
    assert_eq!(named[1], (&"show/small.m3u8".into(), &"16x16".into()));
}

/// Who has a model loaded, who does not, and where this replica has jobs.
#[tokio::test]
async fn warm_and_cold_pools_and_jobs_in_flight() {
    let models = format!("--default-model=audio-to-text={MODEL},upscale=m");
    let w = World::start(2, &[&models]).await;
    for (o, warm) in w.orchestrators.iter().zip([true, false]) {
        let mut model = SimModel::new(Capability::Upscale, "m").at(PriceInfo::new(7, 2).unwrap());
        model.warm = warm;
        o.ai.has(model);
        o.byoc.has("flux", PriceInfo::new(9, 1).unwrap());
    }
    w.gateway.refresh_all().await;
    let upscale = json(&w, "/getAISessionPoolsInfo").await["30_m"].clone();
    for (pool, o) in [("warm", 0), ("cold", 1)] {
        assert_eq!(upscale[pool]["size"], 1, "{upscale}");
        assert_eq!(upscale[pool]["orchestrators"][0]["url"], w.orchestrators[o].uri());
    }
    assert!(upscale["last_refresh"].as_str().unwrap().contains('T'), "{upscale}");
    let gate = Arc::new(Semaphore::new(0));
    for o in &w.orchestrators {
        *o.ai_gate.lock().unwrap() = Some(Arc::clone(&gate));
    }
    let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
    let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form).send();
    let job = tokio::spawn(request);
    let busy = async || {
        let pools = json(&w, "/getAISessionPoolsInfo").await;
        let warm = &pools[format!("31_{MODEL}")]["warm"];
        let jobs =
            warm["orchestrators"].as_array().unwrap().iter().map(|o| o["in_flight"].as_u64());
        (warm["in_use"].as_u64(), jobs.sum::<Option<u64>>())
    };
    until("the job is seen", || async { busy().await == (Some(1), Some(1)) }).await;
    gate.add_permits(1);
    assert_eq!(job.await.unwrap().unwrap().status(), 200);
    until("it is over", || async { busy().await == (Some(0), Some(0)) }).await;

    let network = json(&w, "/getNetworkCapabilities").await;
    assert_eq!(network["capabilities_names"]["31"], "Audio to text");
    let all = network["orchestrators"].as_array().unwrap();
    for (at, o) in w.orchestrators.iter().enumerate() {
        let one = all.iter().find(|one| one["orch_uri"] == o.uri()).unwrap();
        let prices = one["capabilities_prices"].as_array().unwrap();
        let of = |n: u32| prices.iter().find(|p| p["capability"] == n).unwrap();
        let own = serde_json::json!(
            {"pricePerUnit": 7, "pixelsPerUnit": 2, "capability": 30, "constraint": "m"});
        assert_eq!((of(30), &of(37)["constraint"]), (&own, &"flux".into()));
        let model = &one["capabilities"]["constraints"]["PerCapability"]["30"]["models"]["m"];
        let warm = if at == 0 { Value::Bool(true) } else { Value::Null };
        assert_eq!((&model["warm"], &model["capacity"]), (&warm, &1.into()), "{model}");
        assert_eq!(one["hardware"], serde_json::json!([]), "it tells of none");
    }
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
