//! Brought capabilities: registered, offered, worked for, paid by the second, with a real worker over
//! HTTP.

use crate::{
    payer::Payer,
    world::{SECRET, World},
};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use penstock_domain::{Capability, Rational};
use penstock_keys::ByocJob;
use penstock_testkit::{sim::Server, until};
use penstock_wire::{
    PaymentFields, header,
    json::{ByocToken, eth_address_header},
};
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// Wei a second: a minute is less than ten tickets.
pub const PRICE: i128 = 100;

/// A worker: `/echo` says what it got, `/wait` does so when it is let; `/cut` breaks its events off then.
pub async fn worker(gate: Arc<Semaphore>) -> Server {
    let echo = async |headers: HeaderMap, body: Bytes| {
        let auth = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        let said = json!({ "got": String::from_utf8_lossy(&body), "auth": auth });
        ([("content-type", "application/json"), ("x-metadata", "made")], said.to_string())
    };
    let let_it = Arc::clone(&gate);
    let wait = move |body: Bytes| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            body
        }
    };
    let events = async || {
        let text = "data: {\"n\":1}\n\ndata: [DONE]\n\n";
        ([("content-type", "text/event-stream")], text).into_response()
    };
    let slow = async || {
        let lines = futures::stream::unfold(0, |n: u32| async move {
            // A worker at its work.
            tokio::time::sleep(Duration::from_millis(if n == 0 { 0 } else { 2_200 })).await;
            (n < 2).then(|| (Ok::<_, Infallible>(format!("data: {{\"n\":{n}}}\n\n")), n + 1))
        });
        let body = axum::body::Body::from_stream(lines);
        ([("content-type", "text/event-stream")], body).into_response()
    };
    let flood = async || {
        let lines = futures::stream::repeat(Ok::<_, Infallible>("data: [DONE]\n"));
        let body = axum::body::Body::from_stream(lines);
        ([("content-type", "text/event-stream")], body).into_response()
    };
    let cut = move || {
        let let_it = Arc::clone(&let_it);
        async move {
            let line = futures::stream::iter([Ok("data: {\"n\":1}\n\n")]);
            let dies = futures::stream::once(async move {
                let_it.acquire().await.unwrap().forget();
                Err(std::io::Error::other("out of memory"))
            });
            let body = axum::body::Body::from_stream(futures::StreamExt::chain(line, dies));
            ([("content-type", "text/event-stream")], body).into_response()
        }
    };
    let router = Router::new()
        .route("/base/flood", post(flood))
        .route("/base/cut", post(cut))
        .route("/base/silent", post(std::future::pending::<StatusCode>))
        .route("/base/busy", post(async || StatusCode::TOO_MANY_REQUESTS))
        .route("/base/fail", post(async || (StatusCode::BAD_GATEWAY, "out of memory")))
        .route("/base/slow", post(slow))
        .route("/base/echo", post(echo))
        .route("/base/wait", post(wait))
        .route("/base/events", post(events))
        .route("/base/teapot", post(async || (StatusCode::IM_A_TEAPOT, "short and stout")))
        .route("/base/secret", post(async || StatusCode::UNAUTHORIZED));
    Server::clear(router).await
}

pub async fn register(world: &World, secret: &str, said: &Value) -> (u16, String) {
    let url = format!("{}/capability/register", world.service);
    let request = world.http.post(url).header("Authorization", secret).body(said.to_string());
    crate::payer::answer(request).await
}

pub fn flux(url: &str, capacity: u32) -> Value {
    json!({
        "name": "flux", "description": "pictures", "url": format!("{url}/base"),
        "capacity": capacity, "price_per_unit": PRICE * 2, "price_scaling": 2, "token": "sesame",
    })
}

/// A sender of jobs.
pub struct Client<'a> {
    pub world: &'a World,
    pub payer: Payer,
}

impl<'a> Client<'a> {
    pub async fn funded(world: &'a World) -> Self {
        Self { world, payer: Payer::funded(world).await }
    }

