//! `POST /live-video-to-video` and what follows, with a simulated live runner: it speaks the real
//! protocol over real channels, and passes frames on as they are.

use crate::{
    payer::{Headers, Payer, answer, empty, post, short_live},
    world::{TICKET_EV, World},
};
use penstock_clients::{Reach, Trust};
use penstock_domain::{Capabilities, Capability, Rational};
use penstock_testkit::{
    sim::{Running, SimLiveRunner, live_runner::Order},
    until,
};
use penstock_trickle::{
    Position,
    client::{ClientError, Publisher, PublisherOptions, Subscriber, SubscriberOptions, http},
};
use penstock_wire::net;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

/// Wei per unit: a few hundred wei a second, so that a session outlives its test.
const CHEAP: &str = "0.00001";
/// A second costs 56 tickets.
const DEAR: &str = "0.002";
pub const PATH: &str = "/live-video-to-video";

/// An orchestrator with one simulated runner, which has `noop` for little and `dear` for much.
pub struct Stage {
    pub world: World,
    pub runner: Running<SimLiveRunner>,
    _models: tempfile::NamedTempFile,
}

impl Stage {
    pub async fn paid() -> Self {
        Self::paid_with(1, &[]).await
    }

    pub async fn paid_with(capacity: u32, extra: &[&str]) -> Self {
        Self::charged_every(5, capacity, extra).await
    }

    async fn charged_every(ms: u64, capacity: u32, extra: &[&str]) -> Self {
        let (runner, models) = runner(capacity).await;
        let args = settings(ms, &models, extra);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        Self { world: World::paid_with(100_000, &args).await, runner, _models: models }
    }

    /// The same as a process of its own.
    pub async fn process(extra: &[&str]) -> Self {
        let (runner, models) = runner(1).await;
        let args = settings(5, &models, extra);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        Self { world: World::process(100_000, &args).await, runner, _models: models }
    }

    /// With two runners of `noop`, in their order.
    pub async fn with_two() -> (Self, Running<SimLiveRunner>) {
        let (first, models) = runner(1).await;
        let second = SimLiveRunner::start(Some("sesame")).await;
        let text = std::fs::read_to_string(models.path()).unwrap();
        let mut entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut other = entries[0].clone();
        other["url"] = json!(second.uri());
        entries.push(other);
        std::fs::write(models.path(), json!(entries).to_string()).unwrap();
        let models_flag = format!("--models-file={}", models.path().display());
        let args = ["--auto-adjust-price=false", &models_flag, "--live-health-interval-ms=20"];
        let world = World::paid_with(100_000, &args).await;
        (Self { world, runner: first, _models: models }, second)
    }

    pub async fn offer(&self, model: &str) -> (Payer, net::OrchestratorInfo) {
        let payer = Payer::funded(&self.world).await;
        let info = payer.info(&self.world, Some(&job(model))).await.unwrap();
        (payer, info)
    }

