//! `/discover-orchestrators` over real gRPC and TLS.

use crate::{
    scripted_orchestrator::ScriptedOrchestrator,
    world::{Reply, World},
};
use axum::{Router, http::StatusCode, routing::get};
use penstock_testkit::until;
use penstock_wire::net;
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

pub fn info(uri: &str, models: &[&str], price: i64) -> net::OrchestratorInfo {
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

/// Waits until exactly these are listed.
async fn listed(world: &World, who: &[&ScriptedOrchestrator]) {
    let mut expected: Vec<&str> = who.iter().map(|o| o.uri.as_str()).collect();
    expected.sort_unstable();
    until("they are listed", || async {
        let reply = discover(world, "").await;
        let mut found = if reply.status == 200 { addresses(&reply) } else { Vec::new() };
        found.sort_unstable();
        found == expected
    })
    .await;
}

pub async fn discover(world: &World, query: &str) -> Reply {
    world.get(&format!("{}/discover-orchestrators{query}", world.http)).await
}

pub fn addresses(reply: &Reply) -> Vec<String> {
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
    *b.sim.discovery.lock().unwrap() = Some(
        json!([{"address": b.uri, "more": 1, "runners": [{
            "url": format!("{}/runner/1", b.uri), "app": "demo/app", "capacity": 2, "secret": 1,
            "price_info": {"price": 9.5, "currency": "wei", "unit": "seconds"},
        }]}])
        .to_string(),
    );
    let list = [a.uri.as_str(), b.uri.as_str(), c.uri.as_str()].join(",");
    let world = World::with(&["--orchestrators", &list, "--max-price-per-unit=10"]).await;
    listed(&world, &[&a, &b]).await;
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
    let asked = a.sim.seen.lock().unwrap().asked[0].clone();
    assert_eq!(asked.address, world.account.to_vec());
    assert_eq!(asked.sig.len(), 65);
    assert!(asked.capabilities.is_none() && asked.ignore_capacity_check);
}

#[tokio::test]
async fn a_request_never_waits_for_a_poll() {
    let a = ScriptedOrchestrator::start().await;
    let gate = Arc::new(Semaphore::new(0));
    *a.sim.gate.lock().unwrap() = Some(gate.clone());
    a.says(info(&a.uri, &["m"], 1));
    let world = World::with(&["--orchestrators", &a.uri]).await;
    until("the first poll is under way", || async { a.asked() > 0 }).await;
    let reply = discover(&world, "").await;
    assert_eq!((reply.status, reply.message().as_str()), (503, "Service Unavailable Error"));
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(world.admin("/v1/discovery").await["excluded"], json!({"not_asked_yet": 1}));
    gate.add_permits(1000);
    listed(&world, &[&a]).await;
}

#[tokio::test]
async fn nobody_is_503_and_who_asks_again_gets_what_was_found() {
    let a = ScriptedOrchestrator::start().await;
    let world = World::with(&["--orchestrators", &a.uri, "--discovery-interval-ms=86400000"]).await;
    until("the first poll is over", || async { a.asked() > 0 }).await;
    assert_eq!(discover(&world, "").await.status, 503);
    a.says(info(&a.uri, &["m"], 1));
    // Each of these requests is answered at once, and makes a poll begin in the background.
    listed(&world, &[&a]).await;
    // A list that is there does not change before its interval, however often it is asked for.
    let polls = a.asked();
    a.says(info(&a.uri, &["other"], 1));
    for _ in 0..20 {
        let reply = discover(&world, "").await;
        assert_eq!(reply.json()[0]["capabilities"], json!(["audio-to-text/m"]));
    }
    assert_eq!(a.asked(), polls);
}

#[tokio::test]
async fn an_orchestrator_that_falls_silent_stays_listed_until_its_time_is_over() {
    let a = ScriptedOrchestrator::start().await;
    a.says(info(&a.uri, &["m"], 1));
    let flags =
        ["--orchestrators", &a.uri, "--discovery-interval-ms=20", "--discovery-ttl-ms=3600000"];
    let world = World::with(&flags).await;
    listed(&world, &[&a]).await;
    a.refuses();
    let silent_since = a.asked();
    until("several polls have failed", || {
        let polls = a.asked();
        async move { polls > silent_since + 3 }
    })
    .await;
    assert_eq!(addresses(&discover(&world, "").await).len(), 1, "last known good");
    let report = world.admin("/v1/discovery").await;
    let seen = &report["orchestrators"][0];
    assert_eq!((&seen["health"], &seen["listed"]), (&json!("failing"), &json!(true)));
    assert_eq!(seen["failure"]["reason"], "refused");
    assert!(seen["failure"]["message"].as_str().unwrap().contains("OrchestratorCapped"));
    assert!(seen["failures_in_a_row"].as_u64().unwrap() >= 3);
    assert!(seen["last_seen"].as_str() < seen["last_asked"].as_str(), "{seen}");
    let flags = ["--orchestrators", &a.uri, "--discovery-interval-ms=20", "--discovery-ttl-ms=1"];
    let forgetful = World::with(&flags).await;
    a.says(info(&a.uri, &["m"], 1));
    until("it is listed", || async { discover(&forgetful, "").await.status == 200 }).await;
    a.refuses();
    until("it is forgotten", || async { discover(&forgetful, "").await.status == 503 }).await;
    assert_eq!(forgetful.admin("/v1/discovery").await["orchestrators"][0]["health"], "silent");
}

#[tokio::test]
async fn without_a_list_the_chains_active_set_is_asked() {
    use penstock_chain::Chain;
    use penstock_keys::{LocalKey, TypedSigner};
    let a = ScriptedOrchestrator::start().await;
    a.says(info(&a.uri, &["m"], 1));
    let world = World::with(&["--discovery-interval-ms=50"]).await;
    until("the first poll is over", || async {
        !world.admin("/v1/discovery").await["last_poll"].is_null()
    })
    .await;
    assert_eq!(discover(&world, "").await.status, 503, "the one registered does not answer");
    assert_eq!(world.admin("/v1/discovery").await["excluded"], json!({"unreachable": 1}));
    let key = TypedSigner::new(std::sync::Arc::new(LocalKey::random().unwrap()));
    world.chain.clone().with_account(key).register(&format!("{}/", a.uri)).await.unwrap();
    crate::world::mine(&world.chain, None, Some(1)).await;
    until("the new orchestrator is listed", || async {
        discover(&world, "?caps=audio-to-text/m").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn the_excluded_are_counted_by_reason() {
    let (good, dear, capped, nameless, empty) = tokio::join!(
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
    );
    good.says(info(&good.uri, &["m"], 5));
    dear.says(info(&dear.uri, &["m", "n"], 50));
    nameless.says(net::OrchestratorInfo { address: vec![], ..info(&nameless.uri, &["m"], 5) });
    empty.says(info(&empty.uri, &[], 5));
    let gone = "https://127.0.0.1:1";
    let list = [&good.uri, &dear.uri, &capped.uri, &nameless.uri, &empty.uri, gone].join(",");
    let world = World::with(&["--orchestrators", &list, "--max-price-per-unit=10"]).await;
    until("the first poll is over", || async {
        !world.admin("/v1/discovery").await["last_poll"].is_null()
    })
    .await;
    listed(&world, &[&good]).await;
    let report = world.admin("/v1/discovery").await;
    let expected =
        json!({"price": 1, "refused": 1, "no_address": 1, "no_capability": 1, "unreachable": 1});
    assert_eq!(report["excluded"], expected, "{report}");
    assert_eq!((&report["source"], &report["listed"]), (&json!("list"), &json!(1)));
    assert_eq!(report["last_poll"]["answered"], 3);
    assert_eq!(report["last_poll"]["failed"], 3);
    let of = |uri: &str| {
        let list = report["orchestrators"].as_array().unwrap();
        list.iter().find(|o| o["uri"] == uri).unwrap().clone()
    };
    let dear = of(&dear.uri);
    assert_eq!(dear["excluded_because"], "price");
    let pairs: Vec<_> = ["m", "n"]
        .map(|m| json!({"capability": format!("audio-to-text/{m}"), "price_wei": "50", "limit_wei": "10"}))
        .into();
    assert_eq!(dear["too_dear"], json!(pairs));
    assert_eq!(of(&good.uri)["price_wei"], "5");
    assert_eq!(of(&good.uri)["capabilities"], json!(["audio-to-text/m"]));
    assert_eq!(of(&good.uri)["health"], "ok");
    assert_eq!(of(&good.uri)["registered_key"], "unknown");
    assert_eq!(of(gone)["health"], "silent");
}

#[tokio::test]
async fn a_list_that_is_known_is_not_sent_again() {
    let a = ScriptedOrchestrator::start().await;
    a.says(info(&a.uri, &["m"], 1));
    let world = World::with(&["--orchestrators", &a.uri, "--discovery-interval-ms=20"]).await;
    listed(&world, &[&a]).await;
    let first = discover(&world, "?caps=audio-to-text/m").await;
    assert_eq!(first.headers["cache-control"], "private, no-cache");
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    let again = || async {
        let url = format!("{}/discover-orchestrators?caps=audio-to-text/m", world.http);
        crate::world::reply(world.client.get(url).header("if-none-match", &etag)).await
    };
    let reply = again().await;
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    assert_eq!(reply.headers["etag"], etag.as_str());
    a.says(info(&a.uri, &["m", "n"], 1));
    until("the tag has changed with the list", || async { again().await.status == 200 }).await;
}

#[tokio::test]
async fn the_webhook_names_candidates_and_its_failure_takes_none_away() {
    let (a, b) = tokio::join!(ScriptedOrchestrator::start(), ScriptedOrchestrator::start());
    a.says(info(&a.uri, &["m"], 1));
    b.says(info(&b.uri, &["m"], 1));
    let both = json!([{"address": a.uri, "score": 1}, {"address": b.uri}, {"address": "rubbish"}]);
    let said = Arc::new(Mutex::new((StatusCode::OK, both.to_string())));
    let asked = Arc::new(AtomicUsize::new(0));
    let hook = {
        let (said, asked) = (said.clone(), asked.clone());
        get(move || async move {
            asked.fetch_add(1, Ordering::SeqCst);
            let (status, body) = said.lock().unwrap().clone();
            // Nobody follows this.
            (status, [("location", "http://127.0.0.1:1/")], body)
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/orchestrators", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/orchestrators", hook)).await
    });
    let world = World::with(&["--orch-webhook-url", &url, "--discovery-interval-ms=20"]).await;
    listed(&world, &[&a, &b]).await;
    assert_eq!(world.admin("/v1/discovery").await["source"], "webhook");
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        (StatusCode::FOUND, "[]".to_owned()),
        (StatusCode::OK, "not json".to_owned()),
        (StatusCode::OK, format!("[{}]", " ".repeat(5_000_000))),
    ] {
        *said.lock().unwrap() = (status, body);
        let before = asked.load(Ordering::SeqCst);
        let polls = a.asked();
        until("it has failed and they were polled all the same", || async {
            asked.load(Ordering::SeqCst) > before + 1 && a.asked() > polls + 1
        })
        .await;
        until("the failure is shown", || async {
            world.admin("/v1/discovery").await["source_error"].is_string()
        })
        .await;
        listed(&world, &[&a, &b]).await;
    }
    let only = json!([{"address": format!("{}/", b.uri)}]).to_string();
    *said.lock().unwrap() = (StatusCode::OK, only);
    listed(&world, &[&b]).await;
}

#[tokio::test]
async fn further_nodes_are_polled_one_level_deep() {
    let (base, node, other, deep) = tokio::join!(
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start(),
        ScriptedOrchestrator::start()
    );
    let nodes = |info: net::OrchestratorInfo, nodes: &[&str]| net::OrchestratorInfo {
        nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
        ..info
    };
    base.says(nodes(info(&base.uri, &["m"], 1), &[&base.uri, &node.uri, &other.uri]));
    node.says(nodes(info(&node.uri, &["m"], 1), &[&deep.uri]));
    for o in [&other, &deep] {
        o.says(info(&o.uri, &["m"], 1));
    }
    let flags = ["--orchestrators", &base.uri, "--extra-nodes=2", "--discovery-interval-ms=20"];
    let world = World::with(&flags).await;
    listed(&world, &[&base, &node]).await;
    let found = &world.admin("/v1/discovery").await["orchestrators"];
    let mut found: Vec<_> = found.as_array().unwrap().iter().map(|o| o["found"].clone()).collect();
    found.sort_by_key(Value::to_string);
    assert_eq!(found, [json!("list"), json!("node")]);
    let polls = base.asked();
    until("two more polls are over", || async { base.asked() > polls + 2 }).await;
    assert_eq!((other.asked(), deep.asked()), (0, 0), "the third named, and one level deeper");
    base.says(info(&base.uri, &["m"], 1));
    listed(&world, &[&base]).await;
}

#[tokio::test]
async fn registered_keys_are_compared_and_refused_when_told_so() {
    use penstock_chain::Chain;
    use penstock_keys::{LocalKey, TypedSigner};
    let (a, b) = tokio::join!(ScriptedOrchestrator::start(), ScriptedOrchestrator::start());
    for strict in [false, true] {
        let mut flags = vec!["--discovery-interval-ms=20"];
        flags.extend(strict.then_some("--strict-registered-keys"));
        let world = World::with(&flags).await;
        let mut keys = Vec::new();
        for o in [&a, &b] {
            let key = TypedSigner::new(Arc::new(LocalKey::random().unwrap()));
            keys.push(key.address());
            world.chain.clone().with_account(key).register(&o.uri).await.unwrap();
        }
        crate::world::mine(&world.chain, None, Some(1)).await;
        let says = |o: &ScriptedOrchestrator, address: penstock_domain::Address| {
            o.says(net::OrchestratorInfo { address: address.to_vec(), ..info(&o.uri, &["m"], 1) });
        };
        says(&a, keys[0]);
        says(&b, keys[0]);
        let expected = if strict { vec![&a] } else { vec![&a, &b] };
        until("both were asked", || async {
            let report = world.admin("/v1/discovery").await;
            let list = report["orchestrators"].as_array().unwrap();
            let of = |o: &ScriptedOrchestrator| {
                let found = list.iter().find(|seen| seen["uri"] == o.uri);
                found.map(|f| f["registered_key"].as_str().unwrap().to_owned())
            };
            of(&a).as_deref() == Some("verified") && of(&b).as_deref() == Some("mismatch")
        })
        .await;
        listed(&world, &expected).await;
        if strict {
            assert_eq!(world.admin("/v1/discovery").await["excluded"]["registered_key"], 1);
        }
        says(&b, keys[1]);
        listed(&world, &[&a, &b]).await;
    }
}

#[tokio::test]
async fn who_registers_is_asked_without_waiting_for_the_next_poll() {
    use penstock_chain::Chain;
    use penstock_keys::{LocalKey, TypedSigner};
    let (a, b) = tokio::join!(ScriptedOrchestrator::start(), ScriptedOrchestrator::start());
    let world = World::with(&["--discovery-interval-ms=3600000"]).await;
    let mut there = Vec::new();
    // Whoever asks while nobody is listed makes a poll begin. For the second one there is only the chain's change.
    for o in [&a, &b] {
        let key = TypedSigner::new(Arc::new(LocalKey::random().unwrap()));
        let address = key.address().to_vec();
        o.says(net::OrchestratorInfo { address, ..info(&o.uri, &["m"], 1) });
        world.chain.clone().with_account(key).register(&o.uri).await.unwrap();
        crate::world::mine(&world.chain, None, Some(1)).await;
        there.push(o);
        listed(&world, &there).await;
    }
    let list = world.admin("/v1/discovery").await["orchestrators"].clone();
    let verified = |seen: &&Value| seen["registered_key"] == "verified";
    assert_eq!(list.as_array().unwrap().iter().filter(verified).count(), 2, "{list}");
}
