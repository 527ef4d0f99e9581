//! What is charged and not delivered, and why room is given back, as an operator's metrics tell it.

use crate::{
    byoc,
    live::{PATH, Stage, job, runner, text},
    payer::{Headers, Payer, answer, empty, post},
    runner_sessions::{self, price, registered},
    runners::{ON, read},
    scripted_worker::{AiWorker, ai_failed, ai_upload},
    speech::{ANSWER, form, wav},
    world::{AUDIO_PRICE, MODEL, SECRET, World},
};
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_testkit::{sim::live_runner::Order, until};
use penstock_wire::{header, net};
use serde_json::json;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
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

/// Sends a request, and hangs up once it has `begun`; the orchestrator has noticed.
async fn leaves<T>(world: &World, request: &[u8], begun: impl Future<Output = T>) -> T {
    let address = world.service.strip_prefix("http://").unwrap();
    let mut leaving = TcpStream::connect(address).await.unwrap();
    leaving.write_all(request).await.unwrap();
    let begun = begun.await;
    leaving.shutdown().await.unwrap();
    let mut said = Vec::new();
    let read = leaving.read_to_end(&mut said);
    timeout(penstock_testkit::until::DEADLINE, read).await.unwrap().unwrap();
    assert!(said.is_empty(), "the orchestrator has noticed");
    begun
}

/// Wei that all accounts were charged.
async fn debited(world: &World) -> Rational {
    let summary = world.operator("/v1/summary").await;
    summary["debited_wei"].as_str().unwrap().parse().unwrap()
}

const METRICS: &str = "--metrics-addr=127.0.0.1:0";
const NONE: (Option<u64>, Option<u64>) = (Some(0), Some(0));

const KINDS: [&str; 7] =
    ["transcoding", "ai", "live_video", "live_runner", "byoc_job", "byoc_stream", "byoc_training"];

#[tokio::test]
async fn what_is_charged_is_delivered_or_counted() {
    let (runner, models) = runner(1).await;
    let models_flag = format!("--models-file={}", models.path().display());
    let args =
        ["--auto-adjust-price=false", "--service-addr=http://127.0.0.1:0", METRICS, &models_flag];
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
        assert_eq!(undelivered(&world, kind).await, NONE, "{kind}");
    }
    for (kind, reason) in
        [("ai", "completed"), ("ai", "worker_refused"), ("live_video", "runner_failed")]
    {
        assert_eq!(released(&world, kind, reason).await, Some(1), "{kind} {reason}");
    }

    // Work that was accepted is finished and charged when the gateway hangs up.
    let headers = gateway.headers(&gateway.speech, &[44]).await;
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
    let request = [head.as_bytes(), &form].concat();
    let task = leaves(&world, &request, worker.next()).await.task_id;
    assert_eq!(answer(ai_upload(&world, task, ANSWER)).await.0, 200);
    let fee = u64::try_from(3000 * AUDIO_PRICE).unwrap();
    until("it is counted", || async { undelivered(&world, "ai").await == (Some(1), Some(fee)) })
        .await;
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], (2 * fee).to_string());
    for kind in KINDS.into_iter().filter(|kind| *kind != "ai") {
        assert_eq!(undelivered(&world, kind).await, NONE, "{kind}");
    }
}

#[tokio::test]
async fn live_video_of_which_nothing_came_back_is_counted() {
    let stage = Stage::process(&[METRICS]).await;
    let world = &stage.world;
    let is_charged = async || stage.sessions().await[0]["units_charged"] != 0;
    // Its gateway has what it paid for.
    let session = stage.session("noop", 300).await;
    let (mut media, mut output) =
        (session.publisher("publish_url").await, session.subscriber("subscribe_url"));
    media.write("frame".into()).await.unwrap();
    assert_eq!(text(&mut output).await.unwrap(), "frame");
    while !is_charged().await {
        media.write("more".into()).await.unwrap();
    }
    media.close().await.unwrap();
    stage.empty().await;
    let before = debited(world).await;
    assert!(before.is_positive());
    assert_eq!(undelivered(world, "live_video").await, NONE);

    // Segments without a byte are charged, and the runner has made nothing of them.
    let session = stage.session("noop", 300).await;
    let url = session.url("publish_url");
    for seq in 0.. {
        let answer = world.http.post(format!("{url}/{seq}")).body("").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        if is_charged().await {
            break;
        }
    }
    session.publisher("publish_url").await.close().await.unwrap();
    stage.empty().await;
    let fee = &debited(world).await - &before;
    assert_eq!(undelivered(world, "live_video").await, (Some(1), fee.ceil_u64()));
    for kind in KINDS.into_iter().filter(|kind| *kind != "live_video") {
        assert_eq!(undelivered(world, kind).await, NONE, "{kind}");
    }
}