    pub async fn start(&self, headers: &Headers, body: &Value) -> (u16, Value) {
        let (status, text) = answer(post(&self.world, PATH, headers).json(body)).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A session of `model`, paid with so many tickets.
    pub async fn session(&self, model: &str, tickets: u32) -> Session {
        Session::start(&self.world, model, tickets).await
    }

    pub async fn sessions(&self) -> Vec<Value> {
        let sessions = self.world.operator("/v1/live-sessions").await;
        sessions.as_array().unwrap().clone()
    }

    pub async fn in_use(&self) -> i64 {
        let runners = self.world.operator("/v1/live-runners").await;
        runners.as_array().unwrap().iter().map(|r| r["in_use"].as_i64().unwrap()).sum()
    }

    /// Waits until no session is left and all room was given back.
    pub async fn empty(&self) {
        until("the session has ended and its runner is free", || async {
            self.sessions().await.is_empty() && self.in_use().await == 0
        })
        .await;
    }
}

/// Charged every so many ms.
fn settings(ms: u64, models: &tempfile::NamedTempFile, extra: &[&str]) -> Vec<String> {
    let common = [
        "--auto-adjust-price=false".to_owned(),
        format!("--live-payment-interval-ms={ms}"),
        format!("--models-file={}", models.path().display()),
        "--live-health-interval-ms=20".to_owned(),
        "--drain-timeout-ms=1000".to_owned(),
    ];
    common.into_iter().chain(extra.iter().map(|arg| (*arg).to_owned())).collect()
}

pub async fn runner(capacity: u32) -> (Running<SimLiveRunner>, tempfile::NamedTempFile) {
    penstock_http_kit::tls::install_crypto_provider();
    let runner = SimLiveRunner::start(Some("sesame")).await;
    let entry = |model: &str, price: &str| {
        json!({
            "pipeline": "live-video-to-video",
            "model_id": model,
            "url": runner.uri(),
            "token": "sesame",
            "capacity": capacity,
            "price_per_unit": serde_json::from_str::<Value>(price).unwrap(),
        })
    };
    let models = tempfile::NamedTempFile::new().unwrap();
    let entries = json!([entry("noop", CHEAP), entry("dear", DEAR)]);
    std::fs::write(models.path(), entries.to_string()).unwrap();
    (runner, models)
}

pub fn job(model: &str) -> Capabilities {
    Capabilities::ai_job(Capability::LiveVideoToVideo, model, false)
}

pub struct Session {
    pub answer: Value,
    pub payer: Payer,
    info: net::OrchestratorInfo,
}

impl Session {
    /// Of `model`, paid with so many tickets.
    pub async fn start(world: &World, model: &str, tickets: u32) -> Self {
        let payer = Payer::funded(world).await;
        Self::start_by(world, payer, model, &(1..=tickets).collect::<Vec<_>>()).await
    }

    /// The same by somebody, with tickets of these nonces.
    pub async fn start_by(world: &World, payer: Payer, model: &str, nonces: &[u32]) -> Self {
        let info = payer.info(world, Some(&job(model))).await.unwrap();
        let payment = payer.payment(&info, nonces).await;
        let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
        let post = post(world, PATH, &headers).json(&json!({ "model_id": model }));
        let (status, text) = answer(post).await;
        assert_eq!(status, 200, "{text}");
        Self { answer: serde_json::from_str(&text).unwrap(), payer, info }
    }

    pub fn url(&self, key: &str) -> &str {
        self.answer[key].as_str().unwrap()
    }

    pub fn manifest(&self) -> &str {
        self.url("manifest_id")
    }

    /// One more payment for it.
    pub async fn pay(&self, world: &World, nonces: &[u32]) {
        let more = self.payer.payment(&self.info, nonces).await;
        let headers = self.payer.headers(&more, &empty(&self.info, self.manifest())).await;
        assert_eq!(answer(post(world, "/payment", &headers)).await.0, 200);
    }

    /// Sends media until something was charged for it.
    pub async fn is_charged(&self, world: &World) -> Publisher {
        let mut media = self.publisher("publish_url").await;
        let charged = async {
            while world.operator("/v1/live-sessions").await[0]["units_charged"] == 0 {
                media.write("more".into()).await.unwrap();
            }
        };
        timeout(penstock_testkit::until::DEADLINE, charged).await.unwrap();
        media
    }

    pub async fn publisher(&self, key: &str) -> Publisher {
        let http = http(Trust::AcceptAny, Reach::Anywhere).unwrap();
        Publisher::open(http, self.url(key), PublisherOptions::default()).await.unwrap()
    }

    pub fn subscriber(&self, key: &str) -> Subscriber {
        let http = http(Trust::AcceptAny, Reach::Anywhere).unwrap();
        let options = SubscriberOptions { start: Position::Current, ..Default::default() };
        Subscriber::new(http, self.url(key), options).unwrap()
    }

