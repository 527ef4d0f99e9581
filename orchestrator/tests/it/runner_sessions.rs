//! Sessions of live runners: reserved, paid, charged, released, by route and with real tickets.

use crate::{
    payer::{Headers, Payer, empty, post},
    runner_app::App,
    runners::{ON, beat, listed, read, said},
    world::{SECRET, World},
};
use penstock_domain::Rational;
use penstock_testkit::until;
use penstock_wire::{json::PaymentChallenge, net};
use prost::Message as _;
use serde_json::{Value, json};

/// A client that pays.
pub struct Client<'a> {
    world: &'a World,
    pub payer: Payer,
}

/// What it was challenged with.
pub struct Due {
    pub info: net::OrchestratorInfo,
    pub manifest: String,
    payment_url: String,
}

impl<'a> Client<'a> {
    pub async fn new(world: &'a World) -> Self {
        Self::of(world, Payer::funded(world).await)
    }

    pub fn of(world: &'a World, payer: Payer) -> Self {
        Self { world, payer }
    }

    pub fn ask(&self, path: &str) -> reqwest::RequestBuilder {
        let payer = self.payer.signer.address().to_string();
        let url = format!("{}{path}", self.world.service);
        self.world.http.post(url).header("Livepeer-Payer-Address", payer)
    }

    pub async fn challenged(&self, path: &str) -> Due {
        let (status, body) = read(self.ask(path)).await;
        assert_eq!(status, 402, "{body}");
        let (due, _) = PaymentChallenge::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(due.orchestrator, self.world.service);
        let info = net::OrchestratorInfo::decode(due.payment_params.as_slice()).unwrap();
        Due { info, manifest: due.manifest_id, payment_url: due.payment_url }
    }

    /// Headers that pay for a challenge with tickets of these nonces.
    pub async fn headers(&self, due: &Due, nonces: std::ops::Range<u32>) -> Headers {
        let nonces: Vec<_> = nonces.collect();
        let payment = if nonces.is_empty() {
            self.payer.nothing(&due.info)
        } else {
            self.payer.payment(&due.info, &nonces).await
        };
        self.payer.headers(&payment, &empty(&due.info, &due.manifest)).await
    }

    pub async fn pays(&self, path: &str, due: &Due, nonces: std::ops::Range<u32>) -> (u16, Value) {
        read(post(self.world, path, &self.headers(due, nonces).await)).await
    }

    pub async fn balance(&self, due: &Due) -> Rational {
        self.world.balance(self.payer.signer.address(), &due.manifest).await
    }
}

/// A runner with these facts beside the usual ones; the app behind it.
pub async fn registered(world: &World, facts: Value) -> App {
    let app = App::start().await;
    let mut said = said("r", &app.url());
    for (key, value) in facts.as_object().unwrap() {
        said[key] = value.clone();
    }
    let (status, answer) = beat(world, SECRET, &said).await;
    assert_eq!(status, 200, "{answer}");
    app
}

pub fn price(usd: &str, unit: &str) -> Value {
    json!({ "price": usd, "currency": "usd", "unit": unit })
}

pub async fn reason(world: &World, session: &str) -> Option<String> {
    let all = world.operator("/v1/runner-sessions").await;
    let row = all.as_array().unwrap().iter().find(|row| row["session_id"] == session).cloned();
    row.and_then(|row| row["reason"].as_str().map(str::to_owned))
}

pub const SESSION: &str = "/apps/r/session";
/// A second costs 1,000 wei, and so does a ticket: 0.0000000072 dollars an hour, an ether for 2,000.
pub const CHEAP: &str = "0.0000000072";

