//! Registration, and the checks on uploads in their documented order.

use crate::{
    payer::{Payer, answer},
    scripted_worker::{AiWorker, Transcoder, ai_upload, renditions, upload},
    world::{MODEL, SECRET, World},
};
use penstock_domain::{Capabilities, Capability};
use penstock_wire::net::{
    self, ai_worker_client::AiWorkerClient, transcoder_client::TranscoderClient,
};
use reqwest::{Request, header::HeaderValue};

#[tokio::test]
async fn only_with_the_secret_and_a_capacity() {
    let world = World::offchain(&[]).await;
    let mut transcoder = TranscoderClient::new(world.grpc().await);
    for (secret, capacity, text) in [
        ("", 1, "invalid secret"),
        ("sesame2", 0, "invalid secret"),
        (SECRET, 0, "zero capacity"),
        (SECRET, -1, "zero capacity"),
        (SECRET, i64::MAX, "zero capacity"),
    ] {
        let request = net::RegisterRequest { secret: secret.into(), capacity, capabilities: None };
        let refused = transcoder.register_transcoder(request).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (tonic::Code::Unknown, text));
    }
    let mut ai = AiWorkerClient::new(world.grpc().await);
    let request = net::RegisterAiWorkerRequest { secret: "no".into(), ..Default::default() };
    assert_eq!(ai.register_ai_worker(request).await.unwrap_err().message(), "invalid secret");
    world.workers(0).await;
}

#[tokio::test]
async fn workers_come_and_go() {
    let world = World::offchain(&[]).await;
    let transcoder = Transcoder::register(&world, 3).await;
    let ai = AiWorker::register(&world, 2).await;
    let seen = world.workers(2).await;
    assert_eq!((&seen[0]["kind"], &seen[0]["capacity"]), (&"transcoder".into(), &3.into()));
    assert_eq!(seen[1]["kind"], "ai");
    assert_eq!(seen[1]["models"][0], format!("audio-to-text/{MODEL}"));
    drop(transcoder);
    world.workers(1).await;
    drop(ai);
    world.workers(0).await;
}

fn changed(request: reqwest::RequestBuilder, name: &str, value: Option<&str>) -> Request {
    let mut request = request.build().unwrap();
    let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
    match value {
        Some(value) => {
            drop(request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap()))
        }
        None => drop(request.headers_mut().remove(name)),
    }
    request
}

async fn send(world: &World, request: Request) -> (u16, String) {
    answer(reqwest::RequestBuilder::from_parts(world.http.clone(), request)).await
}

#[tokio::test]
async fn uploads_are_checked_in_order() {
    let world = World::offchain(&[]).await;
    let video = || upload(&world, 5, renditions(&[(b"x", 1)]));
    let speech = || ai_upload(&world, 5, "{}");
    let no = |status: u16, text: &str| (status, text.to_owned());
    for (header, value, expected) in [
        ("authorization", None, no(401, "Unauthorized")),
        ("authorization", Some("Bearer x"), no(401, "Unauthorized")),
        ("credentials", None, no(401, "Unauthorized")),
        ("credentials", Some("wrong"), no(401, "Unauthorized")),
        ("content-type", None, no(415, "mime: no media type")),
        ("content-type", Some("nonsense"), no(415, "mime: no media type")),
        ("taskid", None, no(400, "Invalid Task ID")),
        ("taskid", Some("-1"), no(400, "Invalid Task ID")),
        ("taskid", Some("99999999999999999999"), no(400, "Invalid Task ID")),
        ("pixels", None, no(400, "Invalid Pixels")),
        ("pixels", Some("many"), no(400, "Invalid Pixels")),
        ("content-type", Some("video/mp2t"), no(200, "OK")),
        ("taskid", Some("77"), no(200, "OK")),
    ] {
        let request = changed(video(), header, value);
        assert_eq!(send(&world, request).await, expected, "{header}: {value:?}");
    }
    for (header, value, expected) in [
        ("authorization", Some("Livepeer-Transcoder-1.0"), no(401, "Unauthorized")),
        ("credentials", Some("wrong"), no(401, "invalid secret")),
        ("content-type", None, no(415, "mime: no media type")),
        ("content-type", Some("text/plain"), no(415, "unsupported result type")),
        ("taskid", Some("x"), no(400, "Invalid Task ID")),
        ("taskid", Some("77"), no(200, "OK")),
    ] {
        let request = changed(speech(), header, value);
        assert_eq!(send(&world, request).await, expected, "{header}: {value:?}");
    }
}

#[tokio::test]
async fn auto_is_what_the_workers_take_and_does_not_bound_other_work() {
    let world = World::offchain(&["--max-sessions=auto"]).await;
    let payer = Payer::new(&world);
    let speech = Capabilities::ai_job(Capability::AudioToText, MODEL, false);
    let room = async |job: Option<&Capabilities>| match payer.info(&world, job).await {
        Ok(_) => true,
        Err(refused) => {
            let why = "Invalid orchestrator request: OrchestratorCapped";
            assert_eq!(refused.message(), why);
            false
        }
    };
    let _ai = AiWorker::register(&world, 1).await;
    world.workers(1).await;
    assert_eq!((room(None).await, room(Some(&speech)).await), (false, true));
    let transcoder = Transcoder::register(&world, 1).await;
    world.workers(2).await;
    assert!(room(None).await);
    drop(transcoder);
    world.workers(1).await;
    assert!(!room(None).await);
}