    /// Waits until all four channels are gone.
    async fn is_closed(&self, world: &World) {
        for key in ["publish_url", "subscribe_url", "control_url", "events_url"] {
            let url = format!("{}/next", self.url(key));
            until("the channel is closed", || async {
                world.http.get(&url).send().await.unwrap().status() == 404
            })
            .await;
        }
    }
}

pub async fn text(subscriber: &mut Subscriber) -> Result<String, ClientError> {
    let read = async {
        let bytes = subscriber.next_segment().await?.bytes(1 << 20).await?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    };
    timeout(penstock_testkit::until::DEADLINE, read).await.unwrap()
}

async fn message(subscriber: &mut Subscriber) -> Value {
    serde_json::from_str(&text(subscriber).await.unwrap()).unwrap()
}

/// Somebody who pays nothing, where nothing is to be paid.
async fn unpaid(world: &World) -> (Payer, Headers) {
    let payer = Payer::new(world);
    let info = payer.info(world, Some(&job("noop"))).await.unwrap();
    let signed = payer.headers(&payer.nothing(&info), &empty(&info, "m")).await;
    (payer, Headers { payment: String::new(), segment: signed.segment })
}

#[tokio::test]
async fn a_paid_session_from_start_to_end() {
    let stage = Stage::paid().await;
    let session = stage.session("noop", 300).await;
    let (service, name) = (&stage.world.service, session.manifest());
    assert_eq!(name.len(), 32);
    for (key, suffix) in [
        ("publish_url", ""),
        ("subscribe_url", "-out"),
        ("control_url", "-control"),
        ("events_url", "-events"),
    ] {
        assert_eq!(session.url(key), format!("{service}/ai/trickle/{name}{suffix}"));
    }
    let told = stage.runner.requests.lock().unwrap()[0].clone();
    assert_eq!(told["subscribe_url"], session.answer["publish_url"], "media goes the other way");
    assert_eq!(told["publish_url"], session.answer["subscribe_url"]);
    assert_eq!(told["control_url"], session.answer["control_url"]);
    assert_eq!((&told["model_id"], &told["manifest_id"]), (&json!("noop"), &json!(name)));

    // The one slot is taken, and gateways hear of it before they ask.
    let capped = session.payer.info(&stage.world, Some(&job("noop"))).await.unwrap_err();
    assert_eq!(capped.message(), "Invalid orchestrator request: OrchestratorCapped");
    let row = stage.sessions().await.remove(0);
    assert_eq!((&row["manifest_id"], &row["model"]), (&json!(name), &json!("noop")));

    // Frames in, frames out; a message in, an event out.
    let (mut media, mut output) =
        (session.publisher("publish_url").await, session.subscriber("subscribe_url"));
    for frames in ["first", "second", "third"] {
        media.write(frames.into()).await.unwrap();
        assert_eq!(text(&mut output).await.unwrap(), frames);
    }
    let mut events = session.subscriber("events_url");
    assert_eq!(message(&mut events).await["event"]["state"], "ONLINE");
    let mut control = session.publisher("control_url").await;
    for said in [json!({ "keep": "alive" }), json!({ "prompt": "a fish" })] {
        control.write(said.to_string().into()).await.unwrap();
    }
    assert_eq!(message(&mut events).await["event"]["params"]["prompt"], "a fish");
    assert_eq!(stage.runner.controls.lock().unwrap().len(), 2);

    // Time is charged while media comes, at the model's price, to the session's own account; what is
    // paid later goes there, too.
    let sender = session.payer.signer.address();
    let credited = 300 * TICKET_EV;
    let charged = async {
        while stage.sessions().await[0]["units_charged"] == 0 {
            media.write("more".into()).await.unwrap();
        }
    };
    timeout(penstock_testkit::until::DEADLINE, charged).await.unwrap();
    let before = stage.world.balance(sender, name).await;
    assert!(before.is_positive() && before < Rational::from_int(credited), "{before}");
    session.pay(&stage.world, &[301, 302]).await;
    let summary = stage.world.operator("/v1/summary").await;
    assert_eq!(summary["tickets"], 302);

    media.close().await.unwrap();
    session.is_closed(&stage.world).await;
    stage.empty().await;
    assert_eq!(stage.runner.sessions(), 0);
    let accounts = stage.world.operator("/v1/accounts").await;
    assert_eq!(accounts.as_array().unwrap().len(), 1, "{accounts}");
    assert_eq!(accounts[0]["fixed_price_wei_per_unit"], "1/100000");
    let debited: Rational = accounts[0]["debited_wei"].as_str().unwrap().parse().unwrap();
    assert!(debited.is_positive());
    session.payer.info(&stage.world, Some(&job("noop"))).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_its_money_and_everybody_learns_of_it() {
    let stage = Stage::paid().await;
    let session = stage.session("dear", 300).await;
    let mut media = session.publisher("publish_url").await;
    let mut segment = media.next_segment().unwrap();
    // One segment that does not end is charged for like many that do.
    let frames = tokio::spawn(async move {
        while segment.write("frame".into()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    session.is_closed(&stage.world).await;
    frames.abort();
    stage.empty().await;
    assert_eq!(stage.runner.sessions(), 0);
    let late = media.write("late".into()).await.unwrap_err();
    assert!(matches!(late, ClientError::EndOfStream | ClientError::NoChannel), "{late:?}");
    // All was booked that was there, to the last unit that it covers, and nothing that was not.
    let balance = stage.world.balance(session.payer.signer.address(), session.manifest()).await;
    let unit: Rational = "1/500".parse().unwrap();
    assert!(!balance.is_negative() && balance < unit, "{balance}");
}

/// The first charge comes when an interval has passed: nobody begins without it.
#[tokio::test]
async fn who_has_not_paid_up_to_the_first_charge_does_not_begin() {
    // 5 s of 276.48 wei each.
    let stage = Stage::charged_every(5_000, 1, &[]).await;
    let (payer, info) = stage.offer("noop").await;
    let start = async |nonces: &[u32]| {
        let payment = payer.payment(&info, nonces).await;
        let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
        stage.start(&headers, &json!({ "model_id": "noop" })).await
    };
    let (status, text) = start(&[1]).await;
    assert_eq!((status, text.as_str().unwrap().to_owned()), short_live("1000", 1383));
    assert!(stage.runner.requests.lock().unwrap().is_empty());
    assert_eq!(stage.in_use().await, 0);
    // What was paid is not lost: one more, and it begins on the same account.
    let (status, begun) = start(&[2]).await;
    assert_eq!(status, 200, "{begun}");
    let accounts = stage.world.operator("/v1/accounts").await;
    assert_eq!(accounts.as_array().unwrap().len(), 1, "{accounts}");
    assert_eq!(
        (&accounts[0]["tickets"], &accounts[0]["session_id"]),
        (&json!(2), &begun["manifest_id"])
    );
}

/// Nothing can be made of them, so that nothing is charged; nor is a runner held for that.
#[tokio::test]
async fn who_sends_segments_without_a_byte_is_gone() {
    let stage = Stage::paid_with(1, &["--live-output-timeout-ms=200"]).await;
    let session = stage.session("noop", 300).await;
    let (http, url) = (&stage.world.http, session.url("publish_url"));
    for seq in 0.. {
        if http.post(format!("{url}/{seq}")).body("").send().await.unwrap().status() != 200 {
            break;
        }
    }
    stage.empty().await;
    assert_eq!(stage.world.operator("/v1/summary").await["debited_wei"], "0");
    let runners = stage.world.operator("/v1/live-runners").await;
    assert!(runners.as_array().unwrap().iter().all(|r| r["is_left_out"] == false), "{runners}");
    // The same sender's next one begins there.
    let again = session.payer.info(&stage.world, Some(&job("noop"))).await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn what_is_owed_at_the_end_is_charged() {
    let stage = Stage::charged_every(60_000, 1, &[]).await;
    let session = stage.session("noop", 300).await;
    let (mut media, mut output) =
        (session.publisher("publish_url").await, session.subscriber("subscribe_url"));
    media.write("frame".into()).await.unwrap();
    assert_eq!(text(&mut output).await.unwrap(), "frame");
    assert_eq!(stage.sessions().await[0]["units_charged"], 0);
    media.close().await.unwrap();
    stage.empty().await;
    let accounts = stage.world.operator("/v1/accounts").await;
    let debited: Rational = accounts[0]["debited_wei"].as_str().unwrap().parse().unwrap();
    assert!(debited.is_positive());
}

#[tokio::test]
async fn a_runner_that_refuses_is_replaced_and_asked_last_from_then_on() {
    let (stage, second) = Stage::with_two().await;
    stage.runner.orders.then([Order::Refuse(500, "no GPU")]);
    let session = stage.session("noop", 20).await;
    assert_eq!((stage.runner.sessions(), second.sessions()), (0, 1), "paid once, and delivered");
    assert_eq!(stage.in_use().await, 1, "the one that refused has its room back");
    // The next one goes to the second again, which is full: the first is asked last.
    let next = stage.session("noop", 20).await;
    assert_eq!((stage.runner.sessions(), second.sessions()), (1, 1));
    drop((session, next));
}

#[tokio::test]
async fn what_is_not_in_order_begins_nothing() {
    let stage = Stage::paid().await;
    let (payer, info) = stage.offer("noop").await;
    let noop = json!({ "model_id": "noop" });
    let good = payer.payment(&info, &[1, 2, 3]).await;
    let headers = payer.headers(&good, &empty(&info, "manifest")).await;
    let refused = async |headers: &Headers, body: &Value| {
        let (status, text) = stage.start(headers, body).await;
        (status, text.as_str().unwrap_or_default().to_owned())
    };
    let capacity = (503, "insufficient capacity".to_owned());

    assert_eq!(refused(&headers, &json!({ "params": 1 })).await.0, 400);
    assert_eq!(refused(&headers, &json!({ "model_id": "other" })).await, capacity);
    let broken = Headers { payment: "%".to_owned(), segment: headers.segment.clone() };
    assert_eq!(refused(&broken, &noop).await.0, 402);
    let unsigned = Headers { payment: headers.payment.clone(), segment: String::new() };
    assert_eq!(refused(&unsigned, &noop).await.0, 403);
    let nothing = payer.headers(&payer.nothing(&info), &empty(&info, "manifest")).await;
    assert_eq!(refused(&nothing, &noop).await, short_live("0", TICKET_EV));

    // A runner that is not well is found out before the payment is touched.
    *stage.runner.health.lock().unwrap() = Some("LOADING");
    assert_eq!(refused(&headers, &noop).await, capacity);
    *stage.runner.health.lock().unwrap() = None;
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 0);
    assert!(stage.runner.requests.lock().unwrap().is_empty());

    // One that refuses is told in its own words, and leaves nothing behind.
    stage.runner.orders.then([Order::Refuse(400, "no GPU")]);
    let text = "live-video-to-video container returned 400: no GPU".to_owned();
    assert_eq!(refused(&headers, &noop).await, (500, text));
    stage.empty().await;
    let told = stage.runner.requests.lock().unwrap()[0]["publish_url"].clone();
    let url = format!("{}/next", told.as_str().unwrap());
    assert_eq!(stage.world.http.get(url).send().await.unwrap().status(), 404);

    // Tickets that were offered for cheap work open dear work at its own price.
    let (payer, info) = stage.offer("noop").await;
    let cheap = payer.payment(&info, &[4, 5]).await;
    let headers = payer.headers(&cheap, &empty(&info, "manifest")).await;
    let (status, answer) = stage.start(&headers, &json!({ "model_id": "dear" })).await;
    assert_eq!(status, 200, "{answer}");
    let accounts = stage.world.operator("/v1/accounts").await;
    let account =
        accounts.as_array().unwrap().iter().find(|a| a["session_id"] == answer["manifest_id"]);
    assert_eq!(account.unwrap()["fixed_price_wei_per_unit"], Value::Null);
}

#[tokio::test]
async fn a_session_ends_with_its_runner() {
    let stage = Stage::paid().await;
    let session = stage.session("noop", 100).await;
    *stage.runner.health.lock().unwrap() = Some("ERROR");
    session.is_closed(&stage.world).await;
    *stage.runner.health.lock().unwrap() = None;
    stage.empty().await;

    // The runner closes what it publishes when it stops by itself.
    let session = stage.session("noop", 100).await;
    let output = session.publisher("subscribe_url").await;
    output.close().await.unwrap();
    session.is_closed(&stage.world).await;
    stage.empty().await;
}

#[tokio::test]
async fn a_gateway_that_does_not_wait_leaves_nothing_running() {
    let (runner, models) = runner(1).await;
    let models_flag = format!("--models-file={}", models.path().display());
    let args = ["--service-addr=http://127.0.0.1:0", "--live-health-interval-ms=20", &models_flag];
    let world = World::offchain(&args).await;
    let (_, headers) = unpaid(&world).await;
    let go_on = Arc::new(Notify::new());
    runner.orders.then([Order::AnswerWhen(Arc::clone(&go_on))]);

    let mut gateway =
        TcpStream::connect(world.service.strip_prefix("http://").unwrap()).await.unwrap();
    let segment = &headers.segment;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: o\r\nLivepeer-Segment: {segment}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    gateway.write_all(request.as_bytes()).await.unwrap();
    until("the runner was asked", || async { runner.sessions() == 1 }).await;
    // It hangs up, and the orchestrator has noticed when it does so, too.
    gateway.shutdown().await.unwrap();
    let mut said = Vec::new();
    timeout(penstock_testkit::until::DEADLINE, gateway.read_to_end(&mut said))
        .await
        .unwrap()
        .unwrap();
    assert!(said.is_empty());
    go_on.notify_one();
    until("the session has ended", || async {
        runner.sessions() == 0 && world.operator("/v1/live-sessions").await == json!([])
    })
    .await;
}

#[tokio::test]
async fn sessions_are_bounded_over_all_runners() {
    let stage = Stage::paid_with(2, &["--max-live-sessions=1"]).await;
    let session = stage.session("noop", 100).await;
    let (payer, info) = stage.offer("noop").await;
    let constraints = info.capabilities.as_ref().unwrap().constraints.as_ref().unwrap();
    let told = &constraints.per_capability[&35].models["noop"];
    assert_eq!((told.capacity, told.capacity_in_use), (1, 1), "idle, in use");
    let payment = payer.payment(&info, &(1..=100).collect::<Vec<_>>()).await;
    let headers = payer.headers(&payment, &empty(&info, "manifest")).await;
    let (status, text) = stage.start(&headers, &json!({ "model_id": "noop" })).await;
    assert_eq!((status, text), (503, json!("insufficient capacity")));
    session.publisher("publish_url").await.close().await.unwrap();
    stage.empty().await;
    assert_eq!(stage.start(&headers, &json!({ "model_id": "noop" })).await.0, 200);
}

#[tokio::test]
async fn off_chain_sessions_are_free_and_idle_ones_end() {
    let (runner, models) = runner(1).await;
    let models_flag = format!("--models-file={}", models.path().display());
    let args = ["--live-idle-ms=50", "--live-health-interval-ms=20", &models_flag];
    let world = World::offchain(&args).await;
    let (_, headers) = unpaid(&world).await;
    let (status, answer) = answer(post(&world, PATH, &headers).json(&json!({}))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(runner.requests.lock().unwrap()[0]["model_id"], "noop");
    until("nobody sends, so it ends", || async {
        world.operator("/v1/live-sessions").await == json!([])
    })
    .await;
}
