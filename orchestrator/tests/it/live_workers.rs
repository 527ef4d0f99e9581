//! Live video runners that a worker brings: the worker's side is scripted and speaks the real protocol, the runner is
//! the simulated one.

use crate::{
    live::{Session, job, text},
    payer::Payer,
    world::{SECRET, World},
};
use penstock_testkit::{
    sim::{Running, SimLiveRunner},
    until,
};
use penstock_wire::{
    limits::GRPC_REQUEST_BYTES,
    live_worker::{
        LiveAnswer, LiveCall, LiveRunner, LiveRunners, MAX_ANSWER_BYTES,
        live_worker_client::LiveWorkerClient,
    },
    net::{self, ai_worker_client::AiWorkerClient},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tonic::{Code, Streaming, transport::Channel};

const PRICE: &str = "--price-per-model=live-video-to-video/noop=1/100000";

fn runner(runner_id: u64, capacity: u32) -> LiveRunner {
    LiveRunner { runner_id, model_id: "noop".into(), capacity, ..LiveRunner::default() }
}

fn said(worker_id: &str, runners: &[LiveRunner]) -> LiveRunners {
    LiveRunners { secret: SECRET.into(), worker_id: worker_id.into(), runners: runners.to_vec() }
}

async fn client(world: &World) -> LiveWorkerClient<Channel> {
    LiveWorkerClient::new(world.grpc().await)
}

/// A worker of one runner, for as long as this lives.
struct Worker {
    running: JoinHandle<()>,
    /// Questions after its runner's health that came on its line.
    asked: Arc<AtomicUsize>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Worker {
    async fn come(world: &World, sim: &Running<SimLiveRunner>) -> Self {
        let mut client = client(world).await;
        let calls = client.serve(said("w", &[runner(7, 1)])).await.unwrap().into_inner();
        let asked = Arc::new(AtomicUsize::new(0));
        let running = tokio::spawn(pass_on(client, calls, sim.uri(), Arc::clone(&asked)));
        Self { running, asked }
    }
}

async fn pass_on(
    mut client: LiveWorkerClient<Channel>,
    mut calls: Streaming<LiveCall>,
    base: String,
    asked: Arc<AtomicUsize>,
) {
    let http = crate::world::client().build().unwrap();
    let mut beats = tokio::time::interval(Duration::from_millis(500));
    loop {
        let call = tokio::select! {
            call = calls.message() => call,
            _ = beats.tick() => {
                client.update(said("w", &[runner(7, 1)])).await.unwrap();
                continue;
            }
        };
        let Ok(Some(call)) = call else { return };
        assert_eq!(call.runner_id, 7);
        let request = match call.start.is_empty() {
            true => http.get(format!("{base}/health")),
            false => http
                .post(format!("{base}/live-video-to-video"))
                .header("content-type", "application/json")
                .body(call.start),
        };
        let answer = request.bearer_auth("sesame").send().await.unwrap();
        let status = answer.status().as_u16().into();
        let body = answer.bytes().await.unwrap().to_vec();
        let (secret, worker_id) = (SECRET.to_owned(), "w".to_owned());
        let call_id = call.call_id;
        let answer =
            LiveAnswer { secret, worker_id, call_id, status, body, ..LiveAnswer::default() };
        client.answer(answer).await.unwrap();
        asked.fetch_add(1, SeqCst);
    }
}

#[tokio::test]
async fn a_paid_session_is_a_brought_runners_and_outlives_its_workers_connection() {
    let quick = ["--live-health-interval-ms=1500", "--live-worker-lease-ms=10000"];
    let args = [&quick[..], &[PRICE, "--auto-adjust-price=false"]].concat();
    let world = World::paid_with(100_000, &args).await;
    let payer = Payer::funded(&world).await;
    let offered = async || payer.info(&world, Some(&job("noop"))).await.is_ok();
    let sessions = async || world.operator("/v1/live-sessions").await.as_array().unwrap().len();
    assert!(!offered().await, "nobody has the model");

    let sim = SimLiveRunner::start(Some("sesame")).await;
    let first = Worker::come(&world, &sim).await;
    let shown = world.operator("/v1/live-runners").await;
    assert_eq!((&shown[0]["url"], &shown[0]["capacity"]), (&json!("worker:w/7"), &json!(1)));

    let session = Session::start(&world, "noop", 300).await;
    let mut media = session.publisher("publish_url").await;
    let mut output = session.subscriber("subscribe_url");
    media.write("frames".into()).await.unwrap();
    assert_eq!(text(&mut output).await.unwrap(), "frames");
    assert!(!offered().await, "its one place is taken");
    let told = sim.requests.lock().unwrap()[0].clone();
    assert_eq!(told["subscribe_url"], session.answer["publish_url"]);

    // The connection goes and comes: the same runner, with its session.
    drop(first);
    let second = Worker::come(&world, &sim).await;
    let shown = world.operator("/v1/live-runners").await;
    assert_eq!((shown.as_array().unwrap().len(), &shown[0]["in_use"]), (1, &json!(1)));
    // It and all runners are asked at the same interval: so often on the new line that it would be over by now.
    until("it was asked there", || async { second.asked.load(SeqCst) >= 6 }).await;
    media.write("more".into()).await.unwrap();
    assert_eq!(text(&mut output).await.unwrap(), "more");
    assert_eq!(sessions().await, 1);

    // Its worker goes for good: the session ends, then its runners are gone.
    drop(second);
    until("the session has ended", || async { sessions().await == 0 }).await;
    until("the lease has run out", || async {
        world.operator("/v1/live-runners").await == json!([])
    })
    .await;
    assert!(!offered().await);
}

#[tokio::test]
async fn what_a_worker_may_bring() {
    let world = World::offchain(&["--max-worker-live-runners=2"]).await;
    let mut client = client(&world).await;
    let wrong = LiveRunners { secret: "sesame2".into(), ..said("w", &[]) };
    assert_eq!(client.serve(wrong.clone()).await.unwrap_err().message(), "invalid secret");
    assert_eq!(client.update(wrong).await.unwrap_err().message(), "invalid secret");
    let wrong = LiveAnswer { secret: String::new(), ..LiveAnswer::default() };
    assert_eq!(client.answer(wrong).await.unwrap_err().message(), "invalid secret");

    for (bad, code) in [
        (said("", &[]), Code::InvalidArgument),
        (said("w", &[runner(1, 0)]), Code::InvalidArgument),
        (said("w", &[runner(1, 1), runner(1, 1)]), Code::InvalidArgument),
        (said("w", &[runner(1, 1), runner(2, 1), runner(3, 1)]), Code::ResourceExhausted),
    ] {
        assert_eq!(client.serve(bad).await.unwrap_err().code(), code);
    }
    assert_eq!(client.update(said("w", &[])).await.unwrap_err().code(), Code::NotFound);

    let _calls = client.serve(said("w", &[runner(1, 1)])).await.unwrap();
    let full = client.serve(said("v", &[runner(1, 1), runner(2, 1)])).await.unwrap_err();
    assert!(full.message().contains("--max-worker-live-runners"), "{full}");
    let lease = client.update(said("w", &[runner(1, 1), runner(2, 4)])).await.unwrap();
    assert_eq!(lease.into_inner().lease_ms, 20_000);
    assert_eq!(world.operator("/v1/live-runners").await.as_array().unwrap().len(), 2);

    // What has no room costs the others nothing.
    let crowded = [runner(1, 1), runner(3, 1), runner(4, 1)];
    assert_eq!(client.update(said("w", &crowded)).await.unwrap().into_inner().left_out, 1);
    let _again = client.serve(said("w", &crowded)).await.unwrap();
    assert_eq!(world.operator("/v1/live-runners").await.as_array().unwrap().len(), 2);

    // Answers that nobody asked for are nothing; too large ones are refused.
    let answer = |body| LiveAnswer {
        secret: SECRET.into(),
        worker_id: "w".into(),
        call_id: 1 << 40,
        body,
        ..LiveAnswer::default()
    };
    client.answer(answer(Vec::new())).await.unwrap();
    let large = client.answer(answer(vec![0; MAX_ANSWER_BYTES + 1])).await.unwrap_err();
    assert_eq!(large.code(), Code::InvalidArgument);
    client.update(said("w", &[])).await.unwrap();
    assert_eq!(world.operator("/v1/live-runners").await, json!([]));
}

/// Two bytes that become a hundred and more, as often as fit: nobody is asked for the secret before they are read.
#[tokio::test]
async fn what_strangers_say_is_not_read_for_long() {
    let world = World::offchain(&[]).await;
    let mut client = client(&world).await;
    let empty = |many| LiveRunners { runners: vec![LiveRunner::default(); many], ..said("w", &[]) };
    let strange = |many| LiveRunners { secret: String::new(), ..empty(many) };
    let much = GRPC_REQUEST_BYTES / 2;
    assert_eq!(client.serve(strange(much)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(client.update(strange(much)).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(client.update(strange(much - 64)).await.unwrap_err().message(), "invalid secret");
    let body = vec![0; GRPC_REQUEST_BYTES];
    let answer = LiveAnswer { body, ..LiveAnswer::default() };
    assert_eq!(client.answer(answer).await.unwrap_err().code(), Code::OutOfRange);

    let mut ai = AiWorkerClient::new(world.grpc().await);
    let cards = |many| net::RegisterAiWorkerRequest {
        hardware: vec![net::HardwareInformation::default(); many],
        ..net::RegisterAiWorkerRequest::default()
    };
    let refused = ai.register_ai_worker(cards(much + 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let refused = ai.register_ai_worker(cards(much)).await.unwrap_err();
    assert_eq!(refused.message(), "invalid secret");
}
