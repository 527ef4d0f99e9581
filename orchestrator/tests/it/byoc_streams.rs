//! `/ai/stream/…`: streams of a brought capability, their channels, their payments and their ends.

use crate::{
    byoc::{Client, read, register},
    world::{SECRET, TICKET_EV, World},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use penstock_domain::Rational;
use penstock_testkit::{sim::Server, until};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// What a worker was told: what, the stream's id, and the body.
type Heard = Arc<Mutex<Vec<(String, String, Value)>>>;

const ALL: &str =
    r#"{"enable_video_ingress":true,"enable_video_egress":true,"enable_data_output":true}"#;

async fn worker(heard: Heard) -> Server {
    let stream = async |State(heard): State<Heard>,
                        Path(what): Path<String>,
                        headers: HeaderMap,
                        body: Bytes| {
        assert_eq!(headers["authorization"], "Bearer sesame");
        let id = headers["x-stream-id"].to_str().unwrap().to_owned();
        let said: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let order = said["params"]["order"].as_u64();
        heard.lock().unwrap().push((what.clone(), id, said));
        match order {
            Some(status) => (StatusCode::from_u16(status as u16).unwrap(), "no".to_owned()),
            None => (StatusCode::OK, format!("{what} done")),
        }
    };
    Server::clear(Router::new().route("/w/stream/{what}", post(stream)).with_state(heard)).await
}

/// A world, a worker, and a sender with so many tickets in its account.
struct Stage {
    world: World,
    worker: Server,
    heard: Heard,
}

impl Stage {
    /// Price in wei a second.
    async fn at(price: i128, settings: &[&str]) -> Self {
        let settings =
            [&["--auto-adjust-price=false", "--drain-timeout-ms=100"], settings].concat();
        let world = World::paid_with(100_000, &settings).await;
        let heard = Heard::default();
        let stage = Self { world, worker: worker(Arc::clone(&heard)).await, heard };
        stage.register(price).await;
        stage
    }

    async fn register(&self, price: i128) {
        self.register_room(price, 1).await;
    }

    async fn register_room(&self, price: i128, capacity: u32) {
        let said = json!({
            "name": "live", "url": format!("{}/w", self.worker.uri), "capacity": capacity,
            "price_per_unit": price, "token": "sesame",
        });
        assert_eq!(register(&self.world, SECRET, &said).await.0, 200);
    }

    fn heard(&self, what: &str) -> Vec<(String, Value)> {
        let heard = self.heard.lock().unwrap();
        let those = heard.iter().filter(|(said, ..)| said == what);
        those.map(|(_, id, body)| (id.clone(), body.clone())).collect()
    }

    async fn ended(&self) {
        until("the stream has ended, and its room is free", || async {
            let capabilities = self.world.operator("/v1/capabilities").await;
            self.world.operator("/v1/byoc-streams").await == json!([])
                && capabilities.as_array().unwrap().iter().all(|row| row["in_use"] == 0)
        })
        .await;
    }
}

pub async fn ask(
    client: &Client<'_>,
    what: &str,
    job: &str,
    payment: Option<&str>,
    body: &Value,
) -> (u16, HeaderMap, String) {
    let url = format!("{}/ai/stream/{what}", client.world.service);
    let request = client.world.http.post(url).header("Livepeer", job).body(body.to_string());
    read(match payment {
        Some(payment) => request.header("Livepeer-Payment", payment),
        None => request,
    })
    .await
}

pub async fn start(
    client: &Client<'_>,
    id: &str,
    tickets: u32,
    body: &Value,
) -> (u16, HeaderMap, String) {
    start_within(client, id, tickets, body, 70).await
}

/// The same with so many seconds.
pub async fn start_within(
    client: &Client<'_>,
    id: &str,
    tickets: u32,
    body: &Value,
    timeout: u32,
) -> (u16, HeaderMap, String) {
    let token = client.token("live").await;
    let payment = client.payment(&token, &(1..=tickets).collect::<Vec<_>>()).await;
    let job = client.signed(id, "live", ("{}", ALL), timeout).await;
    ask(client, "start", &job, Some(&payment), body).await
}

/// A job about a running stream.
pub async fn about(client: &Client<'_>, id: &str) -> String {
    about_within(client, id, 10).await
}

/// The same with so many seconds.
pub async fn about_within(client: &Client<'_>, id: &str, timeout: u32) -> String {
    let request = json!({ "stream_id": id }).to_string();
    client.signed("x", "live", (&request, ""), timeout).await
}

#[tokio::test]
async fn a_stream_runs_through_its_channels_and_is_paid_updated_and_stopped() {
    let stage = Stage::at(10, &["--live-trickle-host=127.0.0.1"]).await;
    let client = Client::funded(&stage.world).await;
    let body = json!({ "params": { "prompt": "a kite" }, "data_url": "http://10.0.0.1/" });
    let (status, headers, text) = start(&client, "mine", 2, &body).await;
    assert_eq!((status, text.as_str()), (200, ""));
    let url = |name: &str| headers[name].to_str().unwrap().to_owned();
    let public = format!("{}/ai/trickle/", stage.world.service);
    for (header, suffix) in [
        ("x-control-url", "-control"),
        ("x-events-url", "-events"),
        ("x-publish-url", ""),
        ("x-subscribe-url", "-out"),
        ("x-data-url", "-data"),
    ] {
        let name = url(header).strip_prefix(&public).unwrap().to_owned();
        assert_eq!((&name[32..], name.contains("mine")), (suffix, false), "{name}");
    }
    // The worker was told where they are, by its own host, and nothing that the gateway made up.
    let (id, told) = stage.heard("start").remove(0);
    assert_eq!((id.as_str(), &told["gateway_request_id"]), ("mine", &json!("mine")));
    assert_eq!(told["params"], json!({ "prompt": "a kite" }));
    let at_worker = |header: &str| {
        let path = url(header).strip_prefix(&stage.world.service).unwrap().to_owned();
        json!(format!("https://127.0.0.1{path}"))
    };
    assert_eq!(told["subscribe_url"], at_worker("x-publish-url"));
    assert_eq!(told["publish_url"], at_worker("x-subscribe-url"));
    assert_eq!(told["data_url"], at_worker("x-data-url"));
    let http = &stage.world.http;
    let sent = http.post(format!("{}/0", url("x-data-url"))).body("{\"n\":1}\n").send().await;
    assert_eq!(sent.unwrap().status(), 200);
    let read_back = http.get(format!("{}/0", url("x-data-url"))).send().await.unwrap();
    assert_eq!(read_back.text().await.unwrap(), "{\"n\":1}\n");

    // There is one of each id.
    stage.register_room(10, 2).await;
    let again = client.signed("mine", "live", ("{}", "{}"), 70).await;
    let (status, _, text) = ask(&client, "start", &again, None, &json!({})).await;
    assert_eq!((status, text.trim()), (500, "stream already exists: mine"));
    let rows = stage.world.operator("/v1/byoc-streams").await;
    assert_eq!((&rows[0]["id"], &rows[0]["capability"]), (&json!("mine"), &json!("live")));

    // Paid on, updated; another sender has no such stream.
    let payment = client.payment(&client.token("live").await, &[1, 2]).await;
    let mine = about(&client, "mine").await;
    let (status, headers, text) = ask(&client, "payment", &mine, Some(&payment), &json!({})).await;
    assert_eq!(status, 200, "{text}");
    let left: Rational = headers["livepeer-balance"].to_str().unwrap().parse().unwrap();
    assert!(left > Rational::from_int(3 * TICKET_EV) && left < Rational::from_int(4 * TICKET_EV));
    let (status, _, text) = ask(&client, "update", &mine, None, &json!({ "prompt": "b" })).await;
    assert_eq!((status, text.as_str()), (200, "params done"));
    assert_eq!(stage.heard("params"), [("mine".to_owned(), json!({ "prompt": "b" }))]);
    let other = Client::funded(&stage.world).await;
    let theirs = about(&other, "mine").await;
    assert_eq!(ask(&other, "update", &theirs, None, &json!({})).await.0, 404);
    assert_eq!(ask(&other, "stop", &theirs, None, &json!({})).await.0, 200);
    let refused = ask(&other, "payment", &theirs, None, &json!({})).await;
    let text = "Failed to process payment, request not valid err=Insufficient balance for request";
    assert!(refused.0 == 400 && refused.2.starts_with(text), "{refused:?}");
    assert_eq!(stage.world.operator("/v1/byoc-streams").await.as_array().unwrap().len(), 1);
    assert!(stage.heard("stop").is_empty());

    let stopped = ask(&client, "stop", &mine, None, &json!({ "why": "done" })).await;
    assert_eq!((stopped.0, stopped.2.as_str()), (200, "stop done"));
    stage.ended().await;
    assert_eq!(stage.heard("stop"), [("mine".to_owned(), json!({ "why": "done" }))], "told once");
    let gone = http.post(format!("{}/1", url("x-data-url"))).body("x").send().await.unwrap();
    assert_eq!(gone.status(), 404);
    // Whole seconds of ten wei.
    let summary = stage.world.operator("/v1/summary").await;
    let spent: Rational = summary["debited_wei"].as_str().unwrap().parse().unwrap();
    let seconds = spent.checked_div(&Rational::from_int(10)).unwrap();
    assert_eq!(seconds.floor(), seconds);
    assert!(seconds.is_positive());
    // Stopped again it is as stopped as before.
    assert_eq!(ask(&client, "stop", &mine, None, &json!({})).await.0, 200);
}

#[tokio::test]
async fn a_stream_ends_with_its_money_its_gateway_its_worker_and_its_process() {
    let mut stage = Stage::at(TICKET_EV, &["--byoc-least-seconds=1"]).await;
    let told = |stage: &Stage, id: &str| stage.heard("stop").iter().any(|(said, _)| said == id);
    // Money: as many seconds as there are tickets.
    let client = Client::funded(&stage.world).await;
    assert_eq!(start(&client, "poor", 2, &json!({})).await.0, 200);
    stage.ended().await;
    let sender = client.payer.signer.address();
    // Tickets are worth a little more than a second each.
    let left = stage.world.balance(sender, "live").await;
    assert_eq!((left.is_negative(), left.to_fixed(0).as_str()), (false, "0"), "{left}");
    assert!(told(&stage, "poor"));
    // The gateway closes its channel, the worker its own.
    for (id, header) in [("gateway", "x-control-url"), ("worker", "x-events-url")] {
        let (status, headers, _) = start(&client, id, 100, &json!({})).await;
        assert_eq!(status, 200);
        let url = headers[header].to_str().unwrap();
        assert_eq!(stage.world.http.delete(url).send().await.unwrap().status(), 200);
        stage.ended().await;
        assert!(told(&stage, id), "{id}");
    }
    // The process: its streams are charged and its workers told before it goes.
    assert_eq!(start(&client, "last", 100, &json!({})).await.0, 200);
    stage.world.stop().await.unwrap();
    assert!(told(&stage, "last"));
}

#[tokio::test]
async fn streams_that_do_not_begin_leave_nothing_behind() {
    let stage = Stage::at(10, &[]).await;
    let client = Client::funded(&stage.world).await;
    let job = client.signed("s", "live", ("{}", ALL), 70).await;
    let refused = async |job: &str, body: &Value| {
        let (status, _, text) = ask(&client, "start", job, None, body).await;
        (status, text.trim().to_owned())
    };
    let (status, poor) = refused(&job, &json!({})).await;
    assert!(
        status == 402 && poor.starts_with("Insufficient balance for request: 0 wei of "),
        "{poor}"
    );
    let creds = (400, "Could not verify job creds".to_owned());
    assert_eq!(refused("%", &json!({})).await, creds);
    let nobody = client.signed("s", "nobody", ("{}", ALL), 70).await;
    let none = (400, "No capacity available for capability".to_owned());
    assert_eq!(refused(&nobody, &json!({})).await, none);
    for id in ["", "a\nb"] {
        let job = client.signed(id, "live", ("{}", ALL), 70).await;
        assert_eq!(refused(&job, &json!({})).await, (400, "invalid stream id".to_owned()));
    }
    let flags = client.signed("s", "live", ("{}", r#"{"enable_data_output":1}"#), 70).await;
    assert_eq!(refused(&flags, &json!({})).await, creds);
    assert_eq!(stage.world.operator("/v1/summary").await["tickets"], 0);

    // The worker's words are the gateway's answer; what it took is paid for.
    let (status, headers, text) =
        start(&client, "s", 3, &json!({ "params": { "order": 409 } })).await;
    assert_eq!((status, text.as_str()), (409, "no"));
    assert!(headers.contains_key("livepeer-balance") && !headers.contains_key("x-control-url"));
    let not_json = client.signed("s", "live", ("{}", ALL), 70).await;
    let answer = refused(&not_json, &json!([])).await;
    assert_eq!(answer, (400, "Invalid JSON body".to_owned()));
    stage.ended().await;
    // What it has failed is not.
    let balance = async || stage.world.balance(client.payer.signer.address(), "live").await;
    let before = balance().await;
    let answer = refused(&job, &json!({ "params": { "order": 502 } })).await;
    assert_eq!(answer, (502, "no".to_owned()));
    stage.ended().await;
    assert_eq!(balance().await, before);
    let answer = refused(&job, &json!({ "params": { "order": 401 } })).await;
    assert_eq!(answer, (500, "Orchestrator worker failure".to_owned()));
    assert_eq!(refused(&job, &json!({})).await, none, "it does not know us any more");
    stage.register(10).await;
    assert_eq!(refused(&job, &json!({})).await.0, 200);
    let (status, _, text) = ask(&client, "stop", "%", None, &json!({})).await;
    let unsigned = "Failed to stop stream, request not valid err=Could not verify job creds";
    assert_eq!((status, text.trim()), (400, unsigned));
}
