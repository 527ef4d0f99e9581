//! How work is spread: no orchestrator ends up with everything, and a stream stays where it is.

use crate::{
    ai::{chat, post},
    world::{SOURCE, World},
};
use penstock_domain::Capability;
use penstock_gateway::clock;
use penstock_testkit::sim::orchestrator::{Order, SimModel};

/// What would have to happen by chance for the test to fail: never in all its runs.
const MANY: usize = 200;

async fn speech(w: &World) {
    let form = reqwest::multipart::Form::new()
        .part("audio", reqwest::multipart::Part::bytes(crate::audio::wav(20)).file_name("a.wav"));
    assert_eq!(post(w, "audio-to-text", Err(form)).await.status(), 200);
}

fn served(w: &World, at: usize) -> usize {
    w.orchestrators[at].seen.lock().unwrap().audio.len()
}

/// However well the others are known.
#[tokio::test]
async fn a_newcomer_gets_jobs() {
    let w = World::arranged(2, &[], |_, all| {
        *all[1].refuse_offers.lock().unwrap() = Some("not yet");
    })
    .await;
    for _ in 0..3 {
        speech(&w).await;
    }
    assert_eq!((served(&w, 0), served(&w, 1)), (3, 0));
    *w.orchestrators[1].refuse_offers.lock().unwrap() = None;
    w.gateway.refresh_all().await;
    for _ in 0..MANY {
        speech(&w).await;
        if served(&w, 1) > 0 {
            return;
        }
    }
    panic!("{} jobs, and none for the newcomer", served(&w, 0));
}

/// Streams begin everywhere, though one orchestrator is known to be fast; each stays where it began.
#[tokio::test]
async fn streams_are_spread_and_stay() {
    let w = World::with(2).await;
    let counts = || [w.orchestrators[0].segments(), w.orchestrators[1].segments()];
    let mut homes = Vec::new();
    while homes.len() < MANY && !(homes.contains(&0) && homes.contains(&1)) {
        let before = counts();
        w.pushed(&format!("/live/stream-{}/0.ts", homes.len()), SOURCE).await;
        homes.push(usize::from(counts()[1] > before[1]));
    }
    assert!(homes.contains(&0) && homes.contains(&1), "{homes:?}");
    for (n, home) in homes.iter().enumerate() {
        let before = counts();
        w.pushed(&format!("/live/stream-{n}/1.ts"), SOURCE).await;
        assert_eq!(counts()[*home], before[*home] + 1, "stream {n} stays");
    }
}

/// One that is too slow for a heavy stream is left by that stream, and by no other.
#[tokio::test]
async fn a_heavy_stream_moves_alone() {
    let w = World::with(2).await;
    let (store, now) = (&w.gateway.store, clock::now());
    // Both begin at the same one.
    let other = w.orchestrators[1].uri();
    store.suspend("video", &other, "a test", now.plus_ms(600_000), now).await.unwrap();
    for stream in ["heavy", "light"] {
        w.pushed(&format!("/live/{stream}/0.ts"), SOURCE).await;
    }
    store.release_suspensions("video", clock::now()).await.unwrap();
    assert_eq!((w.orchestrators[0].segments(), w.orchestrators[1].segments()), (2, 0));
    let heavy = "stream:heavy@gateway:default";
    let first = w.orchestrators[0].uri();
    store.record_score(heavy, &first, 1.5, 600_000, clock::now()).await.unwrap();
    for stream in ["heavy", "light"] {
        w.pushed(&format!("/live/{stream}/1.ts"), SOURCE).await;
    }
    assert_eq!((w.orchestrators[0].segments(), w.orchestrators[1].segments()), (3, 1));
}

/// Loading a model takes minutes: who has it loaded goes first, whatever the others cost.
#[tokio::test]
async fn warm_before_cold() {
    let w = World::with(3).await;
    let model = penstock_gateway::service::ai::Pipeline::Llm.default_model();
    for (sim, warm) in w.orchestrators.iter().zip([false, true, false]) {
        sim.ai.has(SimModel { warm, ..SimModel::new(Capability::Llm, model) });
    }
    for _ in 0..5 {
        assert_eq!(post(&w, "llm", Ok(chat(false))).await.status(), 200);
    }
    let served = || w.orchestrators.iter().map(|o| o.ai.count("llm")).collect::<Vec<_>>();
    assert_eq!(served(), [0, 5, 0]);
    // Better a cold one than none.
    w.orchestrators[1].ai.orders.then([Order::Status(500, "broken")]);
    assert_eq!(post(&w, "llm", Ok(chat(false))).await.status(), 200);
    assert_eq!(served().iter().sum::<usize>(), 7);
}
