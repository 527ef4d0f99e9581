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
use axum::http::HeaderMap;
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_testkit::{
    sim::{Server, live_runner::Order},
    until,
};
use penstock_wire::{header, net};
use serde_json::json;
use std::{sync::Arc, time::Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

/// The number of a metric's line; nothing without one.
pub async fn metric(world: &World, line: &str) -> Option<u64> {
    let text = world.http.get(world.metrics()).send().await.unwrap().text().await.unwrap();
    let value = text.lines().find_map(|found| found.strip_prefix(line))?;
    Some(value.trim().parse().unwrap())
}

pub async fn released(world: &World, kind: &str, reason: &str) -> Option<u64> {
    let line = format!("orchestrator_released_total{{kind=\"{kind}\",reason=\"{reason}\"}}");
    metric(world, &line).await
}

/// Jobs and wei that were charged and not delivered.
pub async fn undelivered(world: &World, kind: &str) -> (Option<u64>, Option<u64>) {
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
pub async fn debited(world: &World) -> Rational {
    let summary = world.operator("/v1/summary").await;
    summary["debited_wei"].as_str().unwrap().parse().unwrap()
}

const METRICS: &str = "--metrics-addr=127.0.0.1:0";
pub const NONE: (Option<u64>, Option<u64>) = (Some(0), Some(0));

pub const KINDS: [&str; 7] =
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
    let headers = gateway.headers(&gateway.video, &[42, 43]).await;
    let failed = post(&world, PATH, &headers).json(&body).send().await.unwrap();
    assert_eq!(failed.headers()["livepeer-release-reason"], "runner_failed");
    let headers = gateway.headers(&gateway.video, &[45]).await;
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
async fn live_video_of_which_nothing_comes_back_ends_and_is_not_paid() {
    let stage = Stage::process(&[METRICS, "--live-output-timeout-ms=400"]).await;
    let world = &stage.world;
    // What is brought is charged; from when nothing more is, nothing.
    stage.runner.orders.then([Order::Bring(1)]);
    let session = stage.session("noop", 300).await;
    let (mut media, mut output) =
        (session.publisher("publish_url").await, session.subscriber("subscribe_url"));
    media.write("frame".into()).await.unwrap();
    assert_eq!(text(&mut output).await.unwrap(), "frame");
    until("it is charged", || async { stage.sessions().await[0]["units_charged"] != 0 }).await;
    let paid = debited(world).await;
    assert!(paid.is_positive());
    while media.write("frame".into()).await.is_ok() {}
    stage.empty().await;
    assert_eq!(debited(world).await, paid);
    // Nor is anything before the first.
    for ended in [2, 3] {
        stage.runner.orders.then([Order::Bring(0)]);
        let session = stage.session("noop", 300).await;
        let mut media = session.publisher("publish_url").await;
        while media.write("frame".into()).await.is_ok() {}
        stage.empty().await;
        assert_eq!(debited(world).await, paid);
        until("its end is counted", || async {
            released(world, "live_video", "no_output").await == Some(ended)
        })
        .await;
    }
    for kind in KINDS {
        assert_eq!(undelivered(world, kind).await, NONE, "{kind}");
    }
    // Three senders it has failed, once each: that takes it from nobody.
    let payer = Payer::funded(world).await;
    payer.info(world, Some(&job("noop"))).await.unwrap();
    let runners = world.operator("/v1/live-runners").await;
    assert!(runners.as_array().unwrap().iter().all(|r| r["is_left_out"] == false), "{runners}");
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

/// A request of which one piece comes, and no more, for as long as anybody waits.
fn stalled() -> reqwest::Body {
    let pieces = futures::stream::once(async { Ok::<_, std::io::Error>("x") });
    reqwest::Body::wrap_stream(futures::StreamExt::chain(pieces, futures::stream::pending()))
}

#[tokio::test]
async fn a_call_of_which_the_rest_does_not_come_is_paid_for_what_was_delivered() {
    let settings = [&ON[..], &[METRICS, "--live-runner-idle-ms=3000"]].concat();
    let world = World::process(1000, &settings).await;
    let facts = json!({ "price_info": price("0.000000000002", "fixed"), "mode": "single-shot" });
    let app = registered(&world, facts).await;
    let client = runner_sessions::Client::new(&world).await;
    // Its runner has answered all that came.
    let path = "/apps/r/app/duplex";
    let due = client.challenged(path).await;
    let request = post(&world, path, &client.headers(&due, 1..3).await).body(stalled());
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "x");
    assert!(answer.chunk().await.is_err(), "nobody waits for ever");
    until("it is charged", || async { debited(&world).await == Rational::from_int(1000) }).await;
    assert_eq!(released(&world, "live_runner", "client_gone").await, Some(1));
    assert_eq!(metric(&world, "orchestrator_runner_calls_voided_total").await.unwrap_or(0), 0);
    // Its runner ends the call without a word: nobody pays for that.
    let path = "/apps/r/app/work";
    let due = client.challenged(path).await;
    let request = post(&world, path, &client.headers(&due, 1..3).await).body(stalled());
    let call = tokio::spawn(request.send());
    app.asked.acquire().await.unwrap().forget();
    app.gate.add_permits(1);
    let answer = call.await.unwrap().unwrap();
    assert!(answer.status().is_client_error() || answer.status().is_server_error());
    until("it is not charged", || async {
        metric(&world, "orchestrator_runner_calls_voided_total").await == Some(1)
    })
    .await;
    assert_eq!(debited(&world).await, Rational::from_int(1000));
    assert_eq!(undelivered(&world, "live_runner").await, (Some(1), Some(1000)), "the first call");
}

/// A brought capability, and a client with a balance there.
struct Brought<'a> {
    world: &'a World,
    worker: Server,
    client: byoc::Client<'a>,
}

impl<'a> Brought<'a> {
    async fn paid(world: &'a World, gate: &Arc<Semaphore>) -> Self {
        let worker = byoc::worker(Arc::clone(gate)).await;
        let client = byoc::Client::funded(world).await;
        let brought = Self { world, worker, client };
        brought.register().await;
        let tickets: Vec<_> = (1..=200).collect();
        let payment = brought.client.payment(&brought.client.token("flux").await, &tickets).await;
        assert_eq!(brought.ask("echo", 30, Some(&payment)).await.0, 200);
        brought
    }

    async fn register(&self) {
        let said = byoc::flux(&self.worker.uri, 1);
        assert_eq!(byoc::register(self.world, SECRET, &said).await.0, 200);
    }

    async fn ask(&self, path: &str, seconds: u32, payment: Option<&str>) -> (u16, HeaderMap) {
        let job = self.client.job("flux", seconds).await;
        let (status, headers, _) = byoc::read(self.client.post(path, &job, payment)).await;
        (status, headers)
    }

    async fn balance(&self) -> Rational {
        self.world.balance(self.client.payer.signer.address(), "flux").await
    }

    async fn room_is_free(&self) {
        until("the room is free", || async {
            self.world.operator("/v1/capabilities").await[0]["in_use"] == 0
        })
        .await;
    }
}

const BYOC: [&str; 3] = ["--auto-adjust-price=false", "--service-addr=http://127.0.0.1:0", METRICS];

#[tokio::test]
async fn a_brought_worker_that_fails_is_not_paid() {
    let world = World::process(100_000, &BYOC).await;
    let gate = Arc::new(Semaphore::new(0));
    let brought = Brought::paid(&world, &gate).await;
    // An answer is paid for, whatever it says.
    for (path, status) in [("echo", 200), ("events", 200), ("teapot", 418), ("nothing", 404)] {
        let before = brought.balance().await;
        assert_eq!(brought.ask(path, 30, None).await.0, status, "{path}");
        assert!(brought.balance().await < before, "{path}");
    }
    // It says that it has failed, or is full; breaks its answer off; does not know us.
    for (path, status, reason) in [
        ("fail", 502, "worker_refused"),
        ("busy", 429, "worker_refused"),
        ("secret", 500, "worker_failed"),
    ] {
        let before = brought.balance().await;
        let (said, headers) = brought.ask(path, 30, None).await;
        assert_eq!((said, headers["livepeer-release-reason"].to_str().unwrap()), (status, reason));
        assert_eq!(headers["livepeer-balance"], before.to_fixed(0).as_str(), "{path}");
        assert_eq!(brought.balance().await, before, "{path}");
        brought.register().await;
        // It works again: what it could not do is forgotten.
        assert_eq!(brought.ask("echo", 30, None).await.0, 200);
    }
    // Of events that broke off, those that came are paid.
    let before = brought.balance().await;
    let job = brought.client.job("flux", 30).await;
    let sent = Instant::now();
    let mut events = brought.client.post("cut", &job, None).send().await.unwrap();
    assert!(events.chunk().await.unwrap().unwrap().starts_with(b"data: {\"n\":1}\n"));
    gate.add_permits(1);
    while events.chunk().await.unwrap().is_some() {}
    brought.room_is_free().await;
    let paid = (&before - &brought.balance().await).to_fixed(0);
    let seconds = paid.parse::<i128>().unwrap() / byoc::PRICE;
    assert_eq!(paid, (seconds * byoc::PRICE).to_string(), "whole seconds");
    assert!((1..=sent.elapsed().as_secs() as i128 + 1).contains(&seconds), "{seconds} s");
    // Nobody is there.
    let dead = byoc::flux("http://127.0.0.1:1", 1);
    assert_eq!(byoc::register(&world, SECRET, &dead).await.0, 200);
    let before = brought.balance().await;
    let (status, headers) = brought.ask("echo", 30, None).await;
    assert_eq!(
        (status, &headers["livepeer-release-reason"]),
        (500, &"worker_failed".parse().unwrap())
    );
    assert_eq!(headers["livepeer-balance"], before.to_fixed(0).as_str());
    assert_eq!(brought.balance().await, before);
    for kind in KINDS {
        assert_eq!(undelivered(&world, kind).await, NONE, "{kind}");
    }
}

#[tokio::test]
async fn a_brought_worker_that_fails_again_and_again_gets_no_jobs_for_a_while() {
    let world = World::process(100_000, &BYOC).await;
    let brought = Brought::paid(&world, &Arc::new(Semaphore::new(0))).await;
    let before = brought.balance().await;
    // Each time for longer: so it is seen, however slow we are.
    until("it is not asked for this sender", || async {
        match brought.ask("fail", 30, None).await.0 {
            502 => false,
            503 => true,
            other => panic!("{other}"),
        }
    })
    .await;
    assert_eq!(brought.balance().await, before);
    // One sender's jobs say nothing of another's.
    let other = byoc::Client::funded(&world).await;
    let tickets: Vec<_> = (1..=10).collect();
    let payment = other.payment(&other.token("flux").await, &tickets).await;
    let job = other.job("flux", 30).await;
    assert_eq!(byoc::read(other.post("echo", &job, Some(&payment))).await.0, 200);
    assert_eq!(undelivered(&world, "byoc_job").await, NONE);
}

/// Our own time is the worker's to keep. Whoever sets one that is too short could have work done for nothing.
#[tokio::test]
async fn a_job_that_runs_into_its_own_time_is_paid_and_one_that_runs_into_ours_is_not() {
    let world = World::process(100_000, &[&BYOC[..], &["--byoc-timeout-ms=10000"]].concat()).await;
    let brought = Brought::paid(&world, &Arc::new(Semaphore::new(0))).await;
    brought.room_is_free().await;
    let before = brought.balance().await;
    let (status, headers) = brought.ask("silent", 30, None).await;
    assert_eq!((status, &headers["livepeer-release-reason"]), (500, &"timed_out".parse().unwrap()));
    assert_eq!(headers["livepeer-balance"], before.to_fixed(0).as_str());
    brought.room_is_free().await;
    assert_eq!(brought.balance().await, before);
    assert_eq!(undelivered(&world, "byoc_job").await, NONE);
    let (status, headers) = brought.ask("silent", 1, None).await;
    assert_eq!((status, &headers["livepeer-release-reason"]), (500, &"timed_out".parse().unwrap()));
    brought.room_is_free().await;
    let paid = &before - &brought.balance().await;
    assert!(paid.is_positive());
    until("it is counted", || async {
        undelivered(&world, "byoc_job").await == (Some(1), paid.ceil_u64())
    })
    .await;
}

#[tokio::test]
async fn a_brought_capabilitys_client_that_hangs_up_pays() {
    let world = World::process(100_000, &BYOC).await;
    let gate = Arc::new(Semaphore::new(0));
    let brought = Brought::paid(&world, &gate).await;
    brought.room_is_free().await;
    let before = brought.balance().await;
    // What the worker has begun is finished.
    let job = brought.client.job("flux", 30).await;
    let request = format!(
        "POST /process/request/wait HTTP/1.1\r\nHost: o\r\nLivepeer: {job}\r\nContent-Length: 1\r\n\r\nx"
    );
    let begun = until("the room is taken", || async {
        world.operator("/v1/capabilities").await[0]["in_use"] == 1
    });
    leaves(&world, request.as_bytes(), begun).await;
    gate.add_permits(1);
    brought.room_is_free().await;
    let fee = &before - &brought.balance().await;
    assert!(fee.is_positive());
    until("it is counted", || async {
        undelivered(&world, "byoc_job").await == (Some(1), fee.ceil_u64())
    })
    .await;
    for kind in KINDS.into_iter().filter(|kind| *kind != "byoc_job") {
        assert_eq!(undelivered(&world, kind).await, NONE, "{kind}");
    }
}
