//! Who may be used at all: the operator's rules, as they are seen from outside.

use crate::world::{CONFIG, SOURCE, World, error};
use penstock_gateway::{config::Settings, service::Gateway, stack};
use penstock_store::{MemorySegments, MemoryStore};
use penstock_testkit::{
    sim::{Running, Server, SimOrchestrator},
    until,
};
use serde_json::Value;
use std::sync::Arc;

/// What is thought of each, as the operator is told.
async fn verdicts(w: &World) -> Vec<String> {
    let url = format!("{}/v1/selection/explain?pipeline=video", w.admin);
    let told: Value = w.http.get(url).send().await.unwrap().json().await.unwrap();
    let who = told["rounds"][0]["who"].as_array().unwrap();
    let verdict = |uri: String| {
        let told = who.iter().find(|t| t["orchestrator"] == *uri);
        let verdict = told.and_then(|t| t["verdict"].as_str()).unwrap_or("unknown");
        verdict.replace("chosen", "eligible")
    };
    w.orchestrators.iter().map(|o| verdict(o.uri())).collect()
}

/// Has everybody asked until this is thought of them. Another round may be under way.
async fn becomes(w: &World, expected: &[&str]) {
    until("the rules apply", || async {
        w.gateway.refresh_all().await;
        verdicts(w).await == expected
    })
    .await;
}

/// Three streams are served, and by these only.
async fn served_by(w: &World, who: &[usize]) {
    for n in 0..3 {
        w.pushed(&format!("/live/rules-{n}/0.ts"), SOURCE).await;
    }
    let served = w.orchestrators.iter().enumerate().filter(|(_, o)| o.segments() > 0);
    let served: Vec<_> = served.map(|(n, _)| n).collect();
    assert!(!served.is_empty() && served.iter().all(|n| who.contains(n)), "{served:?}");
}

const H100: &str = "NVIDIA H100 80GB HBM3";
const RTX: &str = "NVIDIA GeForce RTX 4090";

fn three_kinds(_: &mut Settings, orchestrators: &[Running<SimOrchestrator>]) {
    for (sim, gpus) in orchestrators.iter().zip([vec![H100, RTX], vec![RTX], vec![]]) {
        sim.terms.lock().unwrap().gpus = gpus;
    }
}

/// What GPUs somebody has is told only to whoever names no job: the gateway asks that by itself, and
/// no page has to be opened first.
#[tokio::test]
async fn gpu_classes() {
    let w = World::arranged(3, &["--gpu-classes=H100,B200"], three_kinds).await;
    becomes(&w, &["eligible", "gpu", "gpu_unknown"]).await;
    served_by(&w, &[0]).await;
    assert_eq!(w.get("/readyz").await.0, 200);
    // A change of hardware is heard of like a change of price.
    w.orchestrators[0].terms.lock().unwrap().gpus = vec![RTX];
    becomes(&w, &["gpu", "gpu", "gpu_unknown"]).await;
    let why = "2 of 3 excluded by gpu, 1 by gpu_unknown";
    let (status, text) = w.get("/readyz").await;
    assert!(status == 503 && text.contains(why), "{text}");
    let (status, code, _) = error(w.push("/live/nobody/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
}

/// A job that comes before any round has its hardware asked for, too.
#[tokio::test]
async fn gpu_classes_before_the_first_round() {
    let w = World::arranged(3, &["--gpu-classes=H100"], three_kinds).await;
    let (store, segments) = (Arc::new(MemoryStore::default()), MemorySegments::new(1 << 20));
    let settings = w.gateway.settings.clone();
    let cold = Arc::new(Gateway::new(settings, store, Arc::new(segments)).unwrap());
    let server = Server::clear(stack::public(&cold)).await;
    let pushed = w.http.put(format!("{}/live/cold/0.ts", server.uri)).body(SOURCE);
    let answer = pushed.header("livepeer-transcode-configuration", CONFIG).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(w.orchestrators[0].segments(), 1);
}
