//! Orchestrators that show another certificate than before: those that still have their key go on, and those that
//! do not are left alone.

use crate::world::{SOURCE, World, error};
use penstock_domain::Address;
use penstock_testkit::{
    sim::{Running, SimOrchestrator, account},
    until,
};
use serde_json::Value;

/// It was started again, with a new certificate, and has been asked for its key.
async fn comes_back(w: &World, orchestrator: &Running<SimOrchestrator>) {
    orchestrator.server.die().await;
    orchestrator.server.renew_certificate().await;
    orchestrator.server.revive();
    until("it is pinged", || async {
        // A question may meet the connection that has ended.
        w.gateway.refresh_all().await;
        orchestrator.seen.lock().unwrap().pings > 0
    })
    .await;
}

async fn suspended_because(w: &World) -> Value {
    let answer = w.http.get(format!("{}/v1/orchestrators", w.admin)).send().await.unwrap();
    let known: Value = answer.json().await.unwrap();
    known["pools"][0]["orchestrators"][0]["suspended_because"].clone()
}

#[tokio::test]
async fn one_that_still_has_its_key_goes_on_with_another_certificate() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    comes_back(&w, &w.orchestrators[0]).await;
    assert_eq!(suspended_because(&w).await, Value::Null);
    w.pushed("/live/show/1.ts", SOURCE).await;
    assert_eq!(w.segments(), 2);
    // Once for each change.
    assert!(w.gateway.refresh_all().await);
    assert_eq!(w.orchestrator().seen.lock().unwrap().pings, 1);
}

/// Says the same as the one that was there, and cannot sign for it.
#[tokio::test]
async fn one_that_has_another_key_gets_no_more_segments() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    *w.orchestrator().pings_with.lock().unwrap() = Some(account());
    comes_back(&w, &w.orchestrators[0]).await;
    assert_eq!(suspended_because(&w).await, "the ping is signed by another key");
    for path in ["/live/show/1.ts", "/live/another/0.ts"] {
        let (status, code, _) = error(w.push(path, SOURCE).await).await;
        assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
    }
    assert_eq!(w.segments(), 1);
}

/// Names another address, the one that it can sign for.
#[tokio::test]
async fn a_key_that_is_named_together_with_the_certificate_proves_nothing() {
    let w = World::with(1).await;
    w.pushed("/live/show/0.ts", SOURCE).await;
    let (sim, stranger) = (w.orchestrator(), account());
    let mut offer = sim.offer(w.signer.key.address(), sim.token());
    assert_ne!(offer.address, Some(Address::ZERO));
    offer.address = Some(stranger.address());
    *sim.says.lock().unwrap() = Some((&offer).into());
    *sim.pings_with.lock().unwrap() = Some(stranger);
    comes_back(&w, &w.orchestrators[0]).await;
    assert_eq!(suspended_because(&w).await, "the ping is signed by another key");
    let (status, code, _) = error(w.push("/live/another/0.ts", SOURCE).await).await;
    assert_eq!((status, code.as_str()), (503, "no_orchestrators"));
    assert_eq!(w.segments(), 1);
}
