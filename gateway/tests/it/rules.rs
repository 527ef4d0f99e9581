//! Who may be used at all: the operator's rules, as they are seen from outside.

use crate::{
    ai::{chat, post},
    audio::wav,
    world::{CONFIG, MODEL, SOURCE, World, error},
};
use axum::{Json, Router, routing::get};
use penstock_domain::{Capability, PriceInfo};
use penstock_gateway::{config::Settings, service::Gateway, stack};
use penstock_store::{MemorySegments, MemoryStore};
use penstock_testkit::{
    sim::{Running, Server, SimOrchestrator, orchestrator::SimModel},
    until,
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
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

#[tokio::test]
async fn lists() {
    let w = World::arranged(3, &[], |settings, all| {
        let policy = &mut settings.selection.policy;
        policy.include = vec![all[0].uri(), all[1].uri()].into();
        // By address, and in capitals.
        policy.exclude = vec![all[1].key.address().to_string().to_uppercase()].into();
    })
    .await;
    becomes(&w, &["eligible", "excluded", "not_included"]).await;
    served_by(&w, &[0]).await;
}

#[tokio::test]
async fn versions_of_nodes() {
    let w = World::arranged(3, &["--min-node-version=0.8.0"], |_, all| {
        for (sim, version) in all.iter().zip(["0.8.10-a1b2c3", "0.7.9", ""]) {
            sim.terms.lock().unwrap().version = version;
        }
    })
    .await;
    becomes(&w, &["eligible", "version", "version"]).await;
    served_by(&w, &[0]).await;
}

#[tokio::test]
async fn versions_of_runners() {
    let least = json!([{ "pipeline": "audio-to-text", "model_id": MODEL, "minVersion": "0.2.0" }]);
    let flag = format!("--ai-min-runner-version={least}");
    let w = World::arranged(3, &[&flag], |_, all| {
        for (sim, version) in all.iter().zip(["0.2.0", "0.1.9", ""]) {
            sim.terms.lock().unwrap().runner_version = version;
        }
    })
    .await;
    for _ in 0..5 {
        let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
        assert_eq!(post(&w, "audio-to-text", Err(form)).await.status(), 200);
    }
    assert_eq!(w.orchestrators[0].seen.lock().unwrap().audio.len(), 5);
}

#[tokio::test]
async fn only_the_trusted() {
    let mut all = Vec::new();
    for _ in 0..2 {
        all.push(SimOrchestrator::start().await);
    }
    let list = json!([
        { "address": all[0].uri(), "score": 0.9 },
        { "address": all[1].uri(), "score": 1 },
    ]);
    let server = Server::clear(Router::new().route("/", get(move || async { Json(list) }))).await;
    let url = format!("--orchestrator-webhook-url={}", server.uri);
    let mut w = World::start(0, &["--trusted-only", &url]).await;
    w.orchestrators = all;
    becomes(&w, &["untrusted", "eligible"]).await;
    served_by(&w, &[1]).await;
}

/// 2 wei are 0.5 dollars for 10^14 units, at 2500 dollars an ether.
#[tokio::test]
async fn a_ceiling_in_dollars() {
    let w = World::arranged(3, &["--max-price=0.5usd/1e14", "--eth-usd=2500"], |_, all| {
        for (sim, wei) in all.iter().zip([2, 3, 200]) {
            sim.terms.lock().unwrap().price = PriceInfo::new(wei, 1).unwrap();
        }
    })
    .await;
    becomes(&w, &["eligible", "price", "price"]).await;
    served_by(&w, &[0]).await;
}

/// A token costs more than a pixel: each capability has a ceiling of its own.
#[tokio::test]
async fn ceilings_by_capability() {
    let ceilings = json!({ "capabilities_prices": [
        { "pipeline": "llm", "model_id": "default", "price_per_unit": 100 },
        { "pipeline": "llm", "model_id": "small", "price_per_unit": 10.5, "currency": "wei" },
    ]});
    let flag = format!("--max-price-per-capability={ceilings}");
    let w = World::arranged(1, &["--max-price=2", &flag], |_, all| {
        for (capability, model, wei) in [
            (Capability::Llm, "large", 100),
            (Capability::Llm, "larger", 101),
            (Capability::Llm, "small", 11),
            (Capability::ImageToText, "eyes", 3),
        ] {
            let price = PriceInfo::new(wei, 1).unwrap();
            all[0].ai.has(SimModel::new(capability, model).at(price));
        }
    })
    .await;
    for (model, status) in [("large", 200), ("larger", 503), ("small", 503)] {
        let mut chat = chat(false);
        chat["model"] = json!(model);
        assert_eq!(post(&w, "llm", Ok(chat)).await.status(), status, "{model}");
    }
    let image = Part::bytes(penstock_testkit::sim::orchestrator::picture(8, 8, "a").to_vec());
    let form = Form::new().part("image", image.file_name("a.png")).text("model_id", "eyes");
    assert_eq!(post(&w, "image-to-text", Err(form)).await.status(), 503, "the general one counts");
}

/// What the operator sets at one replica counts at all, before what the flag says; and a store that lost
/// it learns it again.
#[tokio::test]
async fn a_ceiling_set_while_it_runs() {
    let w = World::arranged(1, &["--max-price=2"], |_, all| {
        let price = PriceInfo::new(100, 1).unwrap();
        all[0].ai.has(SimModel::new(Capability::Llm, "large").at(price));
    })
    .await;
    let llm = || async {
        let mut chat = chat(false);
        chat["model"] = json!("large");
        post(&w, "llm", Ok(chat)).await.status().as_u16()
    };
    assert_eq!(llm().await, 503);
    let set = |form: &'static str| {
        let path = format!("{}/setMaxPriceForCapability", w.admin);
        w.http.post(path).header("content-type", "application/x-www-form-urlencoded").body(form)
    };
    for (form, says) in [
        ("maxPricePerUnit=1&pixelsPerUnit=1&pipeline=llm", "pipeline and modelID must be set"),
        ("maxPricePerUnit=1&pixelsPerUnit=1&pipeline=x&modelID=m", "pipeline not supported"),
        ("pipeline=llm&modelID=large", "need to be set"),
        ("maxPricePerUnit=0&pixelsPerUnit=1&pipeline=llm&modelID=m", "above 0"),
        ("maxPricePerUnit=1&pixelsPerUnit=0&pipeline=llm&modelID=m", "above 0"),
        ("maxPricePerUnit=1&pixelsPerUnit=1&pipeline=llm&modelID=m&currency=usd", "--eth-usd"),
    ] {
        let answer = set(form).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{form}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(says), "{form}: {text}");
    }
    let form = "maxPricePerUnit=200&pixelsPerUnit=2&pipeline=llm&modelID=large";
    assert_eq!(set(form).send().await.unwrap().status(), 200);
    assert_eq!(llm().await, 200);

    let caller = penstock_gateway::front::caller::Caller::of_settings(&w.gateway.settings);
    let job = penstock_domain::Capabilities::ai_job(Capability::Llm, "large", false);
    let ceiling =
        |gateway: &Gateway| gateway.policy(&caller, &job).unwrap().max_price.unwrap().to_string();
    let replica = |store| {
        let segments = Arc::new(MemorySegments::new(1 << 20));
        Gateway::new(w.gateway.settings.clone(), store, segments).unwrap()
    };
    let second = replica(w.gateway.store.clone());
    assert_eq!(ceiling(&second), "2", "not heard of yet");
    second.refresh_all().await;
    assert_eq!(ceiling(&second), "100");
    let key = penstock_store::DocKey::new("ceilings", "all");
    let now = penstock_gateway::clock::now();
    let stored = w.gateway.store.doc(&key, now).await.unwrap().unwrap();
    assert!(w.gateway.store.remove_doc(&key, stored.version, now).await.unwrap());
    second.refresh_all().await;
    let third = replica(w.gateway.store.clone());
    third.refresh_all().await;
    assert_eq!(ceiling(&third), "100");
}
