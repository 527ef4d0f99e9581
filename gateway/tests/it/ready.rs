//! `/readyz`: 200 only when a paid job can run, and in words what is missing.

use crate::world::World;

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
    let nobody = format!("--signer-url=http://{}", crate::sim::server::nobody());
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
    let (sim, server) = crate::sim::orchestrator::SimOrchestrator::start().await;
    let flag = format!("--orchestrators={}", server.uri);
    let w = World::start(0, &[&flag]).await;
    w.gateway.refresh_all().await;
    assert_eq!(w.get("/readyz").await.0, 200);
    w.pushed("/live/show/0.ts", crate::world::SOURCE).await;
    assert_eq!(sim.segments(), 1);
}
