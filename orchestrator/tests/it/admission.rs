//! Where every place is taken there is no queue, so that no deadline passes in one: who comes is refused at once
//! in the documented words, whatever time it has, and pays nothing.

use crate::{
    byoc,
    payer::{Payer, answer, empty},
    scripted_worker::{AiWorker, ai_upload},
    speech::{ANSWER, form, request, wav},
    world::{MODEL, SECRET, World},
};
use penstock_domain::{Capabilities, Capability};
use penstock_testkit::until;
use std::sync::Arc;
use tokio::sync::Semaphore;

async fn tickets(world: &World) -> u64 {
    world.operator("/v1/summary").await["tickets"].as_u64().unwrap()
}

#[tokio::test]
async fn an_ai_job_without_a_place_is_refused_at_once() {
    let world = World::paid_with(100_000, &["--auto-adjust-price=false"]).await;
    let mut worker = AiWorker::register(&world, 1).await;
    let payer = Payer::funded(&world).await;
    let speech = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
    let info = payer.info(&world, Some(&speech)).await.unwrap();
    let ask = async |nonces: std::ops::Range<u32>| {
        let payment = payer.payment(&info, &nonces.collect::<Vec<_>>()).await;
        let headers = payer.headers(&payment, &empty(&info, "m")).await;
        request(&world, &headers, form(&wav(37), MODEL))
    };
    let running = tokio::spawn(ask(1..40).await.send());
    let task = worker.next().await.task_id;
    let paid = tickets(&world).await;
    // The one place is taken for as long as its job runs, which is until we say so.
    for nonce in [50, 60] {
        let refused = answer(ask(nonce..nonce + 5).await).await;
        assert_eq!(refused, (503, "insufficient capacity".to_owned()));
    }
    assert_eq!(tickets(&world).await, paid, "nothing was paid");
    assert!(!running.is_finished());
    assert_eq!(answer(ai_upload(&world, task, ANSWER)).await.0, 200);
    assert_eq!(running.await.unwrap().unwrap().status(), 200);
    // The next one has the place, and those that were refused have left nothing that comes before it.
    let running = tokio::spawn(ask(70..110).await.send());
    let task = worker.next().await.task_id;
    assert_eq!(answer(ai_upload(&world, task, ANSWER)).await.0, 200);
    assert_eq!(running.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_job_of_a_brought_capability_without_a_place_is_refused_at_once() {
    let one = ["--auto-adjust-price=false", "--max-byoc-jobs=1"];
    let world = World::paid_with(100_000, &one).await;
    let gate = Arc::new(Semaphore::new(0));
    let worker = byoc::worker(Arc::clone(&gate)).await;
    byoc::register(&world, SECRET, &byoc::flux(&worker.uri, 1)).await;
    let client = byoc::Client::funded(&world).await;
    let token = client.token("flux").await;
    let payment = client.payment(&token, &(1..=50).collect::<Vec<_>>()).await;
    let first = client.job("flux", 600).await;
    let running = tokio::spawn(client.post("wait", &first, Some(&payment)).send());
    until("the room is taken", || async {
        client.token("flux").await.get("available_capacity").is_none()
    })
    .await;
    // The room is taken before the tickets are.
    until("it is paid", || async { tickets(&world).await == 50 }).await;
    let paid = 50;
    for seconds in [1, 30, 86_400] {
        let more = client.payment(&token, &[1_000 + seconds]).await;
        let job = client.job("flux", seconds).await;
        let (status, _, text) = byoc::read(client.post("echo", &job, Some(&more))).await;
        assert_eq!(status, 503, "{text}");
        assert!(text.trim_end().ends_with("(--max-byoc-jobs)"), "{text}");
    }
    assert_eq!(tickets(&world).await, paid, "nothing was paid");
    assert!(!running.is_finished());
    gate.add_permits(1);
    assert_eq!(running.await.unwrap().unwrap().status(), 200);
    let (status, _, text) = byoc::read(client.post("echo", &first, None)).await;
    assert_eq!(status, 200, "{text}");
}
