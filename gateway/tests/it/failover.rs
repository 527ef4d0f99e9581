//! What the gateway does when peers fail.

use crate::world::{CONFIG, SOURCE, World, error};
use penstock_domain::{PriceInfo, StreamId};
use penstock_gateway::clock;
use penstock_store::scope_of;
use penstock_testkit::{
    sim::{
        orchestrator::{Order, rendition},
        signer,
    },
    until::DEADLINE,
    until_some,
};
use serde_json::json;

/// Every way in which one orchestrator can fail a segment that another can still do.
fn failures() -> Vec<Order> {
    vec![
        Order::Status(500, "Internal Server Error"),
        Order::Status(503, "OrchestratorCapped"),
        Order::JobError("OrchestratorBusy"),
        Order::JobError("Remote transcoder took too long"),
        Order::WrongSignature,
        Order::FewerRenditions,
        Order::EmptyRendition,
        Order::Garbage,
        Order::Pixels,
        // A result on somebody else's loopback address is not fetched.
        Order::Elsewhere("https://127.0.0.1:1".to_owned()),
    ]
}

#[tokio::test]
async fn another_orchestrator_takes_over() {
    for order in failures() {
        let w = World::with(2).await;
        for o in &w.orchestrators {
            // Whoever is asked first fails; once is enough, since the second try goes elsewhere.
            o.segment_orders.then([order.clone()]);
        }
        let first = w.push("/live/show/0.ts", SOURCE).await;
        // Both have failed once now, so the segment has failed as a whole…
        assert_eq!(error(first).await.0, 422, "{order:?}");
        let asked = w.segments();
        assert_eq!(asked, 2, "{order:?}: each was asked once");
        // …and with one of them in order it comes back.
        w.orchestrators[0].segment_orders.then([order.clone()]);
        for scope in ["video".to_owned(), scope_of("video", &w.gateway.settings.auth_id)] {
            w.gateway.store.release_suspensions(&scope, clock::now()).await.unwrap();
        }
        let got = w.pushed("/live/show/1.ts", SOURCE).await;
        assert_eq!(got[0].1, rendition("small", 1, SOURCE), "{order:?}");
    }
}

#[tokio::test]
async fn one_that_hangs_is_left() {
    // Longer than the other one takes on a busy machine.
    let w = World::start(2, &["--segment-head-timeout-ms=15000"]).await;
    for o in &w.orchestrators {
        o.segment_orders.then([Order::Hang]);
    }
    // Only the first one hangs: the order of the other is taken away by hand.
    w.orchestrators[1].segment_orders.next();
    let got = w.pushed("/live/show/0.ts", SOURCE).await;
    assert_eq!(got.len(), 2);
    assert_eq!(w.orchestrators[1].segments(), 1);
}

/// One that falls silent with a segment in work has all its time, and another one gets the segment as well.
#[tokio::test]
async fn one_that_falls_silent_does_not_hold_the_stream_up() {
    let ages = "600000";
    let w = World::start(
        2,
        &[
            &format!("--segment-timeout-ms={ages}"),
            &format!("--segment-head-timeout-ms={ages}"),
            "--segment-hedge-after-ms=1",
        ],
    )
    .await;
    // At least twice a segment's duration passes before another one gets it as well.
    let push = |number: u32, duration_ms: &'static str| {
        let request = w.http.put(format!("{}/live/show/{number}.ts", w.url)).body(SOURCE);
        request.header("content-duration", duration_ms).timeout(DEADLINE).send()
    };
    let (short, long) = ("100", "20000");
    let id = StreamId::new("show").unwrap();
    let serves = || async {
        let stream = w.gateway.store.stream(&id, clock::now()).await.unwrap().unwrap();
        stream.value.orchestrator.unwrap()
    };
    assert_eq!(push(0, long).await.unwrap().status(), 200);
    let first = serves().await;
    let silent = w.orchestrators.iter().find(|o| *o.uri() == first).unwrap();
    let before = until_some("its score is written", || async {
        let known = w.gateway.store.standings("video", clock::now()).await.unwrap();
        known.get(&first).map(|standing| standing.latency_score)
    })
    .await;
    silent.segment_orders.then([Order::Hang]);
    assert_eq!(push(1, short).await.unwrap().status(), 200);
    assert!(silent.segment_orders.next().is_none(), "it had the segment");
    assert_ne!(serves().await, first);
    // It was not said to have failed, but to be slow, and the stream stays where it is served.
    let known = until_some("what is known of both is written", || async {
        let known = w.gateway.store.standings("video", clock::now()).await.unwrap();
        (known.len() == 2).then_some(known)
    })
    .await;
    assert!(known.values().all(|standing| standing.suspended_until.is_none()), "{known:?}");
    assert!(known[&first].latency_score > before, "{known:?}");
    let second = serves().await;
    assert_eq!(push(2, long).await.unwrap().status(), 200);
    assert_eq!(serves().await, second);
}

