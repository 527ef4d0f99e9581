//! What is charged and not delivered, and why room is given back, as an operator's metrics tell it.

use crate::{
    live::{PATH, job, runner},
    payer::{Headers, Payer, answer, empty, post},
    scripted_worker::{AiWorker, ai_failed, ai_upload},
    speech::{ANSWER, form, wav},
    world::{AUDIO_PRICE, MODEL, World},
};
use penstock_domain::{Capabilities, Capability};
use penstock_testkit::{sim::live_runner::Order, until};
use penstock_wire::{header, net};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The number of a metric's line; nothing without one.
async fn metric(world: &World, line: &str) -> Option<u64> {
    let text = world.http.get(world.metrics()).send().await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|found| found.strip_prefix(line))?;
    Some(value.trim().parse().unwrap())
}

async fn released(world: &World, kind: &str, reason: &str) -> Option<u64> {
    let line = format!("orchestrator_released_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
    metric(world, &line).await
}

/// Jobs and wei that were charged and not delivered.
async fn undelivered(world: &World, kind: &str) -> (Option<u64>, Option<u64>) {
    let line = |name: &str| format!("orchestrator_undelivered_{name}{{kind=\"{kind}\"}}");
    (metric(world, &line("total")).await, metric(world, &line("wei_total")).await)
}

struct Gateway {
    payer: Payer,
    speech: net::OrchestratorInfo,
    video: net::OrchestratorInfo,
}

impl Gateway {
    async fn new(world: &World) -> Self {
        let payer = Payer::funded(world).await;
        let speech = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
        let speech = payer.info(world, Some(&speech)).await.unwrap();
        let video = payer.info(world, Some(&job("noop"))).await.unwrap();
        Self { payer, speech, video }
    }

    async fn headers(&self, info: &net::OrchestratorInfo, nonces: &[u32]) -> Headers {
        let payment = self.payer.payment(info, nonces).await;
        self.payer.headers(&payment, &empty(info, "m")).await
    }
}

const KINDS: [&str; 7] =
    ["transcoding", "ai", "live_video", "live_runner", "byoc_job", "byoc_stream", "byoc_training"];

#[tokio::test]
async fn what_is_charged_is_delivered_or_counted() {
    let (runner, models) = runner(1).await;
    let models_flag = format!("--models-file={}", models.path().display());
    let args = [
        "--auto-adjust-price=false",
        "--service-addr=http://127.0.0.1:0",
        "--metrics-addr=127.0.0.1:0",
        &models_flag,
    ];
    let world = World::process(100_000, &args).await;
    let mut worker = AiWorker::register(&world, 1).await;
    let gateway = Gateway::new(&world).await;
    let speak = |headers: &Headers| crate::speech::request(&world, headers, form(&wav(37), MODEL));

    // Delivered; failed and not charged; paid, not begun, and begun with that.
    let headers = gateway.headers(&gateway.speech, &(1..=40).collect::<Vec<_>>()).await;
    let running = tokio::spawn(speak(&headers).send());
    let task = worker.next().await.task_id;
    assert_eq!(answer(ai_upload(&world, task, ANSWER)).await.0, 200);
    running.await.unwrap().unwrap().text().await.unwrap();
    let headers = gateway.headers(&gateway.speech, &[41]).await;
    let running = tokio::spawn(speak(&headers).send());
    let task = worker.next().await.task_id;
    answer(ai_failed(&world, task, "no GPU")).await;
    let failed = running.await.unwrap().unwrap();
    assert_eq!(failed.status(), 500);
    assert_eq!(failed.headers()["livepeer-release-reason"], "worker_refused");
    runner.orders.then([Order::Refuse(500, "no GPU")]);
    let body = json!({ "model_id": "noop" });
    let headers = gateway.headers(&gateway.video, &[42]).await;
    let failed = post(&world, PATH, &headers).json(&body).send().await.unwrap();
    assert_eq!(failed.headers()["livepeer-release-reason"], "runner_failed");
    let headers = gateway.headers(&gateway.video, &[43]).await;
    assert_eq!(answer(post(&world, PATH, &headers).json(&body)).await.0, 200);
    for kind in KINDS {
        assert_eq!(undelivered(&world, kind).await, (Some(0), Some(0)), "{kind}");
    }
    for (kind, reason) in
        [("ai", "completed"), ("ai", "worker_refused"), ("live_video", "runner_failed")]
    {
        assert_eq!(released(&world, kind, reason).await, Some(1), "{kind} {reason}");
    }

    // Work that was accepted is finished and charged when the gateway hangs up.
    let headers = gateway.headers(&gateway.speech, &[44]).await;
    let mut leaving =
        TcpStream::connect(world.service.strip_prefix("http://").unwrap()).await.unwrap();
    let form = form(&wav(37), MODEL);
    let head = format!(
        "POST /audio-to-text HTTP/1.1\r\nHost: o\r\n{}: {}\r\n{}: {}\r\n\
         Content-Type: multipart/form-data; boundary=form\r\nContent-Length: {}\r\n\r\n",
        header::PAYMENT,
        headers.payment,
        header::SEGMENT,
        headers.segment,
        form.len()
    );
    leaving.write_all(&[head.as_bytes(), &form].concat()).await.unwrap();
    let task = worker.next().await.task_id;
    leaving.shutdown().await.unwrap();
    let mut said = Vec::new();
    let read = leaving.read_to_end(&mut said);
    timeout(penstock_testkit::until::DEADLINE, read).await.unwrap().unwrap();
    assert!(said.is_empty(), "the orchestrator has noticed");
    assert_eq!(answer(ai_upload(&world, task, ANSWER)).await.0, 200);
    let fee = u64::try_from(3000 * AUDIO_PRICE).unwrap();
    until("it is counted", || async { undelivered(&world, "ai").await == (Some(1), Some(fee)) })
        .await;
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], (2 * fee).to_string());
    for kind in KINDS.into_iter().filter(|kind| *kind != "ai") {
        assert_eq!(undelivered(&world, kind).await, (Some(0), Some(0)), "{kind}");
    }
}
