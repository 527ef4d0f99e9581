//! Bodies that somebody waits for elsewhere: segments of channels, and what workers say of their jobs. One that stops, or
//! drips, or has no end, keeps neither its channel nor its job, nor the room of either.

use super::{begun, heard};
use crate::{
    payer::{Headers, Payer, answer, empty, post, segment},
    pipelines::{self, Case},
    runner_app::App,
    runners::{ON, beat, read, said},
    scripted_worker::{AiWorker, Transcoder, renditions, upload},
    world::{SECRET, World, client},
};
use futures::stream::iter;
use penstock_testkit::until::DEADLINE;
use penstock_wire::{
    header, net,
    worker_upload::{
        AI_WORKER_AUTHORIZATION, CREDENTIALS, PIXELS, TASK_ID, TRANSCODER_AUTHORIZATION,
    },
};
use prost::Message as _;
use serde_json::Value;
use std::{convert::Infallible, time::Duration};
use tokio::{io::AsyncWriteExt as _, time::timeout};

const CLEAR: &str = "--service-addr=http://127.0.0.1:0";
const DATA: &[u8] = b"a segment of video, more or less";
const MULTIPART: &str = "multipart/mixed; boundary=b";

fn endless(piece: &'static [u8]) -> reqwest::Body {
    reqwest::Body::wrap_stream(iter(std::iter::repeat_with(move || Ok::<_, Infallible>(piece))))
}

/// Channels of a live runner's session.
async fn channels(world: &World, names: &[&str]) -> Vec<String> {
    let (_, session) = read(world.http.post(format!("{}/apps/r/session", world.service))).await;
    let at = session["app_url"].as_str().unwrap();
    let told = read(world.http.get(format!("{at}/x"))).await.1;
    let header = |name: &str| told["headers"][name].as_str().unwrap().to_owned();
    let wanted: Vec<Value> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
    let made = world.http.post(format!("{}/channels", header("livepeer-session-control")));
    let made = made.header("Livepeer-Session-Token", header("livepeer-session-token"));
    let made = made.body(serde_json::json!({ "channels": wanted }).to_string());
    let (status, made) = read(made).await;
    assert_eq!(status, 200, "{made}");
    let url = |channel: &Value| channel["url"].as_str().unwrap().to_owned();
    made["channels"].as_array().unwrap().iter().map(url).collect()
}

#[tokio::test]
async fn a_channel_waits_for_no_writer_and_takes_no_endless_segment() {
    let settings = [
        CLEAR,
        "--live-idle-ms=1500",
        "--live-trickle-writer-grace-ms=500",
        "--live-trickle-segment-bytes=131072",
        "--peer-idle-ms=1500",
    ];
    let (world, app) = (World::offchain(&[&ON[..], &settings].concat()).await, App::start().await);
    assert_eq!(beat(&world, SECRET, &said("r", &app.url())).await.0, 200);
    let [endless_one, stops, drips, silent] = &channels(&world, &["a", "b", "c", "d"]).await[..]
    else {
        panic!("four channels");
    };
    // More than there may be of a segment: whoever reads it is not left waiting, and the channel goes on.
    let http = client().http2_prior_knowledge().build().unwrap();
    let sent = http.post(format!("{endless_one}/0")).body(endless(&[7; 16 * 1024]));
    assert_eq!(read(sent).await.0, 413);
    let taken = world.http.get(format!("{endless_one}/0")).send().await.unwrap();
    assert_eq!(taken.status(), 200);
    assert!((1..=128 * 1024).contains(&taken.bytes().await.unwrap().len()));
    assert_eq!(answer(world.http.post(format!("{endless_one}/1")).body("x")).await.0, 200);

    let path = |url: &str| url[world.service.len()..].to_owned();
    let head = |url: &str, idx: &str| {
        format!(
            "POST {}/{idx} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            path(url)
        )
    };
    let chunk = "5\r\nbegun\r\n";
    let waiting = [
        begun(&world.service, format!("{}{chunk}", head(stops, "0")).as_bytes()).await,
        begun(&world.service, format!("{}{chunk}", head(stops, "next")).as_bytes()).await,
        begun(&world.service, head(silent, "0").as_bytes()).await,
        // A chunk whose end does not come.
        begun(&world.service, format!("{}ffff\r\nx", head(silent, "1")).as_bytes()).await,
    ];
    let mut dripping = begun(&world.service, head(drips, "0").as_bytes()).await;
    let drip = async {
        // For as long as anybody takes it.
        while dripping.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ends = futures::future::join_all(waiting.map(heard));
    let (ends, ()) =
        timeout(DEADLINE, async { tokio::join!(ends, drip) }).await.expect("all are let go");
    for end in ends {
        let end = String::from_utf8_lossy(&end).into_owned();
        assert!(end.starts_with("HTTP/1.1 "), "it is told: {end:?}");
    }
    for gone in [stops, drips, silent] {
        assert_eq!(answer(world.http.get(format!("{gone}/0"))).await.0, 404, "{gone}");
    }
    assert_eq!(app.gate.available_permits(), 0);
}

/// A worker of each kind, with room for one.
struct Shop {
    world: World,
    payer: Payer,
    info: net::OrchestratorInfo,
    transcoder: Transcoder,
    ai: AiWorker,
    case: Case,
}

impl Shop {
    async fn open() -> Self {
        let settings = [CLEAR, "--peer-pause-ms=1500", "--result-memory-bytes=16777216"];
        let world = World::offchain(&settings).await;
        let case = pipelines::cases().into_iter().find(|case| case.pipeline == "image-to-text");
        let (case, payer) = (case.unwrap(), Payer::new(&world));
        let models = [(case.capability(), pipelines::MODEL)];
        let transcoder = Transcoder::register(&world, 1).await;
        let ai = AiWorker::register_for(&world, &models, 1).await;
        let info = payer.info(&world, None).await.unwrap();
        Self { world, payer, info, transcoder, ai, case }
    }

    async fn headers(&self, spec: &penstock_wire::SegmentSpec) -> Headers {
        self.payer.headers(&self.payer.nothing(&self.info), spec).await
    }

    /// A segment under way, and its task.
    async fn segment(&mut self, seq: i64) -> (reqwest::Response, i64) {
        let headers = self.headers(&segment(&self.info, seq, DATA)).await;
        let request = post(&self.world, "/segment", &headers);
        let request = request.header("Content-Type", header::CONTENT_SEGMENT).body(DATA.to_vec());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        (response, self.transcoder.next().await.task_id)
    }

    /// A question under way, and its task.
    async fn question(&mut self) -> (tokio::task::JoinHandle<(u16, String)>, i64) {
        let headers = self.headers(&empty(&self.info, "manifest")).await;
        let request = self.case.request(&self.world, &headers, pipelines::MODEL);
        (tokio::spawn(answer(request)), self.ai.next().await.task_id)
    }
}

/// An upload that stops in the middle of its first part, as it is answered.
async fn stops(world: &World, path: &str, protocol: &str, task: i64) -> String {
    let part = "--b\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{\"text\"";
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {protocol}\r\n{CREDENTIALS}: {SECRET}\r\n{TASK_ID}: {task}\r\n\
         {PIXELS}: 1\r\nContent-Type: {MULTIPART}\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n{part}"
    );
    let heard = heard(begun(&world.service, head.as_bytes()).await).await;
    String::from_utf8_lossy(&heard).into_owned()
}

