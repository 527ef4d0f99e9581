//! Discovery in the background: rounds are the fleet's, not a replica's.

use crate::world::World;
use penstock_domain::{Capabilities, Capability};
use penstock_gateway::{
    clock,
    config::DiscoveryTimes,
    service::{
        Gateway,
        discovery::{ai_pool, menu_pool},
    },
};
use penstock_store::{OwnerId, UnixMs};
use penstock_testkit::until;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Another replica on the same stores, with the same pools to keep fresh. It does nothing by itself.
async fn replica(w: &World) -> Arc<Gateway> {
    let (store, segments) = (w.gateway.store.clone(), w.gateway.segments.clone());
    let replica = Gateway::new(w.gateway.settings.clone(), store, segments).unwrap();
    replica.refresh_all().await;
    replica.keep_defaults_warm();
    Arc::new(replica)
}

/// Questions that each orchestrator was asked.
fn asked(w: &World) -> Vec<u32> {
    w.orchestrators.iter().map(|o| o.seen.lock().unwrap().offers).collect()
}

/// Makes all pools as old as they have to be.
async fn age(w: &World) {
    let (store, now) = (&w.gateway.store, clock::now());
    for key in w.gateway.discovered.pools().into_iter().chain([menu_pool()]) {
        if let Some(mut pool) = store.pool(&key, now).await.unwrap() {
            pool.refreshed_at = UnixMs(0);
            store.put_pool(&key, &pool, 600_000, now).await.unwrap();
        }
    }
}

/// Pools of video and of one AI model, and the menu where GPUs are asked for.
#[tokio::test]
async fn a_round_is_made_once_per_fleet() {
    for (flags, pools) in [(&[][..], 2), (&["--gpu-classes=h100"], 3)] {
        let w = World::arranged(2, flags, |_, all| {
            for sim in all {
                sim.terms.lock().unwrap().gpus = vec!["H100"];
            }
        })
        .await;
        let (second, third) = (replica(&w).await, replica(&w).await);
        let all = || async {
            let (one, two, three) =
                (w.gateway.refresh_due(), second.refresh_due(), third.refresh_due());
            futures::join!(one, two, three);
        };
        let before = asked(&w);
        all().await;
        assert_eq!(asked(&w), before, "another did it less than an interval ago");
        age(&w).await;
        let each: Vec<_> = before.iter().map(|n| n + pools).collect();
        until("a round is made", || async {
            all().await;
            asked(&w) == each
        })
        .await;
        all().await;
        assert_eq!(asked(&w), each, "each orchestrator once for each pool");
    }
}

/// Whoever gives up a round leaves nothing that others would wait for.
#[tokio::test]
async fn a_round_that_is_given_up_leaves_room_for_another() {
    let w = World::with(1).await;
    *w.orchestrator().gate.lock().unwrap() = Some(Arc::new(Semaphore::new(0)));
    let pool = ai_pool(Capability::Llm, "a/model");
    let job = Capabilities::ai_job(Capability::Llm, "a/model", false);
    let (before, now) = (asked(&w), clock::now());
    tokio::select! {
        _ = w.gateway.pool_or_discover(&pool, &job) => {}
        () = until("it is asked", || async { asked(&w) > before }) => {}
    }
    // By this clock no right has lapsed.
    let other = OwnerId("other".to_owned());
    until("the right to a round is free", || async {
        w.gateway.store.begin_pool_refresh(&pool, &other, 1_000, now).await.unwrap()
    })
    .await;
}

/// A job that waits for a cold pool goes on with the first answers; the silent ones are asked again
/// without it, and count as soon as they speak.
#[tokio::test]
async fn a_round_that_did_not_wait_is_made_whole() {
    let w = World::arranged(2, &[], |settings, _| {
        settings.discovery.first_tick = DiscoveryTimes::default().first_tick;
    })
    .await;
    let capability = penstock_domain::Capability::AudioToText;
    for sim in &w.orchestrators {
        sim.terms.lock().unwrap().model = "another".to_owned();
    }
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *w.orchestrators[1].gate.lock().unwrap() = Some(Arc::clone(&gate));
    let key = penstock_gateway::service::discovery::ai_pool(capability, "another");
    let job = penstock_domain::Capabilities::ai_job(capability, "another", false);
    let pool = w.gateway.pool_or_discover(&key, &job).await.unwrap();
    assert_eq!(pool.entries.len(), 1);
    assert_eq!(pool.refreshed_at, UnixMs(0), "that was no whole round");
    gate.add_permits(100);
    until("the others are asked in the background", || async {
        let pool = w.gateway.store.pool(&key, clock::now()).await.unwrap().unwrap();
        pool.entries.len() == 2 && pool.refreshed_at > UnixMs(0)
    })
    .await;
}
