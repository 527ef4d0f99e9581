//! Video and AI jobs keep out of each other's way. What is held is held by gates at the orchestrator,
//! not by time.

use crate::{
    audio::wav,
    world::{SOURCE, World, error},
};
use penstock_testkit::until;
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinSet};

/// Two places for each kind of job and two in line.
const NARROW: [&str; 7] = [
    "--ai-max-in-flight=2",
    "--ai-queue=2",
    "--ai-queue-wait-ms=3600000",
    "--video-max-in-flight=2",
    "--video-queue=2",
    "--video-queue-wait-ms=3600000",
    "--segment-timeout-ms=600000",
];

fn ai_jobs(w: &World) -> usize {
    w.orchestrator().seen.lock().unwrap().audio.len()
}

async fn transcribe(w: &World) -> Response {
    let form = Form::new().part("audio", Part::bytes(wav(20)).file_name("a.wav"));
    w.http.post(format!("{}/audio-to-text", w.url)).multipart(form).send().await.unwrap()
}

#[tokio::test]
async fn a_flood_of_ai_jobs_leaves_video_alone() {
    let w = Arc::new(World::start(1, &NARROW).await);
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().ai_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let mut flood = JoinSet::new();
    // Three times what there is room for.
    for _ in 0..12 {
        let w = Arc::clone(&w);
        flood.spawn(async move { transcribe(&w).await });
    }
    // Eight are turned away at once, while the first two are at work and two are in line.
    for _ in 0..8 {
        let answer = flood.join_next().await.unwrap().unwrap();
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(error(answer).await, (503, "busy".into(), "Service Unavailable Error".into()));
    }
    until("two AI jobs are at work", || async { ai_jobs(&w) == 2 }).await;
    for seq in 0..6 {
        w.pushed(&format!("/live/show/{seq}.ts"), SOURCE).await;
    }
    assert_eq!(ai_jobs(&w), 2, "they never moved");
    gate.add_permits(4);
    for answer in flood.join_all().await {
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_flood_of_video_leaves_ai_jobs_alone() {
    let w = Arc::new(World::start(1, &NARROW).await);
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().segment_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let mut flood = JoinSet::new();
    for stream in 0..12 {
        let w = Arc::clone(&w);
        flood.spawn(async move { w.push(&format!("/live/show-{stream}/0.ts"), SOURCE).await });
    }
    for _ in 0..8 {
        let answer = flood.join_next().await.unwrap().unwrap();
        assert_eq!(error(answer).await.1, "busy");
    }
    until("two segments are at work", || async { w.segments() == 2 }).await;
    let answer = transcribe(&w).await;
    assert_eq!(answer.status(), 200);
    gate.add_permits(4);
    for answer in flood.join_all().await {
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn one_caller_has_its_share() {
    let w = Arc::new(World::start(1, &["--caller-max-in-flight=1"]).await);
    let gate = Arc::new(Semaphore::new(0));
    *w.orchestrator().ai_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let first = tokio::spawn({
        let w = Arc::clone(&w);
        async move { transcribe(&w).await }
    });
    until("it is at work", || async { ai_jobs(&w) == 1 }).await;
    let answer = transcribe(&w).await;
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(error(answer).await.0, 429);
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(transcribe(&w).await.status(), 200);
}

#[tokio::test]
async fn the_answer_says_where_its_time_went() {
    let w = World::with(1).await;
    let answer = transcribe(&w).await;
    let timing = answer.headers()["server-timing"].to_str().unwrap().to_owned();
    let phases: Vec<_> =
        timing.split(", ").map(|part| part.split_once(";dur=").unwrap().0).collect();
    assert_eq!(phases, ["selection", "payment", "orchestrator", "total"], "{timing}");
    let answer = w.push("/live/show/0.ts", SOURCE).await;
    assert!(answer.headers()["server-timing"].to_str().unwrap().contains("orchestrator;dur="));
}
