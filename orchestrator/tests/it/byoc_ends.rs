//! The end of a stream, as its worker is told of it: once, whoever asks for it and however often; what it says to that,
//! and what its channels have shown of it, decide what is paid of the time in which it was silent.

use crate::{
    byoc::{Client, register},
    byoc_streams::{about, about_within, ask, start, start_within},
    delivery::{debited, released},
    world::{SECRET, World},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use penstock_domain::Rational;
use penstock_testkit::{sim::Server, until};
use serde_json::json;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinHandle};

const OWN: [&str; 3] = [
    "--auto-adjust-price=false",
    "--service-addr=http://127.0.0.1:0",
    "--metrics-addr=127.0.0.1:0",
];

/// A worker that says yes to everything; but of a stream that it was told to stop, or has forgotten, it knows nothing, and
/// it answers a stop only when it may.
struct Worker {
    stopped: Mutex<Vec<String>>,
    known: Mutex<HashSet<String>>,
    /// A permit for each start that came.
    starts: Semaphore,
    may_start: Semaphore,
    may_answer: Semaphore,
    forgets: bool,
    /// It knows a stream as soon as it is asked to begin it, not when it says yes.
    is_quick: AtomicBool,
    /// It has no answer to a begin but 503.
    fails: AtomicBool,
    /// The same to so many stops.
    cannot_stop: AtomicU32,
}