#[tokio::test]
async fn a_call_of_a_live_runner_that_its_client_broke_off_is_counted() {
    let world = World::process(1000, &[&ON[..], &[METRICS]].concat()).await;
    let facts = json!({ "price_info": price("0.000000000002", "fixed"), "mode": "single-shot" });
    let app = registered(&world, facts).await;
    let client = runner_sessions::Client::new(&world).await;
    let is_debited = async |wei: i128| {
        until("it is charged", || async { debited(&world).await == Rational::from_int(wei) }).await;
    };
    // Delivered, and charged then.
    let due = client.challenged("/apps/r/app/x").await;
    let request = post(&world, "/apps/r/app/x", &client.headers(&due, 1..3).await);
    assert_eq!(read(request).await.0, 200);
    is_debited(1000).await;
    // The runner breaks off: not charged.
    let due = client.challenged("/apps/r/app/break").await;
    let request = post(&world, "/apps/r/app/break", &client.headers(&due, 1..3).await);
    let broken = request.send().await.unwrap();
    app.gate.add_permits(1);
    assert!(broken.bytes().await.is_err());
    until("it is over", || async {
        released(&world, "live_runner", "runner_failed").await == Some(1)
    })
    .await;
    assert_eq!(undelivered(&world, "live_runner").await, NONE);
    // The client does: it has had its time.
    let due = client.challenged("/apps/r/app/wait").await;
    let waiting = post(&world, "/apps/r/app/wait", &client.headers(&due, 1..3).await);
    let waiting = tokio::spawn(waiting.send());
    until("it waits", || async {
        world.operator("/v1/runner-sessions").await[0]["open_requests"] == 1
    })
    .await;
    waiting.abort();
    is_debited(2000).await;
    until("it is counted", || async {
        undelivered(&world, "live_runner").await == (Some(1), Some(1000))
    })
    .await;
    assert_eq!(released(&world, "live_runner", "client_gone").await, Some(1));
    for kind in KINDS.into_iter().filter(|kind| *kind != "live_runner") {
        assert_eq!(undelivered(&world, kind).await, NONE, "{kind}");
    }
}

#[tokio::test]
async fn a_brought_capabilitys_job_without_its_answer_is_counted() {
    let settings = ["--auto-adjust-price=false", "--service-addr=http://127.0.0.1:0", METRICS];
    let world = World::process(100_000, &settings).await;
    let gate = Arc::new(Semaphore::new(0));
    let worker = byoc::worker(Arc::clone(&gate)).await;
    let register = async || byoc::register(&world, SECRET, &byoc::flux(&worker.uri, 1)).await.0;
    assert_eq!(register().await, 200);
    let client = byoc::Client::funded(&world).await;
    let tickets: Vec<_> = (1..=200).collect();
    let payment = client.payment(&client.token("flux").await, &tickets).await;
    let job = client.job("flux", 30).await;
    // Delivered: an answer, events, and what the worker has to say against it.
    for (path, status) in [("echo", 200), ("events", 200), ("teapot", 418)] {
        let pays = (path == "echo").then_some(payment.as_str());
        assert_eq!(byoc::read(client.post(path, &job, pays)).await.0, status, "{path}");
    }
    let delivered = debited(&world).await;
    assert!(delivered.is_positive());
    until("the room is free", || async {
        client.token("flux").await["available_capacity"] == json!(1)
    })
    .await;
    assert_eq!(undelivered(&world, "byoc_job").await, NONE);

    // The worker does not take it: its second is charged.
    assert_eq!(byoc::read(client.post("secret", &job, None)).await.0, 500);
    let fee = &debited(&world).await - &delivered;
    assert!(fee.is_positive());
    until("it is counted", || async {
        undelivered(&world, "byoc_job").await == (Some(1), fee.ceil_u64())
    })
    .await;

    // The client hangs up: what the worker has begun is finished.
    assert_eq!(register().await, 200);
    let request = format!(
        "POST /process/request/wait HTTP/1.1\r\nHost: o\r\nLivepeer: {job}\r\nContent-Length: 1\r\n\r\nx"
    );
    let begun = until("the room is taken", || async {
        client.token("flux").await.get("available_capacity").is_none()
    });
    leaves(&world, request.as_bytes(), begun).await;
    gate.add_permits(1);
    until("the room is free", || async {
        client.token("flux").await["available_capacity"] == json!(1)
    })
    .await;
    let fee = &debited(&world).await - &delivered;
    until("it is counted", || async {
        undelivered(&world, "byoc_job").await == (Some(2), fee.ceil_u64())
    })
    .await;
    for kind in KINDS.into_iter().filter(|kind| *kind != "byoc_job") {
        assert_eq!(undelivered(&world, kind).await, NONE, "{kind}");
    }
}