#[tokio::test]
async fn a_session_is_paid_by_the_second_until_the_money_is_gone() {
    let settings = [&ON[..], &["--live-payment-interval-ms=1500"]].concat();
    let world = World::paid_with(1000, &settings).await;
    let _app = registered(&world, json!({ "price_info": price(CHEAP, "hour") })).await;
    let client = Client::new(&world).await;

    let (status, body) = read(world.http.post(format!("{}{SESSION}", world.service))).await;
    let nobody = json!({ "error": { "message": "invalid live runner payment signer address" } });
    assert_eq!((status, body), (402, nobody));
    let due = client.challenged(SESSION).await;
    assert_eq!(due.manifest.len(), 32);
    assert_eq!(due.payment_url, format!("{}{SESSION}/{}/payment", world.service, due.manifest));
    let asked = due.info.price_info.as_ref().unwrap();
    assert_eq!((asked.price_per_unit, asked.pixels_per_unit), (1000, 1));
    assert_eq!(listed(&world).await[0]["capacity_used"], 0, "a challenge reserves nothing");

    // Too little for the first interval: nothing begins, and both numbers are told.
    let (status, text) = client.pays(SESSION, &due, 0..0).await;
    let text = text.as_str().unwrap();
    assert!(status == 400 && text.starts_with("Insufficient balance: 0 wei of 2000 wei"), "{text}");
    assert_eq!(reason(&world, &due.manifest).await.unwrap(), "payment_failed");

    let (status, session) = client.pays(SESSION, &due, 1..51).await;
    assert_eq!(status, 200, "{session}");
    assert_eq!(session["session_id"], due.manifest.as_str());
    let control = format!("{}{SESSION}/{}", world.service, due.manifest);
    assert_eq!(session["control_url"], control.as_str());
    assert_eq!(session["app_url"], format!("{control}/app"));
    assert_eq!(client.pays(SESSION, &due, 0..0).await, (409, json!("session already exists")));
    // Another one's, with nothing left of before.
    let poor = Client::new(&world).await;
    let other = poor.challenged(SESSION).await;
    let (status, full) = poor.pays(SESSION, &other, 1..2).await;
    let text = "no capacity available for runner: 1 of 1 sessions taken (the runner's capacity)";
    assert_eq!((status, full), (503, json!(text)));

    // From when something was delivered it is charged, and can be paid on.
    assert_eq!(client.balance(&due).await, Rational::from_int(50_000));
    assert_eq!(read(world.http.get(format!("{control}/app/x"))).await.0, 200);
    until("a second was charged", || async {
        client.balance(&due).await < Rational::from_int(50_000)
    })
    .await;
    let before = world.operator("/v1/summary").await["tickets"].as_u64();
    let path = format!("{SESSION}/{}/payment", due.manifest);
    let (status, text) = client.pays(&path, &client.challenged(SESSION).await, 1..2).await;
    assert_eq!((status, text), (403, json!("mismatched session and payment manifest")));
    let stranger = Client::new(&world).await;
    let (status, text) = stranger.pays(&path, &due, 0..0).await;
    assert_eq!((status, text), (403, json!("mismatched session and payment sender")));
    let answer = post(&world, &path, &client.headers(&due, 51..52).await).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let result = net::PaymentResult::decode(answer.bytes().await.unwrap()).unwrap().info.unwrap();
    assert_eq!(result.auth_token.unwrap().session_id, due.manifest);
    assert!(result.ticket_params.is_some());
    assert_eq!(world.operator("/v1/summary").await["tickets"].as_u64(), before.map(|n| n + 1));
    assert_eq!(read(world.http.post(format!("{control}/stop"))).await.0, 204);

    // One that nobody pays on ends with its money, and says so to whoever comes later.
    assert_eq!(poor.pays(SESSION, &other, 1..3).await.0, 200);
    until("the money is gone", || async { listed(&world).await[0]["capacity_used"] == 0 }).await;
    assert_eq!(reason(&world, &other.manifest).await.unwrap(), "out_of_funds");
    // To the last unit, though it did not cover all that was owed.
    until("all of it is booked", || async { poor.balance(&other).await == Rational::ZERO }).await;
    let path = format!("{SESSION}/{}/payment", other.manifest);
    let answer = post(&world, &path, &poor.headers(&other, 3..4).await).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["livepeer-release-reason"], "out_of_funds");
    // One that was used costs a unit, however short it was.
    let short = poor.challenged(SESSION).await;
    assert_eq!(poor.pays(SESSION, &short, 1..3).await.0, 200);
    let control = format!("{}{SESSION}/{}", world.service, short.manifest);
    assert_eq!(read(world.http.get(format!("{control}/app/x"))).await.0, 200);
    assert_eq!(read(world.http.post(format!("{control}/stop"))).await.0, 204);
    until("it is charged", || async { poor.balance(&short).await < Rational::from_int(2000) })
        .await;
    until("the operator sees it", || async {
        world.operator("/v1/runner-sessions").await[0]["units_charged"] != 0
    })
    .await;
    // `/refresh-payment` knows the price that was agreed.
    let body =
        json!({ "sender": client.payer.signer.address().to_string(), "manifest_id": due.manifest });
    let url = format!("{}/refresh-payment", world.service);
    let (status, again) = read(world.http.post(url).body(body.to_string())).await;
    assert_eq!((status, &again["manifest_id"]), (200, &json!(due.manifest)), "{again}");
}