async fn answer(
    State(worker): State<Arc<Worker>>,
    Path(what): Path<String>,
    headers: HeaderMap,
) -> StatusCode {
    let id = headers["x-stream-id"].to_str().unwrap_or_default().to_owned();
    if what == "start" {
        let knows = || worker.known.lock().unwrap().insert(id.clone());
        let is_quick = worker.is_quick.load(Relaxed) && knows();
        worker.starts.add_permits(1);
        worker.may_start.acquire().await.unwrap().forget();
        if worker.fails.load(Relaxed) {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if !is_quick {
            knows();
        }
        return StatusCode::OK;
    }
    if what != "stop" {
        return StatusCode::OK;
    }
    let cannot = |left: u32| left.checked_sub(1);
    if worker.cannot_stop.fetch_update(Relaxed, Relaxed, cannot).is_ok() {
        worker.stopped.lock().unwrap().push(id);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let is_known = worker.known.lock().unwrap().remove(&id) && !worker.forgets;
    worker.stopped.lock().unwrap().push(id);
    worker.may_answer.acquire().await.unwrap().forget();
    if is_known { StatusCode::OK } else { StatusCode::NOT_FOUND }
}

struct Stage {
    world: World,
    worker: Arc<Worker>,
    server: Server,
}

impl Stage {
    async fn with(forgets: bool, answers: usize) -> Self {
        let world = World::process(100_000, &OWN).await;
        let worker = Worker {
            stopped: Mutex::default(),
            known: Mutex::default(),
            starts: Semaphore::new(0),
            may_start: Semaphore::new(1_000),
            may_answer: Semaphore::new(answers),
            forgets,
            is_quick: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            cannot_stop: AtomicU32::new(0),
        };
        let worker = Arc::new(worker);
        let routes = Router::new().route("/stream/{what}", post(answer));
        let server = Server::clear(routes.with_state(Arc::clone(&worker))).await;
        let said =
            json!({ "name": "live", "url": server.uri, "capacity": 2, "price_per_unit": 10 });
        assert_eq!(register(&world, SECRET, &said).await.0, 200);
        Self { world, worker, server }
    }

    /// Begins a stream; the URL of its control channel.
    async fn begin(&self, client: &Client<'_>, id: &str) -> String {
        let (status, headers, text) = start(client, id, 100, &json!({})).await;
        assert_eq!(status, 200, "{text}");
        headers["x-control-url"].to_str().unwrap().to_owned()
    }

    /// The worker reads that channel, until this is aborted, or the channel is closed.
    async fn reads(&self, control: &str) -> JoinHandle<()> {
        let (http, url) = (self.world.http.clone(), format!("{control}/0"));
        let (tell, told) = tokio::sync::oneshot::channel();
        // The gateway has begun a segment, so that it shows when the worker is at it.
        let body = futures::stream::once(async { Ok::<_, std::io::Error>("x") });
        let body = futures::StreamExt::chain(body, futures::stream::pending());
        let body = reqwest::Body::wrap_stream(body);
        tokio::spawn(self.world.http.post(&url).body(body).send());
        let reading = tokio::spawn(async move {
            let mut answer = http.get(url).send().await.unwrap();
            assert!(answer.chunk().await.unwrap().is_some());
            tell.send(()).unwrap();
            while let Ok(Some(_)) = answer.chunk().await {}
        });
        told.await.unwrap();
        reading
    }

    async fn are_over(&self, number: usize) {
        until("so many streams are left", || async {
            self.world.operator("/v1/byoc-streams").await.as_array().unwrap().len() == number
        })
        .await;
    }

    async fn released(&self, reason: &str) -> u64 {
        released(&self.world, "byoc_stream", reason).await.unwrap_or_default()
    }
}

#[tokio::test]
async fn a_worker_is_told_of_the_end_once_however_often_it_is_asked_for() {
    let stage = Stage::with(false, 0).await;
    let client = Client::funded(&stage.world).await;
    let control = stage.begin(&client, "slow").await;
    // Who waits for less than the worker needs hears nothing, and takes nothing from it.
    let hasty = about_within(&client, "slow", 1).await;
    let said = ask(&client, "stop", &hasty, None, &json!({})).await;
    assert_eq!((said.0, said.2.as_str()), (200, ""));
    let patient = about(&client, "slow").await;
    let nothing = json!({});
    let (again, closed) = tokio::join!(ask(&client, "stop", &patient, None, &nothing), async {
        let closed = stage.world.http.delete(&control).send().await.unwrap();
        stage.worker.may_answer.add_permits(9);
        closed.status()
    });
    assert_eq!(again.0, 200);
    assert!(closed == StatusCode::OK || closed == StatusCode::BAD_REQUEST, "{closed}");
    stage.are_over(0).await;
    assert_eq!(*stage.worker.stopped.lock().unwrap(), ["slow"], "told once");
    let paid = stage.released("client_stopped").await + stage.released("client_gone").await;
    assert_eq!((paid, stage.released("worker_lost").await), (1, 0));
}

/// It does not know the stream yet when it is told first.
#[tokio::test]
async fn a_stream_that_is_stopped_while_it_begins_is_stopped_at_its_worker_when_it_has_begun() {
    let stage = Stage::with(false, 9).await;
    stage.worker.may_start.forget_permits(1_000);
    let client = Client::funded(&stage.world).await;
    let nothing = json!({});
    let (begun, stopped) = tokio::join!(start(&client, "early", 100, &nothing), async {
        stage.worker.starts.acquire().await.unwrap().forget();
        let stopped = ask(&client, "stop", &about(&client, "early").await, None, &nothing).await;
        stage.worker.may_start.add_permits(1);
        stopped
    });
    assert_eq!((begun.0, stopped.0), (200, 404));
    stage.are_over(0).await;
    assert_eq!(*stage.worker.stopped.lock().unwrap(), ["early", "early"]);
    assert!(stage.worker.known.lock().unwrap().is_empty(), "nobody works on");
    assert_eq!(stage.released("client_stopped").await, 1);
    assert_eq!(stage.released("worker_lost").await, 0);
}

/// Its no to the second telling is none to the first.
#[tokio::test]
async fn a_worker_that_ends_a_stream_while_it_begins_has_held_it() {
    let stage = Stage::with(false, 9).await;
    stage.worker.is_quick.store(true, Relaxed);
    stage.worker.may_start.forget_permits(1_000);
    let client = Client::funded(&stage.world).await;
    let nothing = json!({});
    let (begun, stopped) = tokio::join!(start(&client, "early", 100, &nothing), async {
        stage.worker.starts.acquire().await.unwrap().forget();
        let about = about(&client, "early").await;
        let first = ask(&client, "stop", &about, None, &nothing).await;
        let second = ask(&client, "stop", &about, None, &nothing).await;
        stage.worker.may_start.add_permits(1);
        [first.0, second.0]
    });
    assert_eq!((begun.0, stopped), (200, [200, 200]), "both hear the one answer");
    stage.are_over(0).await;
    assert_eq!(*stage.worker.stopped.lock().unwrap(), ["early", "early"], "once early, once after");
    assert_eq!(stage.released("client_stopped").await, 1);
    assert_eq!(stage.released("worker_lost").await, 0);
}

#[tokio::test]
async fn a_start_that_is_cut_off_is_called_off_once_its_worker_has_begun() {
    let stage = Stage::with(false, 9).await;
    stage.worker.may_start.forget_permits(1_000);
    let client = Client::funded(&stage.world).await;
    let (status, ..) = start_within(&client, "late", 100, &json!({}), 1).await;
    assert_eq!(status, 500);
    let told = || stage.worker.stopped.lock().unwrap().len();
    until("it is told at once", || async { told() == 1 }).await;
    stage.worker.cannot_stop.store(2, Relaxed);
    stage.worker.may_start.add_permits(1);
    until("it is told when it has begun, until it can", || async { told() == 4 }).await;
    assert!(stage.worker.known.lock().unwrap().is_empty(), "nobody works on");
}

/// Its time was its gateway's to end.
#[tokio::test]
async fn a_worker_that_fails_a_start_because_it_was_stopped_is_paid() {
    let stage = Stage::with(false, 9).await;
    stage.worker.may_start.forget_permits(1_000);
    stage.worker.fails.store(true, Relaxed);
    let client = Client::funded(&stage.world).await;
    let nothing = json!({});
    let (begun, _) = tokio::join!(start(&client, "early", 100, &nothing), async {
        stage.worker.starts.acquire().await.unwrap().forget();
        ask(&client, "stop", &about(&client, "early").await, None, &nothing).await;
        stage.worker.may_start.add_permits(1);
    });
    assert_eq!(begun.0, 503);
    until("it is charged", || async { debited(&stage.world).await > Rational::ZERO }).await;
    assert_eq!(stage.released("client_stopped").await, 1);
}

#[tokio::test]
async fn a_worker_that_lets_go_of_a_stream_as_its_channels_close_has_held_it() {
    let stage = Stage::with(true, 9).await;
    let client = Client::funded(&stage.world).await;
    // The gateway closes its channel, at which its worker was.
    let control = stage.begin(&client, "there").await;
    let reading = stage.reads(&control).await;
    assert_eq!(stage.world.http.delete(&control).send().await.unwrap().status(), 200);
    stage.are_over(0).await;
    reading.await.unwrap();
    assert_eq!(stage.released("client_gone").await, 1);
    // The worker closes one of its own before it is told.
    let control = stage.begin(&client, "closes").await;
    let events = format!("{}-events", control.strip_suffix("-control").unwrap());
    assert_eq!(stage.world.http.delete(&events).send().await.unwrap().status(), 200);
    stage.are_over(0).await;
    assert_eq!(
        (stage.released("worker_stopped").await, stage.released("worker_lost").await),
        (1, 0)
    );
    // One that does not know it, and was at no channel, might have begun anew.
    stage.begin(&client, "absent").await;
    let absent = about(&client, "absent").await;
    assert_eq!(ask(&client, "stop", &absent, None, &json!({})).await.0, 404);
    stage.are_over(0).await;
    assert_eq!(stage.released("worker_lost").await, 1);
}

#[tokio::test]
async fn a_worker_that_was_killed_and_is_there_again_says_yes_in_vain() {
    let stage = Stage::with(false, 9).await;
    let client = Client::funded(&stage.world).await;
    let seconds = |since: Instant| i128::from(since.elapsed().as_secs());
    let wei = |seconds: i128| Rational::from_int(10 * seconds);
    let begun = Instant::now();
    let control = stage.begin(&client, "held").await;
    let held = Instant::now();
    let reading = stage.reads(&control).await;
    let control = stage.begin(&client, "killed").await;
    stage.reads(&control).await.abort();
    stage.server.die().await;
    stage.server.revive();
    let most = wei(2 * (seconds(begun) + 1));
    let killed = Instant::now();
    until("it has not been back for longer than it may be away", || async {
        killed.elapsed() > Duration::from_secs(5)
    })
    .await;
    // Nothing of that is booked yet, and gateways are told what will be left of their money all the same.
    let told: Rational = client.token("live").await["balance"].to_string().parse().unwrap();
    let books = stage.world.balance(client.payer.signer.address(), "live").await;
    assert!(&books - &told >= wei(2 * 3), "{books} {told}");
    // Nor is a yes to anything else a sign of the one that was killed.
    let about_it = about(&client, "killed").await;
    for what in ["update", "stop"] {
        assert_eq!(ask(&client, what, &about_it, None, &json!({})).await.0, 200);
    }
    stage.are_over(1).await;
    assert_eq!(stage.released("worker_lost").await, 1);
    let paid = debited(&stage.world).await;
    assert!(paid.is_positive() && paid <= most, "{paid} of {most}");
    // As silent, and there all along.
    let least = wei(seconds(held));
    let about_it = about(&client, "held").await;
    assert_eq!(ask(&client, "stop", &about_it, None, &json!({})).await.0, 200);
    stage.are_over(0).await;
    reading.await.unwrap();
    assert_eq!(stage.released("client_stopped").await, 1);
    let all = debited(&stage.world).await;
    assert!(all >= least && all > most, "{all} of {least}");
}
