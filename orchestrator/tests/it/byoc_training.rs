//! `/process/train/…` and `/process/job/…`: training jobs, what they cost, and what ends them.

use crate::{
    byoc::{Client, read, register},
    delivery::{NONE, debited, undelivered},
    world::{SECRET, TICKET_EV, World},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use penstock_domain::Rational;
use penstock_testkit::{sim::Server, until};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// What was begun, what was ended, and what is said of jobs.
pub struct Worker {
    pub begun: Mutex<Vec<Value>>,
    pub cancelled: Mutex<Vec<String>>,
    called: Mutex<Vec<Value>>,
    pub says: Mutex<Value>,
    /// Questions about jobs, with the token that came with them.
    pub asked: Mutex<Vec<String>>,
    /// Patient jobs begin when they are let.
    gate: Semaphore,
}

impl Worker {
    pub fn say(&self, said: Value) {
        *self.says.lock().unwrap() = said;
    }
}

type Shared = State<Arc<Worker>>;

/// Settings of all.
pub const COMMON: [&str; 3] =
    ["--auto-adjust-price=false", "--byoc-poll-ms=20", "--drain-timeout-ms=100"];

async fn serve(worker: Arc<Worker>) -> Server {
    let train = async |State(worker): Shared, body: Bytes| {
        let said: Value = serde_json::from_slice(&body).unwrap();
        let refused = said["params"]["refuse"] == true;
        let silent = said["params"]["silent"] == true;
        let patient = said["params"]["patient"] == true;
        worker.begun.lock().unwrap().push(said);
        if silent {
            std::future::pending::<()>().await;
        }
        if patient {
            worker.gate.acquire().await.unwrap().forget();
        }
        if refused { (StatusCode::CONFLICT, "no") } else { (StatusCode::OK, "{}") }
    };
    let status = async |State(worker): Shared, headers: HeaderMap| {
        let token = headers.get("authorization").map_or("", |token| token.to_str().unwrap());
        worker.asked.lock().unwrap().push(token.to_owned());
        let says = worker.says.lock().unwrap().clone();
        if says.is_null() {
            StatusCode::NOT_FOUND.into_response()
        } else {
            says.to_string().into_response()
        }
    };
    let cancel = async |State(worker): Shared, Path(id): Path<String>| {
        worker.cancelled.lock().unwrap().push(id);
    };
    let called = async |State(worker): Shared, body: Bytes| {
        worker.called.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    };
    let router = Router::new()
        .route("/train", post(train))
        .route("/train/{id}", get(status))
        .route("/train/{id}/cancel", post(cancel))
        .route("/called", post(called));
    Server::clear(router.with_state(worker)).await
}

pub struct Stage {
    pub world: World,
    pub worker: Arc<Worker>,
    pub server: Server,
}

impl Stage {
    pub async fn at(price: i128, settings: &[&str]) -> Self {
        let world = World::paid_with(100_000, &[&COMMON, settings].concat()).await;
        Self::around(world, price).await
    }

    /// The same, where the orchestrator is a process that can be killed.
    pub async fn of_a_process(price: i128, settings: &[&str]) -> Self {
        let world = World::process(100_000, &[&COMMON, settings].concat()).await;
        Self::around(world, price).await
    }

    /// The same without payments.
    pub async fn offchain() -> Self {
        Self::around(World::offchain(&COMMON).await, 0).await
    }

    async fn around(world: World, price: i128) -> Self {
        let worker = Arc::new(Worker {
            begun: Mutex::default(),
            cancelled: Mutex::default(),
            called: Mutex::default(),
            says: Mutex::new(json!({ "status": "running", "progress": 7 })),
            asked: Mutex::default(),
            gate: Semaphore::new(0),
        });
        let server = serve(Arc::clone(&worker)).await;
        let said = json!({
            "name": "lora", "url": server.uri, "capacity": 2, "price_per_unit": price,
            "token": "sesame",
        });
        assert_eq!(register(&world, SECRET, &said).await.0, 200);
        Self { world, worker, server }
    }

    pub async fn begin(&self, client: &Client<'_>, tickets: u32, body: &Value) -> (u16, String) {
        self.begin_within(30, client, tickets, body).await
    }

    async fn begin_within(
        &self,
        seconds: u32,
        client: &Client<'_>,
        tickets: u32,
        body: &Value,
    ) -> (u16, String) {
        let payment = client.payment(&client.token("lora").await, &nonces(tickets)).await;
        let job = client.signed("job", "lora", ("{}", ""), seconds).await;
        let url = format!("{}/process/train/lora", self.world.service);
        let request = self.world.http.post(url).header("Livepeer", job).body(body.to_string());
        let (status, _, text) = read(request.header("Livepeer-Payment", payment)).await;
        (status, text)
    }

    pub async fn status(&self, id: &str) -> (u16, Value) {
        status_at(&self.world, id).await
    }

    pub async fn until_status(&self, id: &str, wanted: &str) -> Value {
        until(wanted, || async { self.status(id).await.1["status"] == wanted }).await;
        self.status(id).await.1
    }

    pub async fn pay(&self, id: &str, payment: &str) -> (u16, Value) {
        pay_at(&self.world, id, payment).await
    }
}

/// How a job stands, as this orchestrator says.
pub async fn status_at(world: &World, id: &str) -> (u16, Value) {
    let url = format!("{}/process/job/{id}", world.service);
    let (status, _, text) = read(world.http.get(url)).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Pays for a job there.
pub async fn pay_at(world: &World, id: &str, payment: &str) -> (u16, Value) {
    let url = format!("{}/process/job/{id}/refresh-payment", world.service);
    let request = world.http.post(url).header("Livepeer-Payment", payment).body("{}");
    let (status, _, text) = read(request).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn nonces(tickets: u32) -> Vec<u32> {
    (1..=tickets).collect()
}

pub fn id(begun: &str) -> String {
    let begun: Value = serde_json::from_str(begun).unwrap();
    begun["job_id"].as_str().unwrap().to_owned()
}

/// Whoever was asked and has not said no may be at work for nothing.
#[tokio::test]
async fn a_worker_that_says_nothing_in_time_is_told_that_the_job_is_off() {
    let stage = Stage::at(10, &[]).await;
    let client = Client::funded(&stage.world).await;
    let body = json!({ "model_id": "m", "params": { "silent": true } });
    let (status, said) = stage.begin_within(5, &client, 2, &body).await;
    assert_eq!(status, 500, "{said}");
    let begun = stage.worker.begun.lock().unwrap()[0]["job_id"].clone();
    until("the worker is told", || async {
        stage.worker.cancelled.lock().unwrap().iter().any(|id| begun == id.as_str())
    })
    .await;
    assert_eq!(stage.worker.cancelled.lock().unwrap().len(), 1);
}

/// What is passed on counts in the memory for bodies until the worker has it.
#[tokio::test]
async fn parameters_count_while_they_are_passed_on() {
    let stage = Stage::at(10, &["--result-memory-bytes=2097152"]).await;
    let client = Client::funded(&stage.world).await;
    let large = "x".repeat(1_200_000);
    let patient = json!({ "model_id": "m", "params": { "patient": true, "large": large } });
    let first = stage.begin(&client, 2, &patient);
    let then = async {
        until("the worker is asked", || async { !stage.worker.begun.lock().unwrap().is_empty() })
            .await;
        let other = json!({ "model_id": "m", "params": { "large": large } });
        let busy = stage.begin(&client, 2, &other).await;
        stage.worker.gate.add_permits(1);
        busy
    };
    let ((status, begun), (busy, said)) = tokio::join!(first, then);
    assert_eq!((status, busy), (202, 503), "{begun} {said}");
    assert_eq!(stage.worker.begun.lock().unwrap()[0]["params"]["large"], large);
    // It is free again.
    let last = json!({ "model_id": "m", "params": { "large": large } });
    assert_eq!(stage.begin(&client, 2, &last).await.0, 202);
}

#[tokio::test]
async fn a_training_job_is_asked_about_paid_once_for_each_ticket_and_done() {
    let stage = Stage::at(10, &["--allow-private-urls"]).await;
    let client = Client::funded(&stage.world).await;
    let callback = format!("{}/called", stage.server.uri);
    let body = json!({ "model_id": "m", "params": { "a": 1 }, "callback_url": callback });
    let (status, begun) = stage.begin(&client, 2, &body).await;
    assert_eq!(status, 202, "{begun}");
    let id = id(&begun);
    let told = stage.worker.begun.lock().unwrap().clone();
    assert_eq!(told, [json!({ "job_id": id, "model_id": "m", "params": { "a": 1 } })]);
    assert_eq!(stage.until_status(&id, "running").await["progress"], 7);

    // The same tickets twice count once; another's are not taken.
    let payment = client.payment(&client.token("lora").await, &nonces(3)).await;
    let (status, first) = stage.pay(&id, &payment).await;
    let (again, second) = stage.pay(&id, &payment).await;
    assert_eq!((status, again), (200, 200), "{first} {second}");
    let worth = (3 * TICKET_EV).to_string();
    assert_eq!((&first["credited_wei"], &second["credited_wei"]), (&json!(worth), &json!("0")));
    let other = Client::funded(&stage.world).await;
    let theirs = other.payment(&other.token("lora").await, &nonces(3)).await;
    assert_eq!(stage.pay(&id, &theirs).await.0, 403);
    assert_eq!(stage.pay(&id, "%").await.0, 403);
    assert_eq!(stage.pay("nobody", &payment).await.0, 404);
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 5);

    let result = json!({ "lora_url": "https://w.example/l" });
    *stage.worker.says.lock().unwrap() = json!({ "status": "completed", "result": result });
    let done = stage.until_status(&id, "completed").await;
    assert_eq!((&done["result"], &done["progress"]), (&result, &json!(100)));
    until("the client was called", || async { !stage.worker.called.lock().unwrap().is_empty() })
        .await;
    assert_eq!(stage.worker.called.lock().unwrap()[0]["job_id"], id.as_str());
    let summary = stage.world.operator("/v1/summary").await;
    assert_eq!(summary["debited_wei"], done["cost"]);
    let late = client.payment(&client.token("lora").await, &nonces(1)).await;
    assert_eq!(stage.pay(&id, &late).await.0, 409);
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 5);
    assert!(stage.worker.cancelled.lock().unwrap().is_empty());
    assert_eq!(stage.world.operator("/v1/capabilities").await[0]["in_use"], 0);
}

#[tokio::test]
async fn a_training_job_that_its_worker_fails_costs_what_it_has_brought() {
    let stage = Stage::at(10, &[]).await;
    let client = Client::funded(&stage.world).await;
    let body = json!({ "model_id": "m" });
    let wei = |value: &Value| value.as_str().unwrap().parse::<i128>().unwrap();
    let debited = async || wei(&stage.world.operator("/v1/summary").await["debited_wei"]);

    // Nothing has come of it, whatever it says of its progress.
    let vain = id(&stage.begin(&client, 5, &body).await.1);
    let running = stage.until_status(&vain, "running").await;
    assert!(wei(&running["cost"]) > 0, "what it costs if it is done now: {running}");
    *stage.worker.says.lock().unwrap() = json!({ "status": "failed", "error": "out of memory" });
    let ended = stage.until_status(&vain, "failed").await;
    assert_eq!((&ended["cost"], &ended["error"]), (&json!("0"), &json!("out of memory")));
    assert_eq!((&running["reason"], &ended["reason"]), (&Value::Null, &json!("worker_refused")));
    assert_eq!(debited().await, 0);

    // What it has given is paid, and stays the client's; what passed after that is not paid.
    let part = json!({ "lora_url": "https://w.example/step-100" });
    *stage.worker.says.lock().unwrap() = json!({ "status": "running", "result": part });
    let half = id(&stage.begin(&client, 0, &body).await.1);
    until("there is a result", || async { stage.status(&half).await.1["result"] == part }).await;
    let by_then = wei(&stage.status(&half).await.1["cost"]);
    *stage.worker.says.lock().unwrap() = Value::Null;
    let ended = stage.until_status(&half, "failed").await;
    let cost = wei(&ended["cost"]);
    assert!(cost >= 10 && cost <= by_then, "{ended} {by_then}");
    assert_eq!((&ended["result"], debited().await), (&part, cost));

    // With the third that fails in a row it is left out for this client, who is not charged for being told so.
    *stage.worker.says.lock().unwrap() = json!({ "status": "cancelled" });
    let third = id(&stage.begin(&client, 0, &body).await.1);
    assert_eq!(stage.until_status(&third, "cancelled").await["cost"], "0");
    let room = || async { stage.world.operator("/v1/capabilities").await[0]["in_use"] == 0 };
    until("there is room", room).await;
    assert_eq!(stage.begin(&client, 0, &body).await.0, 503);
    assert_eq!(debited().await, cost);
}

#[tokio::test]
async fn a_training_job_ends_with_its_money_and_its_worker() {
    let stage = Stage::at(TICKET_EV, &["--byoc-least-seconds=1"]).await;
    let client = Client::funded(&stage.world).await;
    let body = json!({ "model_id": "m" });
    let cancelled = |stage: &Stage, id: &str| {
        stage.worker.cancelled.lock().unwrap().iter().any(|said| said == id)
    };
    let poor = id(&stage.begin(&client, 2, &body).await.1);
    let ended = stage.until_status(&poor, "failed").await;
    assert_eq!(ended["error"], "insufficient balance");
    until("its worker is told", || async { cancelled(&stage, &poor) }).await;
    let left = stage.world.balance(client.payer.signer.address(), "lora").await;
    // Tickets are worth a little more than a second each.
    assert_eq!((left.is_negative(), left.to_fixed(0).as_str()), (false, "0"), "{left}");

    let room = async |stage: &Stage| {
        until("there is room", || async {
            stage.world.operator("/v1/capabilities").await[0]["in_use"] == 0
        })
        .await;
    };
    room(&stage).await;
    let (status, text) =
        stage.begin(&client, 99, &json!({ "model_id": "m", "params": { "refuse": true } })).await;
    assert_eq!((status, text.as_str()), (409, "no"));
    for body in [json!([]), json!({}), json!({ "model_id": "m", "callback_url": 1 })] {
        room(&stage).await;
        assert_eq!(stage.begin(&client, 1, &body).await.0, 400, "{body}");
    }
    room(&stage).await;
    let lost = id(&stage.begin(&client, 99, &body).await.1);
    *stage.worker.says.lock().unwrap() = Value::Null;
    assert_eq!(
        stage.until_status(&lost, "failed").await["error"],
        "the worker does not know the job"
    );
    // What cannot be read is told of as it is.
    room(&stage).await;
    let large = "x".repeat(usize::try_from(64_u32 << 10).unwrap());
    stage.worker.say(json!({ "status": "completed", "result": { "large": large } }));
    let large = id(&stage.begin(&client, 99, &body).await.1);
    let ended = stage.until_status(&large, "failed").await;
    assert!(ended["error"].as_str().unwrap().contains("--limit-training-answer-bytes"), "{ended}");
    assert_eq!((&ended["reason"], &ended["cost"]), (&json!("worker_failed"), &json!("0")));
}

#[tokio::test]
async fn a_training_job_whose_worker_is_gone_when_its_money_ends_costs_nothing() {
    let settings = [
        "--auto-adjust-price=false",
        "--service-addr=http://127.0.0.1:0",
        "--metrics-addr=127.0.0.1:0",
        "--byoc-least-seconds=1",
        // Nobody asks before that.
        "--byoc-poll-ms=600000",
    ];
    let stage = Stage::around(World::process(100_000, &settings).await, TICKET_EV).await;
    let client = Client::funded(&stage.world).await;
    let job = id(&stage.begin(&client, 2, &json!({ "model_id": "m" })).await.1);
    stage.server.die().await;
    let ended = stage.until_status(&job, "failed").await;
    assert_eq!((&ended["reason"], &ended["cost"]), (&json!("worker_lost"), &json!("0")));
    assert_eq!(debited(&stage.world).await, Rational::ZERO);
    assert_eq!(undelivered(&stage.world, "byoc_training").await, NONE);
}
