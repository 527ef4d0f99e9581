//! Who makes the server wait: for a handshake, a head, a body, a message, or for room for its answer. The
//! server gives up by its own settings; nobody here ever closes a connection first.

use super::{begun, fields, frame, heard, http2};
use crate::{
    runner_app::App,
    runners::{ON, beat, read, said},
    world::{SECRET, World, client},
};
use penstock_testkit::{until, until::DEADLINE};
use penstock_wire::worker_upload::{CREDENTIALS, TASK_ID, TRANSCODER_AUTHORIZATION};
use serde_json::json;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

const CLEAR: &str = "--service-addr=http://127.0.0.1:0";

async fn still_serves(world: &World) {
    until("it serves", || async {
        let asked = client().build().unwrap().get(format!("{}/healthz", world.service)).send();
        asked.await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn a_first_request_that_does_not_come_is_not_waited_for() {
    let secure = World::offchain(&["--peer-greeting-ms=1500"]).await;
    let clear = World::offchain(&[CLEAR, "--peer-greeting-ms=1500"]).await;
    // The begin of a handshake that says it is longer.
    let hello: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let unfinished = [http2(None), frame(1, 0, 1, &fields("/healthz"))].concat();
    let settings = http2(None);
    let beginnings = [
        (&secure, &b""[..]),
        (&secure, hello),
        (&clear, b""),
        (&clear, b"G"),
        (&clear, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        (&clear, b"PRI * HTTP/2.0\r\n"),
        (&clear, settings.as_slice()),
        // A head of which another piece is always to come.
        (&clear, unfinished.as_slice()),
    ];
    let mut ends = Vec::new();
    for (world, said) in beginnings {
        ends.push(heard(begun(&world.service, said).await));
    }
    let mut drip = begun(&clear.service, b"GET /healthz HTTP/1.1\r\nX-Slow: ").await;
    let drips = async {
        // For as long as anybody takes it.
        while drip.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let ended = async { tokio::join!(futures::future::join_all(ends), drips) };
    timeout(DEADLINE, ended).await.expect("all of them are closed");
    still_serves(&secure).await;
    still_serves(&clear).await;
}

#[tokio::test]
async fn who_wants_nothing_any_more_is_let_go() {
    let world = World::offchain(&[CLEAR, "--peer-idle-ms=1500"]).await;
    let one = begun(&world.service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let request = [http2(None), frame(1, 5, 1, &fields("/healthz"))].concat();
    let two = begun(&world.service, &request).await;
    let half = [request, frame(1, 0, 3, &fields("/healthz"))].concat();
    let half = begun(&world.service, &half).await;
    let (one, two, half) = tokio::join!(heard(one), heard(two), heard(half));
    assert!(String::from_utf8_lossy(&one).starts_with("HTTP/1.1 200"));
    for answer in [two, half] {
        assert!(
            answer.windows(5).any(|w| w == [1, 4, 0, 0, 0]),
            "headers of an answer: {answer:?}"
        );
    }
}

#[tokio::test]
async fn bodies_that_stop_and_bodies_without_an_end() {
    let settings =
        [&ON[..], &[CLEAR, "--peer-pause-ms=1500", "--max-ai-body-bytes=100000"]].concat();
    let world = World::offchain(&settings).await;
    let worker = format!(
        "Authorization: {TRANSCODER_AUTHORIZATION}\r\n{CREDENTIALS}: {SECRET}\r\n{TASK_ID}: 1\r\n\
         Content-Type: livepeer/transcoding-error\r\n"
    );
    let secret = format!("Authorization: {SECRET}\r\n");
    let mut ends = Vec::new();
    for (path, headers) in [
        ("/refresh-payment", ""),
        ("/runners/heartbeat", secret.as_str()),
        ("/capability/register", secret.as_str()),
        ("/transcodeResults", worker.as_str()),
    ] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 50\r\n\r\nbegun");
        let stream = begun(&world.service, head.as_bytes()).await;
        ends.push(async move { (path, heard(stream).await) });
    }
    for (path, answer) in futures::future::join_all(ends).await {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let expected = match path {
            // A worker's words that did not come are no reason to keep its job.
            "/transcodeResults" => "HTTP/1.1 200",
            _ => "HTTP/1.1 408",
        };
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }

    // The same over HTTP/2: a message that is announced and does not come, one that never ends.
    let http = client().http2_prior_knowledge().build().unwrap();
    let grpc = |body: reqwest::Body| {
        let request = http.post(format!("{}/net.Orchestrator/Ping", world.service));
        request.header("Content-Type", "application/grpc").header("TE", "trailers").body(body)
    };
    let half = futures::stream::iter([Ok::<_, Infallible>(vec![0, 0, 0, 0, 90, 1])]);
    let half = futures::StreamExt::chain(half, futures::stream::pending());
    let answer = grpc(reqwest::Body::wrap_stream(half)).send().await.unwrap();
    assert_ne!(answer.headers()["grpc-status"], "0");
    let endless = || {
        let pieces = std::iter::repeat_with(|| Ok::<_, Infallible>(vec![0xff; 16 * 1024]));
        reqwest::Body::wrap_stream(futures::stream::iter(pieces))
    };
    let answer = grpc(endless()).send().await.unwrap();
    assert_ne!(answer.headers()["grpc-status"], "0");
    for (path, authorization) in [
        ("/refresh-payment", ""),
        ("/runners/heartbeat", SECRET),
        ("/capability/register", SECRET),
        ("/live-video-to-video", ""),
    ] {
        let request = http.post(format!("{}{path}", world.service));
        let request = request.header("Authorization", authorization).body(endless());
        assert_eq!(read(request).await.0, 413, "{path}");
    }
    still_serves(&world).await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_taken_back() {
    let settings = ["--peer-stall-ms=1500", "--live-runner-idle-ms=86400000"];
    let settings = [&ON[..], &settings, &[CLEAR]].concat();
    let (world, app) = (World::offchain(&settings).await, App::start().await);
    assert_eq!(beat(&world, SECRET, &said("r", &app.url())).await.0, 200);
    let session = format!("{}/apps/r/session", world.service);
    let (_, session) = read(world.http.post(session)).await;
    let at = session["app_url"].as_str().unwrap();
    let path = &at[world.service.len()..];
    let nobody = || async { world.operator("/v1/runner-sessions").await[0]["open_requests"] == 0 };
    // A stream that has no room, on a connection that takes everything else.
    let mut get = fields(&format!("{path}/flood"));
    let request = [http2(Some(0)), frame(1, 5, 1, &get)].concat();
    let unread = begun(&world.service, &request).await;
    until("somebody is there", || async { !nobody().await }).await;
    let (mut from, mut to) = unread.into_split();
    let taking = tokio::spawn(async move {
        let mut heard = Vec::new();
        let _ = from.read_to_end(&mut heard).await;
        heard.len()
    });
    until("the stream is given up, and its call with it", nobody).await;
    assert!(timeout(DEADLINE, taking).await.unwrap().unwrap() < 64 * 1024);
    // The connection went with it.
    get.clear();
    until("nothing more is taken", || {
        let written = to.try_write(&frame(6, 0, 0, &[0; 8]));
        async move { written.is_err() }
    })
    .await;
    let _ = to.shutdown().await;
    // Over HTTP/1.1 there is the connection only.
    let request = format!("GET {path}/flood HTTP/1.1\r\nHost: x\r\n\r\n");
    let unread = begun(&world.service, request.as_bytes()).await;
    until("somebody is there", || async { !nobody().await }).await;
    until("the connection is given up", nobody).await;
    drop(unread);
    assert_eq!(read(world.http.get(format!("{at}/x"))).await.0, 200, "the session is there");
}

#[tokio::test]
async fn connections_are_counted() {
    let world = World::offchain(&[CLEAR, "--max-connections=5"]).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(begun(&world.service, b"").await);
    }
    assert_eq!(heard(begun(&world.service, b"").await).await, b"", "one too many");
    held.pop();
    still_serves(&world).await;
    assert_eq!(held.len(), 4);
}

#[tokio::test]
async fn requests_to_live_runners_are_counted_over_all_sessions() {
    let settings = [&ON[..], &["--max-open-runner-requests=2"]].concat();
    let (world, app) = (World::offchain(&settings).await, App::start().await);
    let mut facts = said("r", &app.url());
    facts["capacity"] = json!(3);
    assert_eq!(beat(&world, SECRET, &facts).await.0, 200);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let (_, session) = read(world.http.post(format!("{}/apps/r/session", world.service))).await;
        let url = format!("{}/wait", session["app_url"].as_str().unwrap());
        waiting.push(tokio::spawn(read(world.http.get(url))));
    }
    let open = || async {
        let all = world.operator("/v1/runner-sessions").await;
        all.as_array()
            .unwrap()
            .iter()
            .map(|s| s["open_requests"].as_u64().unwrap_or(0))
            .sum::<u64>()
    };
    until("both are there", || async { open().await == 2 }).await;
    let (_, session) = read(world.http.post(format!("{}/apps/r/session", world.service))).await;
    let url = format!("{}/x", session["app_url"].as_str().unwrap());
    let full =
        "no capacity available: 2 of 2 requests to live runners (--max-open-runner-requests)";
    assert_eq!(read(world.http.get(&url)).await, (503, json!(full)));
    app.gate.add_permits(2);
    for one in waiting {
        assert_eq!(one.await.unwrap().0, 200);
    }
    until("there is room", || async { read(world.http.get(&url)).await.0 == 200 }).await;
}