#[tokio::test]
async fn a_fixed_price_is_paid_once() {
    let world = World::paid_with(1000, &ON).await;
    // 0.000000000002 dollars are 1,000 wei.
    let fixed = price("0.000000000002", "fixed");
    let app = registered(&world, json!({ "price_info": fixed })).await;
    let client = Client::new(&world).await;
    let due = client.challenged(SESSION).await;
    // Another price than the one of now is refused before anything is reserved.
    let mut other = client.challenged(SESSION).await;
    other.info.price_info.as_mut().unwrap().price_per_unit = 999;
    let (status, text) = client.pays(SESSION, &other, 0..0).await;
    let text = text.as_str().unwrap();
    assert_eq!(status, 400);
    assert!(text.starts_with("payment price does not match live runner price"), "{text}");
    assert!(text.contains("999 wei") && text.contains("1000 asked"), "{text}");
    // A manifest that is not the token's.
    let foreign =
        Due { info: due.info.clone(), manifest: "mine".into(), payment_url: String::new() };
    let mismatch = json!("mismatched manifest and auth token");
    assert_eq!(client.pays(SESSION, &foreign, 0..0).await, (403, mismatch));
    assert_eq!(world.operator("/v1/summary").await["tickets"], 0);

    let (status, session) = client.pays(SESSION, &due, 1..4).await;
    assert_eq!(status, 200, "{session}");
    assert_eq!(client.balance(&due).await, Rational::from_int(3000), "nothing is delivered");
    let app_url = session["app_url"].as_str().unwrap().to_owned();
    let is_left = async |wei: i128| {
        let wei = Rational::from_int(wei);
        until("it is charged", || async { client.balance(&due).await == wei }).await;
    };
    let path = format!("{SESSION}/{}/payment", due.manifest);
    let once = json!("fixed-price live runner sessions do not accept follow-up payments");
    assert_eq!(client.pays(&path, &due, 4..5).await, (409, once));

    // Both ends may stop it; nobody has to know whether it is there.
    let stop = format!("{}{SESSION}/{}/stop", world.service, due.manifest);
    for _ in 0..2 {
        assert_eq!(read(world.http.post(&stop)).await.0, 204);
    }
    assert_eq!(reason(&world, &due.manifest).await.unwrap(), "client_stopped");
    // The runner was held for it.
    is_left(2000).await;
    // The next of the same name costs as much, once, from the first answer on.
    assert_eq!(client.pays(SESSION, &due, 0..0).await.0, 200);
    for _ in 0..2 {
        assert_eq!(read(world.http.get(format!("{app_url}/x"))).await.0, 200);
        is_left(1000).await;
    }
    assert_eq!(read(world.http.post(&stop)).await.0, 204);
    assert_eq!(read(world.http.post(stop.replace("/r/", "/x/"))).await.0, 404);

    // A runner that is gone is not paid: neither ticket nor fee.
    let tickets = world.operator("/v1/summary").await["tickets"].clone();
    let due = client.challenged(SESSION).await;
    let address = app.address().to_owned();
    app.server.die().await;
    let (status, text) = client.pays(SESSION, &due, 1..3).await;
    assert!(status == 503 && !text.to_string().contains(&address), "{status} {text}");
    assert_eq!(world.operator("/v1/summary").await["tickets"], tickets);
    assert_eq!(listed(&world).await, Value::Null, "others are told to go elsewhere");
}

#[tokio::test]
async fn what_a_runner_delivers_after_it_has_ended_the_session_is_paid() {
    let world = World::paid_with(1000, &ON).await;
    let _app = registered(&world, json!({ "price_info": price("0.000000000002", "fixed") })).await;
    let client = Client::new(&world).await;
    let due = client.challenged(SESSION).await;
    let (status, session) = client.pays(SESSION, &due, 1..4).await;
    assert_eq!(status, 200, "{session}");
    let app_url = session["app_url"].as_str().unwrap();
    let said = read(world.http.get(format!("{app_url}/last"))).await;
    assert_eq!(said, (200, json!("the last words")));
    assert_eq!(reason(&world, &due.manifest).await.unwrap(), "runner_stopped");
    until("it is charged", || async { client.balance(&due).await == Rational::from_int(2000) })
        .await;
}

/// What the application does for a request is not undone by a client that hangs up.
#[tokio::test]
async fn work_whose_client_hung_up_is_paid_when_its_runner_ends_it() {
    for said in [price("0.000000000002", "fixed"), price(CHEAP, "hour")] {
        let world = World::paid_with(1000, &ON).await;
        let app = registered(&world, json!({ "price_info": said })).await;
        let client = Client::new(&world).await;
        let due = client.challenged(SESSION).await;
        let (status, session) = client.pays(SESSION, &due, 1..51).await;
        assert_eq!(status, 200, "{session}");
        let app_url = session["app_url"].as_str().unwrap();
        let call = tokio::spawn(read(world.http.post(format!("{app_url}/work"))));
        app.asked.acquire().await.unwrap().forget();
        call.abort();
        assert!(call.await.is_err());
        app.gate.add_permits(1);
        until("it is charged", || async {
            client.balance(&due).await < Rational::from_int(50_000)
        })
        .await;
        assert_eq!(reason(&world, &due.manifest).await.unwrap(), "runner_stopped");
    }
}

