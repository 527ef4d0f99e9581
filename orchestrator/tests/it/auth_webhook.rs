//! The operator's webhook says who gets an offer, and at what price.

use crate::{
    payer::{Payer, post, segment, token},
    scripted_worker::{Transcoder, renditions, upload},
    world::{AUDIO_PRICE, MODEL, PIXEL_PRICE, World},
};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post as at,
};
use penstock_domain::{Address, Capabilities, Capability, Rational};
use penstock_wire::header;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// What it says of whom, and about whom it was asked.
#[derive(Default)]
struct Said {
    of: HashMap<String, (u16, String)>,
    asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Webhook(Arc<Mutex<Said>>);

impl Webhook {
    async fn start() -> (Self, String) {
        let webhook = Self::default();
        let router = Router::new().route("/auth", at(answer)).with_state(webhook.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let setting = format!("--auth-webhook-url=http://{}/auth", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (webhook, setting)
    }

    fn say(&self, of: Address, status: u16, body: &str) {
        self.0.lock().unwrap().of.insert(of.to_string(), (status, body.to_owned()));
    }

    fn asked(&self, of: Address) -> usize {
        let of = of.to_string();
        self.0.lock().unwrap().asked.iter().filter(|asked| **asked == of).count()
    }
}

async fn answer(State(webhook): State<Webhook>, Json(question): Json<Value>) -> Response {
    let mut said = webhook.0.lock().unwrap();
    let id = question["id"].as_str().unwrap().to_owned();
    let (status, body) = said.of.get(&id).cloned().unwrap_or((200, "{}".to_owned()));
    said.asked.push(id);
    let elsewhere = [("location", "/auth")];
    (StatusCode::from_u16(status).unwrap(), elsewhere, body).into_response()
}

async fn refusal(world: &World, payer: &Payer) -> String {
    payer.info(world, None).await.unwrap_err().message().to_owned()
}

#[tokio::test]
async fn who_is_not_allowed_gets_no_offer() {
    let (webhook, setting) = Webhook::start().await;
    let world = World::paid_with(100_000, &[&setting, "--auth-webhook-ttl-ms=0"]).await;
    let payer = Payer::funded(&world).await;
    let who = payer.signer.address();
    payer.info(&world, None).await.unwrap();
    for (status, body, words) in [
        (403, "not you\r\n", "not you"),
        (500, "", "status 500"),
        (204, "", "status 204"),
        (307, "", "status 307"),
        (200, "", "the operator's webhook gave an answer that makes no sense"),
        (200, "no", "the operator's webhook gave an answer that makes no sense"),
    ] {
        webhook.say(who, status, body);
        assert_eq!(refusal(&world, &payer).await, format!("authentication failed: {words}"));
    }
    assert_eq!(webhook.asked(who), 7, "each time, and once");
    Payer::funded(&world).await.info(&world, None).await.expect("others are served");
    // A forged request is nobody's.
    let forged = Payer::new(&world).request(None).await;
    let request = penstock_wire::net::OrchestratorRequest { address: who.to_vec(), ..forged };
    let channel = world.grpc().await;
    let mut client = penstock_wire::net::orchestrator_client::OrchestratorClient::new(channel);
    let refused = client.get_orchestrator(request).await.unwrap_err();
    assert!(refused.message().ends_with("sig check failed"), "{refused}");
    assert_eq!(webhook.asked(who), 7);
}

#[tokio::test]
async fn an_answer_counts_for_its_time() {
    let (webhook, setting) = Webhook::start().await;
    let world = World::offchain(&[&setting, "--auth-webhook-ttl-ms=86400000"]).await;
    let (friend, stranger) = (Payer::new(&world), Payer::new(&world));
    webhook.say(stranger.signer.address(), 403, "no");
    for _ in 0..3 {
        friend.info(&world, None).await.unwrap();
        assert_eq!(refusal(&world, &stranger).await, "authentication failed: no");
    }
    assert_eq!(webhook.asked(friend.signer.address()), 1);
    assert_eq!(webhook.asked(stranger.signer.address()), 1);
}

#[tokio::test]
async fn nobody_is_served_while_the_webhook_is_silent() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setting = format!("--auth-webhook-url=http://{}/", silent.local_addr().unwrap());
    let world = World::offchain(&[&setting, "--auth-webhook-timeout-ms=50"]).await;
    let why = refusal(&world, &Payer::new(&world)).await;
    assert_eq!(why, "authentication failed: the operator's webhook does not answer");
    drop(silent);
    let why = refusal(&world, &Payer::new(&world)).await;
    assert_eq!(why, "authentication failed: the operator's webhook does not answer");
}

#[tokio::test]
async fn a_gateway_pays_what_the_webhook_says() {
    let (webhook, setting) = Webhook::start().await;
    let world = World::paid_with(100_000, &[&setting, "--auth-webhook-ttl-ms=0"]).await;
    let payer = Payer::funded(&world).await;
    // Less than the list says, and no whole number.
    let cheap = r#"{"priceInfo":{"pricePerUnit":3,"pixelsPerUnit":2}}"#;
    webhook.say(payer.signer.address(), 200, cheap);
    let info = payer.info(&world, None).await.unwrap();
    let price = info.price_info.as_ref().unwrap();
    assert_eq!((price.price_per_unit, price.pixels_per_unit), (3, 2));
    let audio = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
    let of_model = payer.info(&world, Some(&audio)).await.unwrap().price_info.unwrap();
    assert_eq!(of_model.price_per_unit, AUDIO_PRICE, "models have the list's prices");
    let other = Payer::funded(&world).await.info(&world, None).await.unwrap();
    assert_eq!(other.price_info.unwrap().price_per_unit, PIXEL_PRICE);

    // What was offered holds, whatever the webhook says later.
    let dear = r#"{"priceInfo":{"pricePerUnit":9,"pixelsPerUnit":1}}"#;
    webhook.say(payer.signer.address(), 200, dear);
    let later = payer.info(&world, None).await.unwrap().price_info.unwrap();
    assert_eq!((later.price_per_unit, later.pixels_per_unit), (9, 1));
    let mut worker = Transcoder::register(&world, 4).await;
    for (info, pixels, sum) in [
        (info, 100, Rational::from_int(300)),
        (payer.info(&world, None).await.unwrap(), 10, Rational::from_int(300 + 180)),
    ] {
        const DATA: &[u8] = b"a segment of video, more or less";
        let payment = payer.payment(&info, &[1, 2]).await;
        let headers = payer.headers(&payment, &segment(&info, 7, DATA)).await;
        let request = post(&world, "/segment", &headers)
            .header("Content-Type", header::CONTENT_SEGMENT)
            .body(DATA)
            .send();
        let (done, ()) = tokio::join!(request, async {
            let job = worker.next().await;
            let made = [(DATA, pixels), (DATA, pixels)];
            upload(&world, job.task_id, renditions(&made)).send().await.unwrap();
        });
        let done = done.unwrap().bytes().await.unwrap();
        let answer = <penstock_wire::net::TranscodeResult as prost::Message>::decode(done).unwrap();
        assert_eq!(answer.info.unwrap().auth_token.unwrap().session_id, token(&info).session_id);
        let summary = world.operator("/v1/summary").await;
        assert_eq!(summary["debited_wei"], json!(sum.to_string()));
    }
}

#[tokio::test]
async fn who_is_denied_later_is_refused_the_next_work() {
    let (webhook, setting) = Webhook::start().await;
    let world = World::paid_with(100_000, &[&setting, "--auth-webhook-ttl-ms=0"]).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    webhook.say(payer.signer.address(), 403, "no more");
    let payment = payer.payment(&info, &[1]).await;
    let headers = payer.headers(&payment, &segment(&info, 7, b"data")).await;
    for path in ["/segment", "/llm"] {
        let refused = post(&world, path, &headers).body("data").send().await.unwrap();
        assert_eq!(refused.status(), 403, "{path}");
        let words = refused.text().await.unwrap();
        assert_eq!(words.trim_end(), "authentication failed: no more", "{path}");
    }
    assert_eq!(world.operator("/v1/summary").await["tickets"], 0, "nothing is taken");
}

#[tokio::test]
async fn who_was_allowed_is_served_on_without_the_webhook() {
    let (webhook, setting) = Webhook::start().await;
    let world = World::paid_with(100_000, &[&setting, "--auth-webhook-ttl-ms=0"]).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    // It answers, with what is no answer.
    webhook.say(payer.signer.address(), 200, "?");
    payer.info(&world, None).await.expect_err("no new offer");
    let payment = payer.payment(&info, &[1]).await;
    let headers = payer.headers(&payment, &segment(&info, 7, b"data")).await;
    let response = post(&world, "/segment", &headers)
        .header("Content-Type", header::CONTENT_SEGMENT)
        .body("not the data that was signed")
        .send();
    assert_eq!(response.await.unwrap().text().await.unwrap().trim_end(), "Forbidden");
    assert_eq!(world.operator("/v1/summary").await["tickets"], 1, "its payment is taken");
}