/// An upload whose first part has no end.
async fn never_ends(world: &World, path: &str, protocol: &str, task: i64) -> (u16, Value) {
    let http = client().http2_prior_knowledge().build().unwrap();
    let head = b"--b\r\nContent-Type: application/json\r\n\r\n".as_slice();
    let rest = std::iter::repeat_with(|| [7; 16 * 1024].as_slice());
    let pieces = std::iter::once(head).chain(rest).map(Ok::<_, Infallible>);
    let request = http.post(format!("{}{path}", world.service));
    let request = request.header("Authorization", protocol).header(CREDENTIALS, SECRET);
    let request = request.header(TASK_ID, task.to_string()).header(PIXELS, "1");
    read(request.header("Content-Type", MULTIPART).body(reqwest::Body::wrap_stream(iter(pieces))))
        .await
}

/// Why a segment has no result.
async fn failed(response: reqwest::Response) -> String {
    let result = net::TranscodeResult::decode(response.bytes().await.unwrap()).unwrap();
    match result.result.unwrap() {
        net::transcode_result::Result::Error(error) => error,
        net::transcode_result::Result::Data(_) => panic!("a result"),
    }
}

#[tokio::test]
async fn results_that_stop_or_have_no_end_are_no_results_and_their_room_is_free() {
    let mut shop = Shop::open().await;
    let (path, protocol) = ("/transcodeResults", TRANSCODER_AUTHORIZATION);
    let (response, task) = shop.segment(1).await;
    let told = stops(&shop.world, path, protocol, task).await;
    assert!(told.starts_with("HTTP/1.1 500") && told.contains("--peer-pause-ms"), "{told}");
    assert!(!failed(response).await.is_empty());
    let (response, task) = shop.segment(2).await;
    assert_eq!(never_ends(&shop.world, path, protocol, task).await.0, 500);
    assert!(!failed(response).await.is_empty());
    let (response, task) = shop.segment(3).await;
    let parts = renditions(&[(DATA, 1), (DATA, 1)]);
    assert_eq!(answer(upload(&shop.world, task, parts)).await.0, 200);
    let result = net::TranscodeResult::decode(response.bytes().await.unwrap()).unwrap();
    assert!(matches!(result.result, Some(net::transcode_result::Result::Data(_))));

    let (path, protocol) = ("/aiResults", AI_WORKER_AUTHORIZATION);
    let (asked, task) = shop.question().await;
    let told = stops(&shop.world, path, protocol, task).await;
    assert!(told.starts_with("HTTP/1.1 500") && told.contains("--peer-pause-ms"), "{told}");
    assert_eq!(asked.await.unwrap().0, 500);
    let (asked, task) = shop.question().await;
    assert_eq!(never_ends(&shop.world, path, protocol, task).await.0, 500);
    assert_eq!(asked.await.unwrap().0, 500);
    let headers = shop.headers(&empty(&shop.info, "manifest")).await;
    assert_eq!(shop.case.served(&shop.world, &headers, &mut shop.ai).await, 200);
}