#[tokio::test]
async fn a_single_call_is_paid_when_it_is_delivered() {
    let world = World::paid_with(1000, &ON).await;
    let facts = json!({
        "price_info": price("0.000000000002", "fixed"), "mode": "single-shot", "proxy": true,
    });
    let app = registered(&world, facts).await;
    let client = Client::new(&world).await;
    let (status, text) = read(client.ask(SESSION)).await;
    assert_eq!((status, text), (400, json!("only persistent runners have sessions")));
    // By the proxy's address, as discovery says it.
    let path = "/run/r/hello";
    assert_eq!(listed(&world).await[0]["url"], format!("{}/run/r", world.service));
    let due = client.challenged(path).await;
    let (status, said) = client.pays(path, &due, 1..3).await;
    assert_eq!((status, &said["path"]), (200, &json!("/base/hello")), "{said}");
    let headers = said["headers"].as_object().unwrap();
    assert!(!headers.contains_key("livepeer-payment") && !headers.contains_key("livepeer-segment"));
    assert_eq!(headers["livepeer-session-id"], due.manifest.as_str());
    until("it is charged", || async { client.balance(&due).await == Rational::from_int(1000) })
        .await;
    assert_eq!(reason(&world, &due.manifest).await.unwrap(), "completed");

    // One that breaks off is not charged. What is left of one call is the same sender's next one's: this is another.
    let client = Client::new(&world).await;
    let due = client.challenged("/apps/r/app/break").await;
    let headers = client.headers(&due, 1..3).await;
    let answer = post(&world, "/apps/r/app/break", &headers).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    app.gate.add_permits(1);
    assert!(answer.bytes().await.is_err());
    until("it is over", || async {
        reason(&world, &due.manifest).await.as_deref() == Some("runner_failed")
    })
    .await;
    assert_eq!(client.balance(&due).await, Rational::from_int(2000));

    // Room is held while one waits. Who hangs up has had his call.
    let client = Client::new(&world).await;
    let due = client.challenged("/apps/r/app/wait").await;
    let waiting = post(&world, "/apps/r/app/wait", &client.headers(&due, 1..3).await);
    let waiting = tokio::spawn(waiting.send());
    until("it waits", || async {
        world.operator("/v1/runner-sessions").await[0]["open_requests"] == 1
    })
    .await;
    let other = client.challenged("/apps/r/app").await;
    assert_eq!(client.pays("/apps/r/app", &other, 1..3).await.0, 503);
    // And the call is one request.
    let more = format!("{}/apps/r/session/{}/app", world.service, due.manifest);
    let (status, text) = read(world.http.get(more)).await;
    assert_eq!((status, text), (400, json!("only persistent runners have sessions")));
    waiting.abort();
    until("it is over", || async { listed(&world).await[0]["capacity_used"] == 0 }).await;
    assert_eq!(reason(&world, &due.manifest).await.unwrap(), "client_gone");
    until("it is charged", || async { client.balance(&due).await == Rational::from_int(1000) })
        .await;
    drop(app);
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_released() {
    let settings = [&ON[..], &["--live-runner-lease-ms=200"]].concat();
    let world = World::offchain(&settings).await;
    let _app = registered(&world, json!({})).await;
    let (status, session) = read(world.http.post(format!("{}{SESSION}", world.service))).await;
    assert_eq!(status, 200, "{session}");
    let id = session["session_id"].as_str().unwrap();
    until("it is released", || async { reason(&world, id).await.is_some() }).await;
    assert_eq!(reason(&world, id).await.unwrap(), "lease_expired");
    let answer = world.http.get(session["app_url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["livepeer-release-reason"], "lease_expired");
}

#[tokio::test]
async fn sessions_are_bounded_over_all_runners() {
    let world = World::offchain(&[&ON[..], &["--max-runner-sessions=2"]].concat()).await;
    let _app = registered(&world, json!({ "capacity": 3 })).await;
    let reserve = async || read(world.http.post(format!("{}{SESSION}", world.service))).await;
    assert_eq!((reserve().await.0, reserve().await.0), (200, 200));
    let bound = "no capacity available: 2 of 2 sessions of live runners (--max-runner-sessions)";
    assert_eq!(reserve().await, (503, json!(bound)));
}

#[tokio::test]
async fn the_bound_of_transcoding_is_none_for_live_runners() {
    let mut world = World::paid_with(1000, &ON).await;
    world.stop().await.unwrap();
    world.start_again_with("--max-sessions=0").await;
    let facts = json!({ "price_info": price("0.000000000002", "fixed") });
    let _app = registered(&world, facts).await;
    let client = Client::new(&world).await;
    until("the chain is seen", || async { read(client.ask(SESSION)).await.0 == 402 }).await;
    let due = client.challenged(SESSION).await;
    let (status, session) = client.pays(SESSION, &due, 1..2).await;
    assert_eq!(status, 200, "{session}");
}
