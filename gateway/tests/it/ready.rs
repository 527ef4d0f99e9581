//! `/readyz`: 200 only when a paid job can run, and in words what is missing.

use crate::world::World;
use penstock_testkit::sim;

#[tokio::test]
async fn ready_when_a_paid_job_can_run() {
    let w = World::with(1).await;
    assert_eq!(w.get("/healthz").await.0, 200);
    assert_eq!(w.get("/readyz").await, (200, r#"{"ready":true}"#.to_owned()));
}

#[tokio::test]
async fn without_orchestrators() {
    let w = World::with(0).await;
    w.gateway.refresh_all().await;
    let (status, text) = w.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        text.contains(r#""dependency":"orchestrators""#) && !text.contains(r#""signer""#),
        "{text}"
    );
    assert!(text.contains("lists no orchestrators"), "{text}");
    assert_eq!(w.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn without_a_signer() {
    let nobody = format!("--signer-url=http://{}", sim::nobody());
    let w = World::start(0, &[&nobody]).await;
    w.gateway.refresh_all().await;
    let (status, text) = w.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains(r#""dependency":"signer""#) && text.contains("--signer-url"), "{text}");
}

#[tokio::test]
async fn an_orchestrator_that_stops_answering_stays_for_a_while() {
    let w = World::with(1).await;
    *w.orchestrator().refuse_offers.lock().unwrap() = Some("OrchestratorCapped");
    w.gateway.refresh_all().await;
    assert_eq!(w.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn configured_orchestrators_replace_the_signers_list() {
    let sim = sim::SimOrchestrator::start().await;
    let flag = format!("--orchestrators={}", sim.uri());
    let w = World::start(0, &[&flag]).await;
    w.gateway.refresh_all().await;
    assert_eq!(w.get("/readyz").await.0, 200);
    w.pushed("/live/show/0.ts", crate::world::SOURCE).await;
    assert_eq!(sim.segments(), 1);
}

#[tokio::test]
async fn not_ready_when_everybody_is_too_dear() {
    let w = World::start(1, &["--max-price=1/1000000000000000"]).await;
    let (status, text) = w.get("/readyz").await;
    assert!(status == 503 && text.contains("--max-price"), "{status} {text}");
}

#[tokio::test]
async fn not_ready_when_the_signer_is_not() {
    let w = World::with(1).await;
    *w.signer.not_ready.lock().unwrap() = Some("the reserve is empty");
    w.gateway.refresh_all().await;
    let (status, text) = w.get("/readyz").await;
    assert!(status == 503 && text.contains("the reserve is empty"), "{status} {text}");
    *w.signer.not_ready.lock().unwrap() = None;
    w.gateway.refresh_all().await;
    assert_eq!(w.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn an_unknown_model_is_asked_for_once() {
    let w = World::with(1).await;
    let capability = penstock_domain::Capability::AudioToText;
    let key = penstock_gateway::service::discovery::ai_pool(capability, "made/up");
    let job = penstock_domain::Capabilities::ai_job(capability, "made/up", false);
    let asked = || w.orchestrator().seen.lock().unwrap().offers;
    let before = asked();
    for _ in 0..3 {
        let pool = w.gateway.pool_or_discover(&key, &job).await.unwrap();
        assert!(pool.entries.is_empty());
    }
    assert_eq!(asked(), before + 1);
    assert_eq!(w.gateway.store.pool(&key, penstock_store::UnixMs(0)).await.unwrap(), None);
}
