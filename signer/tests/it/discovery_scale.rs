//! Many orchestrators at once. How long a poll takes is printed, never asserted;
//! `PENSTOCK_TEST_ORCHESTRATORS=1000` makes it a measurement (docs/discovery.md).

use crate::{
    discovery::{addresses, discover, info},
    scripted_orchestrator::ScriptedOrchestrator,
    world::World,
};
use futures::future::join_all;
use penstock_testkit::until;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many, in fours: two that answer, one that refuses, one that never answers.
fn count() -> usize {
    let wanted = std::env::var("PENSTOCK_TEST_ORCHESTRATORS").ok();
    wanted.map_or(40, |text| text.parse().expect("a number")) / 4 * 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silent_keep_nobody_waiting() {
    let all = join_all((0..count()).map(|_| ScriptedOrchestrator::start())).await;
    let never = Arc::new(Semaphore::new(0));
    for (number, orchestrator) in all.iter().enumerate() {
        match number % 4 {
            0 | 1 => orchestrator.says(info(&orchestrator.uri, &["m"], 1)),
            2 => {} // It refuses everybody.
            _ => *orchestrator.sim.gate.lock().unwrap() = Some(Arc::clone(&never)),
        }
    }
    let list = all.iter().map(|o| o.uri.as_str()).collect::<Vec<_>>().join(",");
    // Long enough for everybody that answers, on a busy machine as well.
    let flags = ["--orchestrators", &list, "--discovery-timeout-ms=10000"];
    let world = World::with(&flags).await;
    let listed = |reply: crate::world::Reply| {
        if reply.status == 200 { addresses(&reply).len() } else { 0 }
    };
    let good = count() / 2;
    until("everybody that answers is listed", || async {
        listed(discover(&world, "?caps=audio-to-text/m").await) == good
    })
    .await;
    until("the poll is over", || async {
        !world.admin("/v1/discovery").await["last_poll"].is_null()
    })
    .await;
    let report = world.admin("/v1/discovery").await;
    assert_eq!(report["excluded"], json!({"refused": good / 2, "timeout": good / 2}));
    assert_eq!(report["last_poll"]["answered"], good);
    assert_eq!(listed(discover(&world, "").await), good);
    assert!(all.iter().all(|o| o.asked() == 1), "one call each");
    eprintln!(
        "{} orchestrators, a quarter silent: {} ms",
        all.len(),
        report["last_poll"]["duration_ms"]
    );

    // The same when everybody answers: nobody's silence is waited for.
    for (number, orchestrator) in all.iter().enumerate() {
        *orchestrator.sim.gate.lock().unwrap() = None;
        orchestrator.says(info(&orchestrator.uri, &["m"], number as i64 + 1));
    }
    let world = World::with(&["--orchestrators", &list]).await;
    until("everybody is listed", || async { listed(discover(&world, "").await) == count() }).await;
    until("the poll is over", || async {
        !world.admin("/v1/discovery").await["last_poll"].is_null()
    })
    .await;
    let report = world.admin("/v1/discovery").await;
    assert_eq!(report["excluded"], json!({}));
    eprintln!("{} orchestrators, all answer: {} ms", all.len(), report["last_poll"]["duration_ms"]);
}
