//! `/discover-orchestrators` over real gRPC and TLS.

use crate::{
    scripted_orchestrator::ScriptedOrchestrator,
    world::{Reply, World},
};
use penstock_testkit::until;
use penstock_wire::net;
use serde_json::{Value, json};

fn info(uri: &str, models: &[&str], price: i64) -> net::OrchestratorInfo {
    let models = models.iter().map(|m| ((*m).to_owned(), Default::default())).collect();
    let wanted = net::capabilities::CapabilityConstraints { models };
    net::OrchestratorInfo {
        transcoder: uri.to_owned(),
        address: vec![7; 20],
        price_info: Some(net::PriceInfo {
            price_per_unit: price,
            pixels_per_unit: 1,
            ..Default::default()
        }),
        capabilities: Some(net::Capabilities {
            bitstring: vec![1 << 31],
            constraints: Some(net::capabilities::Constraints {
                per_capability: [(31, wanted)].into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn discover(world: &World, query: &str) -> Reply {
    world.get(&format!("{}/discover-orchestrators{query}", world.http)).await
}

fn addresses(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let list = reply.json();
    list.as_array().unwrap().iter().map(|e| e["address"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn configured_orchestrators_are_asked_and_filtered() {
    let (a, b, c) = tokio::join!(
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start()
    );
    a.says(info(&a.uri, &["w/tiny", "w/big"], 5));
    b.says(info(&b.uri, &["w/tiny"], 500));
    // c refuses everybody.
    b.script.lock().unwrap().discovery = Some(
        json!([{"address": b.uri, "more": 1, "runners": [{
            "url": format!("{}/runner/1", b.uri), "app": "demo/app", "capacity": 2, "secret": 1,
            "price_info": {"price": 9.5, "currency": "wei", "unit": "seconds"},
        }]}])
        .to_string(),
    );
    let list = [a.uri.as_str(), b.uri.as_str(), c.uri.as_str()].join(",");
    let world = World::with(&["--orchestrators", &list, "--max-price-per-unit=10"]).await;
    let all = discover(&world, "").await;
    let mut found = addresses(&all);
    found.sort();
    let mut expected = vec![a.uri.clone(), b.uri.clone()];
    expected.sort();
    assert_eq!(found, expected, "b is too dear for its model and comes back through its runner");
    let entries: Vec<Value> = all.json().as_array().unwrap().clone();
    let of = |uri: &str| entries.iter().find(|e| e["address"] == uri).unwrap().clone();
    assert_eq!(
        of(&a.uri),
        json!({"address": a.uri, "score": 1.0, "capabilities": ["audio-to-text/w/big", "audio-to-text/w/tiny"]})
    );
    assert_eq!(of(&b.uri)["capabilities"], json!(["demo/app"]));
    assert_eq!(
        of(&b.uri)["runners"][0].as_object().unwrap().keys().cloned().collect::<Vec<_>>(),
        ["app", "capacity", "capacity_available", "capacity_used", "price_info", "url"]
    );
    let tiny = discover(&world, "?caps=audio-to-text/w/tiny&app=x&gpu=y&caps=").await;
    assert_eq!(addresses(&tiny), [a.uri.as_str()]);
    let both = discover(&world, "?caps=demo%2Fapp&caps=audio-to-text/w/tiny&caps=demo/app").await;
    assert_eq!(addresses(&both), [b.uri.clone(), a.uri.clone()], "in the order wanted");
    assert_eq!(discover(&world, "?caps=nobody").await.json(), json!([]));
    // It was asked as the signer, for everything, whether full or not.
    let asked = a.script.lock().unwrap().asked[0].clone();
    assert_eq!(asked.address, world.account.to_vec());
    assert_eq!(asked.sig.len(), 65);
    assert!(asked.capabilities.is_none() && asked.ignore_capacity_check);
}

#[tokio::test]
async fn nobody_is_503_and_recovers_on_the_next_request() {
    let a = ScriptedOrchestrator::start().await;
    let world = World::with(&["--orchestrators", &a.uri, "--discovery-interval-ms=86400000"]).await;
    let reply = discover(&world, "").await;
    assert_eq!((reply.status, reply.message().as_str()), (503, "Service Unavailable Error"));
    a.says(info(&a.uri, &["m"], 1));
    assert_eq!(addresses(&discover(&world, "").await), [a.uri.as_str()]);
    // A list that is there does not change before its interval.
    a.says(info(&a.uri, &["other"], 1));
    let reply = discover(&world, "").await;
    assert_eq!(reply.json()[0]["capabilities"], json!(["audio-to-text/m"]));
}

#[tokio::test]
async fn an_orchestrator_that_falls_silent_stays_listed_until_its_time_is_over() {
    let a = ScriptedOrchestrator::start().await;
    a.says(info(&a.uri, &["m"], 1));
    let flags =
        ["--orchestrators", &a.uri, "--discovery-interval-ms=20", "--discovery-ttl-ms=3600000"];
    let world = World::with(&flags).await;
    assert_eq!(addresses(&discover(&world, "").await).len(), 1);
    a.script.lock().unwrap().info = None;
    let silent_since = a.script.lock().unwrap().asked.len();
    until("several polls have failed", || {
        let polls = a.script.lock().unwrap().asked.len();
        async move { polls > silent_since + 3 }
    })
    .await;
    assert_eq!(addresses(&discover(&world, "").await).len(), 1, "last known good");
    let flags = ["--orchestrators", &a.uri, "--discovery-interval-ms=20", "--discovery-ttl-ms=1"];
    let forgetful = World::with(&flags).await;
    a.says(info(&a.uri, &["m"], 1));
    until("it is listed", || async { discover(&forgetful, "").await.status == 200 }).await;
    a.script.lock().unwrap().info = None;
    until("it is forgotten", || async { discover(&forgetful, "").await.status == 503 }).await;
}

#[tokio::test]
async fn without_a_list_the_chains_active_set_is_asked() {
    use penstock_chain::Chain;
    use penstock_keys::{LocalKey, TypedSigner};
    let a = ScriptedOrchestrator::start().await;
    a.says(info(&a.uri, &["m"], 1));
    let world = World::with(&["--discovery-interval-ms=50"]).await;
    assert_eq!(discover(&world, "").await.status, 503, "the one registered does not answer");
    let key = TypedSigner::new(std::sync::Arc::new(LocalKey::random().unwrap()));
    world.chain.clone().with_account(key).register(&format!("{}/", a.uri)).await.unwrap();
    crate::world::mine(&world.chain, None, Some(1)).await;
    until("the new orchestrator is listed", || async {
        discover(&world, "?caps=audio-to-text/m").await.status == 200
    })
    .await;
}
