//! Who is chosen, why, and what happens when prices, payments or replicas change meanwhile.

use crate::{
    audio::wav,
    world::{CONFIG, SOURCE, World, error},
};
use axum::{Json, Router, routing::get};
use penstock_domain::{Capabilities, Capability, PriceInfo};
use penstock_gateway::{
    clock,
    service::{
        Gateway,
        discovery::{ai_pool, video_pool},
    },
    stack,
};
use penstock_store::{Lease, OwnerId, Saved, SessionKey, scope_of};
use penstock_testkit::{
    sim::{
        Server, SimOrchestrator,
        orchestrator::{Order, rendition},
    },
    until, until_some,
};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::Semaphore;

const AUTH_ID: &str = "gateway:default";

async fn json_of(w: &World, url: String) -> (u16, Value) {
    let answer = w.http.get(url).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// What the operator is told, once it has been written down.
async fn explained(w: &World, query: &str) -> Value {
    until_some("it is explained", || async {
        let url = format!("{}/v1/selection/explain?{query}", w.admin);
        let (status, body) = json_of(w, url).await;
        assert!([200, 404].contains(&status), "{body}");
        (status == 200).then_some(body)
    })
    .await
}

/// Has the network asked until a choice would see it so. Another round may be under way, begun before
/// what the test changed.
async fn refreshed(w: &World, summary: &str) {
    until(summary, || async {
        w.gateway.refresh_all().await;
        let now = explained(w, "pipeline=video").await;
        now["rounds"][0]["summary"] == summary
    })
    .await;
}

fn price(sim: &SimOrchestrator, wei: i64) {
    sim.terms.lock().unwrap().price = PriceInfo::new(wei, 1).unwrap();
}

/// Index of the one that has served segments.
fn serving(w: &World) -> usize {
    w.orchestrators.iter().position(|o| o.segments() > 0).unwrap()
}

#[tokio::test]
async fn only_busy_payment_leases_are_a_reason_to_come_again() {
    let w = World::start(1, &["--session-lease-ms=1500", "--prepay-jobs=1"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let key = SessionKey {
        scope: format!("stream:show@{AUTH_ID}"),
        orchestrator: w.orchestrator().uri(),
    };
    let other = OwnerId("other".to_owned());
    let lease = w.gateway.store.lease_session(&key, &other, 600_000, clock::now()).await.unwrap();
    assert!(matches!(lease, Lease::Granted { .. }));
    // Credit that is there is used; then more has to be bought, and another job is at that.
    let mut seq = 1;
    let refused = loop {
        let answer = w.push(&format!("/live/show/{seq}.ts"), SOURCE).await;
        if answer.status() != 200 {
            break answer;
        }
        seq += 1;
    };
    assert!(refused.headers().contains_key("retry-after"));
    let (status, code, _) = error(refused).await;
    assert_eq!((status, code.as_str()), (503, "busy"));
    let (_, known) = json_of(&w, format!("{}/v1/orchestrators", w.admin)).await;
    let member = &known["pools"][0]["orchestrators"][0];
    assert_eq!(
        member["suspended_because"],
        Value::Null,
        "it is not the orchestrator's fault: {known}"
    );
}

/// A holder that was paused past its lease finds the door closed: what its successor wrote stays.
#[tokio::test]
async fn a_holder_paused_past_its_lease_writes_nothing() {
    let w = Arc::new(World::with(1).await);
    w.pushed("/live/other/0.ts", SOURCE).await;
    let of = |stream: &str| SessionKey {
        scope: format!("stream:{stream}@{AUTH_ID}"),
        orchestrator: w.orchestrator().uri(),
    };
    // The successor's record, told apart by its account.
    let successor = w.gateway.store.session(&of("other"), clock::now()).await.unwrap().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().gate.lock().unwrap() = Some(Arc::clone(&gate));
    let before = w.orchestrator().seen.lock().unwrap().offers;
    let paused = tokio::spawn({
        let w = Arc::clone(&w);
        async move { w.push("/live/show/0.ts", SOURCE).await }
    });
    until("it asks for an offer", || async {
        w.orchestrator().seen.lock().unwrap().offers != before
    })
    .await;
    // It holds the lease and waits for an offer. An hour passes, as far as the store can tell.
    let (store, later) = (&w.gateway.store, clock::now().plus_ms(3_600_000));
    let owner = OwnerId("successor".to_owned());
    let lease = store.lease_session(&of("show"), &owner, 3_600_000, later).await.unwrap();
    let Lease::Granted { fence, .. } = lease else { panic!("{lease:?}") };
    let saved = store.save_session(&of("show"), fence, &successor, 7_200_000, later).await.unwrap();
    assert_eq!(saved, Saved::Yes);
    gate.add_permits(100);
    let (status, code, _) = error(paused.await.unwrap()).await;
    assert_eq!((status, code.as_str()), (503, "busy"));
    let now = store.session(&of("show"), clock::now()).await.unwrap();
    assert_eq!(now, Some(successor), "what the successor wrote is what is there");
    assert_eq!(w.segments(), 1, "and nothing was sent or bought meanwhile");
}

#[tokio::test]
async fn a_price_that_rises_above_the_ceiling_switches_the_stream_without_a_gap() {
    let w = World::start(2, &["--max-price=2", "--prepay-jobs=2"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let first = serving(&w);
    price(&w.orchestrators[first], 3);
    let mut paid = None;
    for seq in 1..12 {
        let got = w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
        assert_eq!(got[0].1, rendition("small", seq, SOURCE));
        // The offer that was still good may have been paid once more; its answer told the price.
        paid.get_or_insert(w.orchestrators[first].totals().credited);
    }
    assert_eq!(Some(w.orchestrators[first].totals().credited), paid, "nothing was bought above it");
    let served: Vec<_> = w.orchestrators.iter().map(|o| o.segments()).collect();
    assert!(served[first] <= 2 && served[1 - first] >= 10, "{served:?}");
    // All six of the window, each once, and nothing between them.
    for name in ["source", "small", "wide"] {
        let (_, media) = w.get(&format!("/stream/show/{name}.m3u8")).await;
        assert_eq!(shown(&media), (6..12).collect::<Vec<u64>>(), "{media}");
        assert!(media.contains("#EXT-X-MEDIA-SEQUENCE:6\n"), "{media}");
        assert!(!media.contains("DISCONTINUITY") && !media.contains("GAP"), "{media}");
    }
}

/// The segments of a media playlist, in its order.
fn shown(media: &str) -> Vec<u64> {
    let number = |uri: &str| uri.rsplit('/').next()?.split('.').next()?.parse().ok();
    media.lines().filter(|line| !line.starts_with('#')).map(|uri| number(uri).unwrap()).collect()
}

#[tokio::test]
async fn a_session_goes_on_within_the_buffer_and_no_new_one_begins_there() {
    let w = World::start(2, &["--max-price=2", "--max-price-buffer-percent=50"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let first = serving(&w);
    price(&w.orchestrators[first], 3);
    for seq in 1..4 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    assert_eq!(w.orchestrators[first].segments(), 4);
    refreshed(&w, "1 of 2 excluded by price").await;
    w.pushed("/live/another/0.ts", SOURCE).await;
    assert_eq!((w.orchestrators[first].segments(), w.orchestrators[1 - first].segments()), (4, 1));
}

/// Two replicas on one store, as a load balancer would use them.
#[tokio::test]
async fn replicas_that_take_turns_use_one_session_and_discover_nothing_again() {
    let w = World::with(3).await;
    let (store, segments) = (w.gateway.store.clone(), w.gateway.segments.clone());
    let replica = Arc::new(Gateway::new(w.gateway.settings.clone(), store, segments).unwrap());
    let second = Server::clear(stack::public(&replica)).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    for seq in 1..13 {
        let base = if seq % 2 == 0 { &w.url } else { &second.uri };
        let answer = w
            .http
            .put(format!("{base}/live/show/{seq}.ts"))
            .header("livepeer-transcode-configuration", CONFIG)
            .body(SOURCE)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    assert!(replica.discovered.pools().is_empty(), "it asked nobody: the store knew");
    let seen = w.orchestrators[serving(&w)].seen.lock().unwrap().segments.clone();
    assert_eq!(seen.len(), 13);
    // An offer asked for again would have been another session.
    let sessions: HashSet<_> = seen.into_iter().map(|(session, _)| session).collect();
    assert_eq!(sessions.len(), 1);
}

#[tokio::test]
async fn a_choice_can_be_explained_at_any_replica() {
    let w = World::start(3, &["--max-price=2"]).await;
    price(&w.orchestrators[0], 5);
    refreshed(&w, "1 of 3 excluded by price").await;
    let dear = w.orchestrators[0].uri();
    let now = explained(&w, "pipeline=video").await;
    assert_eq!(now["rounds"][0]["summary"], "1 of 3 excluded by price");
    let who = now["rounds"][0]["who"].as_array().unwrap();
    let told = who.iter().find(|t| t["orchestrator"] == *dear).unwrap();
    assert_eq!(
        (told["verdict"].as_str(), told["price_wei_per_unit"].as_str()),
        (Some("price"), Some("5"))
    );
    assert_eq!(told["why"], "price 5 wei per unit is above the limit 2");

    // A job that failed once: each try with its cause.
    for o in &w.orchestrators[1..] {
        o.segment_orders.then([Order::Status(500, "broken")]);
    }
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let pushed = w
        .http
        .put(format!("{}/live/show/0.ts", w.url))
        .header("livepeer-transcode-configuration", CONFIG)
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .body(SOURCE);
    assert_eq!(pushed.send().await.unwrap().status(), 422);
    let job = explained(&w, &format!("job={trace}")).await;
    let rounds = job["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3, "two tries, and nobody left: {job}");
    assert_eq!(
        (rounds[0]["failed"].as_str(), rounds[0]["error"].as_str()),
        (Some("failed"), Some("broken"))
    );
    assert_eq!(rounds[1]["excluded"], json!({ "price": 1, "tried": 1 }));
    assert_eq!(rounds[2]["chosen"], Value::Null);
    assert_eq!(explained(&w, "stream=show").await, job);

    // The caller is told the same in counts, and no names.
    let (status, text) = w.get(&format!("/v1/selection/explain?job={trace}")).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("1 of 3 excluded by price, 1 by tried"), "{text}");
    assert!(!text.contains("127.0.0.1") && !text.contains("wei"), "{text}");
    // Another replica knows the same, from the store.
    let (store, segments) = (w.gateway.store.clone(), w.gateway.segments.clone());
    let second = Arc::new(Gateway::new(w.gateway.settings.clone(), store, segments).unwrap());
    let second = Server::clear(stack::public(&second)).await;
    let url = format!("{}/v1/selection/explain?job={trace}", second.uri);
    assert_eq!(json_of(&w, url).await.1, serde_json::from_str::<Value>(&text).unwrap());
    for (query, status) in [
        ("", 400),
        ("?job=x", 404),
        ("?job=a%20b", 400),
        ("?job=a&stream=b", 400),
        ("?job=00000000000000000000000000000001", 404),
        ("?stream=unknown", 404),
        ("?pipeline=unknown", 404),
    ] {
        assert_eq!(w.get(&format!("/v1/selection/explain{query}")).await.0, status, "{query}");
    }
}

/// Anybody may ask about models that nobody has heard of, as many as they like.
#[tokio::test]
async fn a_question_is_not_passed_on_to_the_network() {
    let w = World::with(2).await;
    let offers = || w.orchestrators.iter().map(|o| o.seen.lock().unwrap().offers).sum::<u32>();
    let before = offers();
    for n in 0..3 {
        let (status, text) =
            w.get(&format!("/v1/selection/explain?pipeline=llm&model=made-up-{n}")).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("no orchestrator is known for it"), "{text}");
        let pool = ai_pool(Capability::Llm, &format!("made-up-{n}"));
        let owner = OwnerId("somebody".to_owned());
        let store = &w.gateway.store;
        assert!(store.begin_pool_refresh(&pool, &owner, 1_000, clock::now()).await.unwrap());
    }
    assert_eq!(offers(), before);
    // What is known is told.
    assert!(w.get("/v1/selection/explain?pipeline=video").await.1.contains(r#""chosen":true"#));
}

/// Of AI jobs that went well, and that nobody records, the store hears nothing.
#[tokio::test]
async fn only_what_may_be_asked_for_is_written_down() {
    let w = World::with(1).await;
    let mut traces = Vec::new();
    for flags in ["00", "01"] {
        let trace = format!("0af7651916cd43dd8448eb211c8031{flags}");
        let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
        let request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
        let request = request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-{flags}"));
        assert_eq!(request.send().await.unwrap().status(), 200);
        traces.push(trace);
    }
    let [unmarked, sampled] = &traces[..] else { panic!("{traces:?}") };
    explained(&w, &format!("job={sampled}")).await;
    // This replica knows both, and others what was written down.
    let stores = (w.gateway.store.clone(), w.gateway.segments.clone());
    let other = Gateway::new(w.gateway.settings.clone(), stores.0, stores.1).unwrap();
    let other = Server::clear(stack::public(&Arc::new(other))).await;
    for (job, there) in [(sampled, 200), (unmarked, 404)] {
        let query = format!("/v1/selection/explain?job={job}");
        let (status, text) = w.get(&query).await;
        assert_eq!(status, 200, "{text}");
        assert_eq!(json_of(&w, format!("{}{query}", other.uri)).await.0, there);
    }
    let (_, newest) = json_of(&w, format!("{}/v1/selection/newest", w.admin)).await;
    let about: Vec<_> = newest.as_array().unwrap().iter().map(|e| e["about"].as_str()).collect();
    assert_eq!(about, [Some(sampled.as_str()), Some(unmarked)], "here both are known");
}

/// Whoever has an answer can ask how it came about, by what the answer says of itself.
#[tokio::test]
async fn an_answer_says_what_to_ask_about() {
    let w = World::with(1).await;
    for (name, header) in
        [("mine", "x-trace-id"), ("mine too", "x-request-id"), ("", "x-request-id")]
    {
        let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
        let mut request = w.http.post(format!("{}/audio-to-text", w.url)).multipart(form);
        if !name.is_empty() {
            request = request.header("x-request-id", name.replace(' ', "/"));
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let id = answer.headers()[header].to_str().unwrap();
        let (status, text) = w.get(&format!("/v1/selection/explain?job={id}")).await;
        assert!(status == 200 && text.contains(r#""chosen":true"#), "{id}: {text}");
    }
    let (status, _) = w.get("/v1/selection/explain?job=yours").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_success_closes_the_circuit_that_a_failure_opened() {
    let w = World::with(2).await;
    let bad = &w.orchestrators[1];
    let fail = || Order::Status(500, "broken");
    let breaker = || async {
        let (_, all) = w.gateway.breakers(&video_pool(), clock::now()).await.unwrap();
        all.get(&bad.uri()).copied()
    };
    // Who is asked first is drawn: until it was the bad one.
    for stream in 0.. {
        assert!(stream < 100, "100 streams, and one orchestrator had all of them");
        bad.segment_orders.then([fail()]);
        w.pushed(&format!("/live/show{stream}/0.ts"), SOURCE).await;
        if bad.segments() > 0 {
            break;
        }
        bad.segment_orders.next();
    }
    assert_eq!(breaker().await.unwrap().failures, 1);
    // As its suspension ends: one job finds out.
    let now = clock::now();
    for scope in ["video".to_owned(), scope_of("video", &w.gateway.settings.auth_id)] {
        w.gateway.store.release_suspensions(&scope, now).await.unwrap();
    }
    for stream in 0.. {
        assert!(stream < 100, "100 streams, and none found out");
        w.pushed(&format!("/live/another{stream}/0.ts"), SOURCE).await;
        if breaker().await.is_none() {
            break;
        }
    }
}

#[tokio::test]
async fn the_operators_list_comes_from_a_url_and_says_where_orchestrators_are() {
    let (here, there) = (SimOrchestrator::start().await, SimOrchestrator::start().await);
    let list = json!([
        { "address": here.uri(), "score": 1, "region": "EU" },
        { "address": there.uri(), "score": 1, "region": "us" },
        { "address": "not a url" },
    ]);
    let server =
        Server::clear(Router::new().route("/list", get(move || async { Json(list) }))).await;
    let url = format!("--orchestrator-webhook-url={}/list", server.uri);
    let w = World::start(0, &[&url, "--regions=eu"]).await;
    refreshed(&w, "1 of 2 excluded by region").await;
    for seq in 0..3 {
        w.pushed(&format!("/live/show-{seq}/0.ts"), SOURCE).await;
    }
    assert_eq!((here.segments(), there.segments()), (3, 0));
}

#[tokio::test]
async fn tiers_have_policies_and_dollars_have_a_price() {
    let folder = tempfile::tempdir().unwrap();
    let tiers = folder.path().join("tiers.json");
    let policies = json!({ "gold": { "max_price": "0.5usd/1e9", "regions": ["EU"] } });
    std::fs::write(&tiers, policies.to_string()).unwrap();
    let tiers = format!("--tier-policies={}", tiers.display());
    let w = World::start(1, &[&tiers, "--eth-usd=2500", "--max-price=1"]).await;
    let mut caller = penstock_gateway::front::caller::Caller::of_settings(&w.gateway.settings);
    let ceiling = |caller: &_| {
        w.gateway.policy(caller, &Capabilities::default()).unwrap().max_price.unwrap().to_string()
    };
    assert_eq!(ceiling(&caller), "1");
    caller.tier = Some("gold".to_owned());
    // Half a dollar for a thousand million units, at 2500 dollars an ether.
    assert_eq!(ceiling(&caller), "200000");
    assert_eq!(w.gateway.policy(&caller, &Capabilities::default()).unwrap().regions, ["eu"]);
    caller.max_price = Some(penstock_domain::Rational::from_int(7));
    assert_eq!(ceiling(&caller), "7", "the account's own is lower");
}