    pub async fn token(&self, capability: &str) -> Value {
        let sig = self.payer.signer.sign_orchestrator_request().await.unwrap();
        let proof = eth_address_header(self.payer.signer.address(), sig.as_bytes());
        let request = self.world.http.get(format!("{}/process/token", self.world.service));
        let request = request.header("Livepeer-Eth-Address", proof);
        let answer = request.header("Livepeer-Capability", capability).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// A payment of so many tickets at a token's terms.
    pub async fn payment(&self, token: &Value, nonces: &[u32]) -> String {
        let terms = ByocToken::parse(token.to_string().as_bytes()).unwrap();
        let info = penstock_wire::net::OrchestratorInfo {
            ticket_params: terms.ticket_params.as_ref().map(|p| p.to_offer_message()),
            price_info: terms.price.map(penstock_wire::price::write),
            ..Default::default()
        };
        let payment: PaymentFields = self.payer.payment(&info, nonces).await;
        header::encode_payment(&payment.to_message())
    }

    pub async fn job(&self, capability: &str, timeout: u32) -> String {
        self.signed("job", capability, (r#"{"prompt":"a kite"}"#, ""), timeout).await
    }

    /// A job's header: id, capability, its two texts, its seconds.
    pub async fn signed(
        &self,
        id: &str,
        capability: &str,
        (request, parameters): (&str, &str),
        timeout: u32,
    ) -> String {
        let job = ByocJob::new(request, parameters).unwrap();
        let sig = self.payer.signer.sign_byoc_job(&job).await.unwrap();
        let said = json!({
            "id": id, "request": request, "parameters": parameters, "capability": capability,
            "sender": self.payer.signer.address().to_string(), "timeout_seconds": timeout,
            "sig": format!("0x{}", hex::encode(sig.as_bytes())),
        });
        BASE64.encode(said.to_string())
    }

    pub fn post(&self, path: &str, job: &str, payment: Option<&str>) -> reqwest::RequestBuilder {
        let url = format!("{}/process/request/{path}", self.world.service);
        let request = self.world.http.post(url).header("Livepeer", job).body("a body");
        match payment {
            Some(payment) => request.header("Livepeer-Payment", payment),
            None => request,
        }
    }
}

pub async fn read(request: reqwest::RequestBuilder) -> (u16, HeaderMap, String) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

#[tokio::test]
async fn a_brought_capability_is_offered_worked_for_and_paid() {
    let world = World::paid_with(100_000, &["--auto-adjust-price=false"]).await;
    let gate = Arc::new(Semaphore::new(0));
    let worker = worker(Arc::clone(&gate)).await;
    let client = Client::funded(&world).await;

    assert_eq!(
        register(&world, "wrong", &flux(&worker.uri, 1)).await,
        (400, "invalid authorization".into())
    );
    let unknown = client.token("flux").await;
    assert_eq!(unknown.get("available_capacity"), None, "no room");
    assert_eq!(register(&world, SECRET, &flux(&worker.uri, 1)).await, (200, "ok".into()));
    let token = client.token("flux").await;
    assert_eq!(token["price"], json!({ "pricePerUnit": PRICE, "pixelsPerUnit": 1 }));
    assert_eq!((&token["available_capacity"], &token["LastNonce"]), (&json!(1), &json!(0)));
    assert_eq!(token["service_addr"], world.service.as_str());
    let menu = client.payer.info(&world, None).await.unwrap();
    let listed = menu.capabilities_prices.iter().find(|p| p.constraint == "flux").unwrap();
    assert_eq!(listed.capability, Capability::Byoc.number());

    // Without a minute's worth there is no work.
    let job = client.job("flux", 30).await;
    let poor = read(client.post("echo", &job, None)).await;
    let said = "Insufficient balance for request: 0 wei of ";
    assert!(poor.0 == 400 && poor.2.starts_with(said), "{poor:?}");
    assert!(poor.2.contains("--byoc-least-seconds"), "{poor:?}");
    let payment = client.payment(&token, &(1..=50).collect::<Vec<_>>()).await;
    let (status, headers, text) = read(client.post("echo", &job, Some(&payment))).await;
    assert_eq!(status, 200, "{text}");
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said, json!({ "got": "a body", "auth": "Bearer sesame" }));
    assert_eq!(headers["x-metadata"], "made");
    assert_eq!(headers["content-type"], "application/json");

    // Whole seconds were charged, at least one; the header says what is left.
    let sender = client.payer.signer.address();
    let left = world.balance(sender, "flux").await;
    assert_eq!(headers["livepeer-balance"], left.to_fixed(0).as_str());
    let summary = world.operator("/v1/summary").await;
    let spent: Rational = summary["debited_wei"].as_str().unwrap().parse().unwrap();
    assert!(spent >= Rational::from_int(PRICE), "{spent}");
    let seconds = spent.checked_div(&Rational::from_int(PRICE)).unwrap();
    assert_eq!(seconds.floor(), seconds);
    assert_eq!(client.token("flux").await["balance"], json!(left.floor_i64().unwrap()));

    // While the one job runs, terms say that there is no room; a job that comes nevertheless is done.
    let waiting = tokio::spawn(client.post("wait", &job, None).send());
    until("the room is taken", || async {
        client.token("flux").await.get("available_capacity").is_none()
    })
    .await;
    let (status, _, text) = read(client.post("echo", &job, None)).await;
    assert_eq!(status, 200, "{text}");
    gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    let (status, headers, text) = read(client.post("events", &job, None)).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(headers["content-type"], "text/event-stream");
    assert!(headers.contains_key("livepeer-payment-balance"));
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!((lines[0], lines[2]), ("data: {\"n\":1}", "data: [DONE]"), "{text}");
    assert!(lines[1].starts_with("data: {\"balance\": "), "{text}");

    // What the worker refuses is passed on; one that does not know us any more is let go.
    let (status, _, text) = read(client.post("teapot", &job, None)).await;
    assert_eq!((status, text.trim()), (418, "short and stout"));
    let (status, _, text) = read(client.post("secret", &job, None)).await;
    let removed = "job not able to be processed, removing capability err=worker auth token failed";
    assert_eq!((status, text.trim()), (500, removed));
    let (status, _, text) = read(client.post("echo", &job, None)).await;
    assert_eq!((status, text.trim()), (503, "No capacity available for capability"));
}

/// Also those after the last charge, and before the answer has ended.
#[tokio::test]
async fn every_second_of_events_is_booked_when_they_end() {
    let world = World::paid_with(100_000, &["--auto-adjust-price=false"]).await;
    let worker = worker(Arc::new(Semaphore::new(0))).await;
    register(&world, SECRET, &flux(&worker.uri, 1)).await;
    let client = Client::funded(&world).await;
    let payment = client.payment(&client.token("flux").await, &(1..=50).collect::<Vec<_>>()).await;
    let job = client.job("flux", 30).await;
    // Twice two seconds and a bit are five begun ones.
    let (status, _, text) = read(client.post("slow", &job, Some(&payment))).await;
    assert_eq!((status, text.as_str()), (200, "data: {\"n\":0}\n\ndata: {\"n\":1}\n\n"));
    let summary = world.operator("/v1/summary").await;
    let spent: Rational = summary["debited_wei"].as_str().unwrap().parse().unwrap();
    assert!(spent >= Rational::from_int(5 * PRICE), "{spent}");
}

#[tokio::test]
async fn jobs_that_are_nobodys_or_lead_elsewhere_are_refused() {
    let world = World::paid_with(100_000, &["--auto-adjust-price=false"]).await;
    let worker = worker(Arc::new(Semaphore::new(0))).await;
    register(&world, SECRET, &flux(&worker.uri, 4)).await;
    let client = Client::funded(&world).await;
    let payment = client.payment(&client.token("flux").await, &(1..=50).collect::<Vec<_>>()).await;
    let good = client.job("flux", 30).await;
    let creds = (400, "Could not verify job creds".to_owned());
    let told = async |job: &str, path: &str| {
        let (status, _, text) = read(client.post(path, job, Some(&payment))).await;
        (status, text.trim().to_owned())
    };
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut said: Value = serde_json::from_slice(&BASE64.decode(&good).unwrap()).unwrap();
        change(&mut said);
        BASE64.encode(said.to_string())
    };
    assert_eq!(told("%", "echo").await, creds);
    assert_eq!(
        told(&altered(&|j| j["request"] = json!("{\"prompt\":\"a fish\"}")), "echo").await,
        creds
    );
    assert_eq!(
        told(
            &altered(&|j| j["sender"] = json!("0x0000000000000000000000000000000000000001")),
            "echo"
        )
        .await,
        creds
    );
    let no_time = "no timeout_seconds set with request, timeout_seconds is required".to_owned();
    assert_eq!(told(&altered(&|j| j["timeout_seconds"] = json!(0)), "echo").await, (400, no_time));
    let none = (503, "No capacity available for capability".to_owned());
    assert_eq!(told(&altered(&|j| j["capability"] = json!("other")), "echo").await, none);
    assert_eq!(world.operator("/v1/summary").await["tickets"], 0);
    for path in ["a%2Fb", "..%5cother"] {
        assert_eq!(told(&good, path).await, (400, "invalid path".into()), "{path}");
    }
    assert_eq!(told(&good, "echo").await.0, 200);

    // A worker that is gone is removed, and the client is not told where it was.
    let uri = worker.uri.clone();
    drop(worker);
    until("the worker is gone", || async {
        let (status, text) = told(&good, "echo").await;
        assert!(!text.contains(&uri), "{text}");
        status == 503
    })
    .await;
    for (addr, capability, text) in [
        (
            "",
            "flux",
            "Must have eth address and signature on address in Livepeer-Eth-Address header",
        ),
        ("%", "flux", "Invalid eth address header"),
    ] {
        let request = world.http.get(format!("{}/process/token", world.service));
        let request = request.header("Livepeer-Eth-Address", addr);
        let answer = crate::payer::answer(request.header("Livepeer-Capability", capability)).await;
        assert_eq!(answer, (400, text.to_owned()));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_room_beyond_its_time() {
    // Longer than a busy worker takes to begin its answer.
    let world =
        World::paid_with(100_000, &["--auto-adjust-price=false", "--byoc-timeout-ms=3000"]).await;
    let worker = worker(Arc::new(Semaphore::new(0))).await;
    register(&world, SECRET, &flux(&worker.uri, 1)).await;
    let client = Client::funded(&world).await;
    let token = client.token("flux").await;
    let payment = client.payment(&token, &(1..=50).collect::<Vec<_>>()).await;
    // It asks for a day and is given what the operator allows.
    let job = client.job("flux", 86_400).await;
    // On a connection of its own: over HTTP/2 a client's library ends a connection with so many small
    // pieces unread, and with it whatever else it carries.
    let flood = client.post("flood", &job, Some(&payment)).build().unwrap();
    let own = crate::world::client().http1_only().build().unwrap();
    let unread = own.execute(flood).await.unwrap();
    assert_eq!(unread.status(), 200);
    until("the room is free", || async {
        client.token("flux").await["available_capacity"] == json!(1)
    })
    .await;
    drop(unread);
}

#[tokio::test]
async fn a_body_is_read_for_those_only_who_may_have_a_job() {
    let world = World::paid_with(100_000, &["--auto-adjust-price=false"]).await;
    let worker = worker(Arc::new(Semaphore::new(0))).await;
    register(&world, SECRET, &flux(&worker.uri, 1)).await;
    let client = Client::funded(&world).await;
    let (unknown, poor) = (client.job("other", 30).await, client.job("flux", 30).await);
    for (job, status) in [("%", 400), (unknown.as_str(), 503), (poor.as_str(), 400)] {
        let begun = futures::stream::iter([Ok::<_, Infallible>("begun")]);
        let endless = futures::StreamExt::chain(begun, futures::stream::pending());
        let request = client.post("echo", job, None).body(reqwest::Body::wrap_stream(endless));
        let answered = tokio::time::timeout(penstock_testkit::until::DEADLINE, request.send());
        assert_eq!(answered.await.unwrap().unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_worker_that_breaks_off_keeps_its_registration() {
    let world = World::paid_with(100_000, &["--auto-adjust-price=false"]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let breaks_off = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let mut said = flux(&url, 1);
    said["price_per_unit"] = json!(0);
    assert_eq!(register(&world, SECRET, &said).await.0, 200);
    let client = Client::funded(&world).await;
    let job = client.job("flux", 30).await;
    for _ in 0..2 {
        assert_eq!(read(client.post("echo", &job, None)).await.0, 500);
    }
    breaks_off.abort();
}

#[tokio::test]
async fn work_ends_with_the_last_second_that_its_account_covers() {
    let settings = ["--auto-adjust-price=false", "--byoc-least-seconds=1"];
    let world = World::paid_with(100_000, &settings).await;
    let worker = worker(Arc::new(Semaphore::new(0))).await;
    // A ticket is a second.
    let mut said = flux(&worker.uri, 4);
    (said["price_per_unit"], said["price_scaling"]) = (json!(crate::world::TICKET_EV), json!(1));
    assert_eq!(register(&world, SECRET, &said).await.0, 200);
    let client = Client::funded(&world).await;
    let payment = client.payment(&client.token("flux").await, &[1, 2, 3, 4]).await;
    let job = client.job("flux", 600).await;
    // Two at once, of a worker that never answers.
    let (first, second) = tokio::join!(
        read(client.post("wait", &job, Some(&payment))),
        read(client.post("wait", &job, None)),
    );
    // The second may have come before the payment was there.
    for (status, _, text) in [&first, &second] {
        assert!(*status == 400 && text.starts_with("Insufficient balance for request: "), "{text}");
    }
    assert!(first.1.contains_key("livepeer-balance"));
    let left = world.balance(client.payer.signer.address(), "flux").await;
    // Tickets are worth a little more than a second each.
    assert_eq!((left.is_negative(), left.to_fixed(0).as_str()), (false, "0"), "{left}");
    // Nothing is left to begin with.
    assert_eq!(read(client.post("echo", &job, None)).await.0, 400);
    let token = client.token("flux").await;
    assert_eq!(token["available_capacity"], 4, "the room is free");
}

#[tokio::test]
async fn what_is_brought_is_published_with_its_price() {
    let world = World::paid_with(100_000, &crate::runners::ON).await;
    let mut brought = flux("http://127.0.0.1:9", 2);
    brought["price_scaling"] = json!(3);
    assert_eq!(register(&world, SECRET, &brought).await.0, 200);
    let runner = crate::runners::said("runner_a", "http://10.9.8.7:9000/base");
    assert_eq!(crate::runners::beat(&world, SECRET, &runner).await.0, 200);
    let ask = async |world: &World, path: &str| {
        crate::runners::read(world.http.get(format!("{}{path}", world.service))).await
    };
    let (_, listed) = ask(&world, "/capabilities").await;
    let row = json!({
        "name": "flux", "model_id": "flux", "capacity": 2, "wei_per_unit": "200/3", "unit": "seconds",
    });
    assert_eq!(listed, json!({ "capabilities": [row] }));
    let (_, prices) = ask(&world, "/prices").await;
    let row = json!({
        "capability": "flux", "price_per_unit": "200/3 wei", "wei_per_unit": "200/3", "unit": "seconds",
    });
    assert_eq!(prices["brought"], json!([row]));
    let found = crate::runners::listed(&world).await;
    // 0.0072 dollars an hour, an ether for 2,000.
    let row = json!({
        "app": found[0]["app"], "url": found[0]["url"], "price_per_unit": "1/500000 usd",
        "wei_per_unit": found[0]["price_info"]["price"].to_string(), "unit": "seconds",
    });
    assert_eq!(prices["live_runners"], json!([row]));
    assert!(prices["prices"].is_array() && prices["auto_adjust"].is_boolean(), "{prices}");

    // Where nothing is paid, nothing has a price.
    let free = World::offchain(&[]).await;
    assert_eq!(register(&free, SECRET, &brought).await.0, 200);
    let row = json!({ "name": "flux", "model_id": "flux", "capacity": 2 });
    assert_eq!(ask(&free, "/capabilities").await.1, json!({ "capabilities": [row] }));
}