#[tokio::test]
async fn a_failing_one_is_suspended_and_a_last_resort() {
    let w = World::with(2).await;
    for o in &w.orchestrators {
        o.segment_orders.then([Order::Status(500, "broken")]);
    }
    assert_eq!(error(w.push("/live/show/0.ts", SOURCE).await).await.0, 422);
    // Both failed the same job, which may be to blame: they are kept from this caller alone.
    let (_, text) = admin(&w, "/v1/orchestrators").await;
    assert_eq!(text.matches("broken").count(), 0, "{text}");
    let own = scope_of("video", &w.gateway.settings.auth_id);
    let kept = || async { w.gateway.store.standings(&own, clock::now()).await.unwrap() };
    assert_eq!(kept().await.len(), 2);
    // Everybody is suspended, and still somebody is asked.
    w.pushed("/live/show/1.ts", SOURCE).await;
    // A job that another one did was not to blame: now everybody knows.
    w.gateway.store.release_suspensions(&own, clock::now()).await.unwrap();
    let served = w.orchestrators.iter().position(|o| o.segments() == 2).unwrap();
    w.orchestrators[served].segment_orders.then([Order::Status(500, "broken")]);
    w.pushed("/live/show/2.ts", SOURCE).await;
    let (_, text) = admin(&w, "/v1/orchestrators").await;
    assert_eq!(text.matches(r#""suspended_because":"broken""#).count(), 1, "{text}");
}

/// Segments that fail wherever they go cost their sender time, and the others nothing.
#[tokio::test]
async fn one_callers_poison_keeps_no_orchestrator_from_the_others() {
    let w = World::start(2, &["--caller-auth=signer"]).await;
    w.signer.admit("psk_bob", "acme:bob", json!({}));
    w.signer.admit("psk_eve", "evil:eve", json!({}));
    let push = |token: &'static str, path: &'static str| {
        let request = w.http.put(format!("{}{path}", w.url)).bearer_auth(token).body(SOURCE);
        request.header("livepeer-transcode-configuration", CONFIG).send()
    };
    for order in [Order::Status(500, "?"), Order::JobError("?"), Order::Garbage, Order::Pixels] {
        for o in &w.orchestrators {
            o.segment_orders.then([order.clone()]);
        }
        assert_eq!(push("psk_eve", "/live/poison/0.ts").await.unwrap().status(), 422, "{order:?}");
        let known = w.gateway.store.standings("video", clock::now()).await.unwrap();
        assert!(known.values().all(|s| s.suspended_until.is_none()), "{order:?}: {known:?}");
    }
    assert_eq!(push("psk_bob", "/live/show/0.ts").await.unwrap().status(), 200);
    assert_eq!(w.segments(), 4 * 2 + 1, "the first who was asked did it");
}

async fn admin(w: &World, path: &str) -> (u16, String) {
    let answer = w.http.get(format!("{}{path}", w.admin)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_stream_stays_with_the_orchestrator_that_served_it() {
    let w = World::with(3).await;
    for seq in 0..6 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    let mut served: Vec<_> = w.orchestrators.iter().map(|o| o.segments()).collect();
    served.sort_unstable();
    assert_eq!(served, [0, 0, 6]);
}

#[tokio::test]
async fn what_nobody_can_transcode_is_not_tried_again() {
    let w = World::with(2).await;
    for o in &w.orchestrators {
        o.segment_orders.then([Order::JobError("No keyframes in input")]);
    }
    let (status, code, text) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (422, "unsupported_input"));
    assert!(text.contains("manifestID=show err=\"No keyframes in input\""), "{text}");
    assert_eq!(w.segments(), 1);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let w = World::with(5).await;
    for o in &w.orchestrators {
        o.segment_orders.then([Order::Status(500, "broken")]);
    }
    let (status, code, text) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (422, "attempts_exhausted"));
    assert!(text.contains("hit max transcode attempts: broken"), "{text}");
    assert_eq!(w.segments(), 3);
    // A failed segment is not stored as done.
    w.pushed("/live/show/0.ts", SOURCE).await;
}

#[tokio::test]
async fn nobody_there() {
    let w = World::with(0).await;
    let (status, code, text) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!(
        (status, code.as_str(), text.as_str()),
        (503, "no_orchestrators", "No sessions available")
    );
}

#[tokio::test]
async fn a_price_above_the_limit_is_not_paid() {
    let w = World::start(1, &["--max-price=1.4"]).await;
    let (status, code, _) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
    assert_eq!(w.signer.asked(), 0);
    let w = World::start(1, &["--max-price=3/2"]).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
}

#[tokio::test]
async fn a_price_that_rose_after_discovery_is_not_paid() {
    let w = World::start(2, &["--max-price=3/2"]).await;
    for o in &w.orchestrators {
        o.terms.lock().unwrap().price = PriceInfo::new(2, 1).unwrap();
    }
    assert_eq!(error(w.push("/live/show/0.ts", SOURCE).await).await.0, 422);
    assert_eq!((w.signer.asked(), w.segments()), (0, 0));
    // The one that comes down again is taken, although its dear offer was stored.
    w.orchestrators[1].terms.lock().unwrap().price = PriceInfo::new(3, 2).unwrap();
    w.pushed("/live/show/1.ts", SOURCE).await;
    assert_eq!((w.orchestrators[0].segments(), w.orchestrators[1].segments()), (0, 1));
}

#[tokio::test]
async fn an_expired_token_is_renewed_at_the_same_orchestrator() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    w.orchestrator().segment_orders.then([Order::Status(403, "expired auth token")]);
    w.pushed("/live/show/1.ts", SOURCE).await;
    let sessions: std::collections::HashSet<_> =
        w.orchestrator().seen.lock().unwrap().segments.iter().map(|(s, _)| s.clone()).collect();
    assert_eq!(sessions.len(), 2, "a new token is a new account");
}

#[tokio::test]
async fn a_signer_that_is_down_is_not_the_orchestrators_fault() {
    let w = World::with(2).await;
    w.signer.payment_orders.then([signer::Order::Status(503); 3]);
    let (status, code, _) = error(w.push("/live/show/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (503, "signer_unavailable"));
    assert_eq!(w.signer.asked(), 3, "repeated, because that is safe");
    let (_, text) = admin(&w, "/v1/orchestrators").await;
    assert!(!text.contains(r#""suspended_because":""#), "{text}");
    w.pushed("/live/show/0.ts", SOURCE).await;
}
