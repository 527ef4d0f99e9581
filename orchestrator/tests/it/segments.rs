//! `POST /segment`, with a scripted worker on the other side.

use crate::{
    payer::{Headers, Payer, answer, post, segment, short, token},
    scripted_worker::{Transcoder, renditions, source, upload},
    world::{PIXEL_PRICE, World},
};
use penstock_domain::{Rational, keccak256};
use penstock_payments::{Signature, transcode_result_digest};
use penstock_testkit::{until, until::DEADLINE};
use penstock_wire::{header, net, net::orchestrator_client::OrchestratorClient};
use prost::Message;
use std::time::Instant;

const DATA: &[u8] = b"a segment of video, more or less";
const SMALL: &[u8] = b"rendition one, of enough bytes";
const LARGE: &[u8] = b"rendition two, of some more bytes still";

fn request(world: &World, headers: &Headers, data: &[u8]) -> reqwest::RequestBuilder {
    post(world, "/segment", headers)
        .header("Content-Type", header::CONTENT_SEGMENT)
        .body(data.to_vec())
}

/// Sends a segment; the answer comes when the worker has done it.
fn send(
    world: &World,
    headers: &Headers,
    data: &[u8],
) -> tokio::task::JoinHandle<net::TranscodeResult> {
    let request = request(world, headers, data);
    tokio::spawn(async move {
        let response = request.send().await.unwrap();
        let status = response.status();
        let body = response.bytes().await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        net::TranscodeResult::decode(body).unwrap()
    })
}

async fn paid(world: &World) -> (Payer, net::OrchestratorInfo, Headers) {
    let payer = Payer::funded(world).await;
    let info = payer.info(world, None).await.unwrap();
    let payment = payer.payment(&info, &[1, 2]).await;
    let headers = payer.headers(&payment, &segment(&info, 7, DATA)).await;
    (payer, info, headers)
}

fn data(result: net::TranscodeResult) -> net::TranscodeData {
    match result.result.unwrap() {
        net::transcode_result::Result::Data(data) => data,
        net::transcode_result::Result::Error(error) => panic!("{error}"),
    }
}

fn error(result: net::TranscodeResult) -> String {
    match result.result.unwrap() {
        net::transcode_result::Result::Data(_) => panic!("a result"),
        net::transcode_result::Result::Error(error) => error,
    }
}

#[tokio::test]
async fn a_paid_segment_comes_back_in_its_renditions() {
    let world = World::paid(100_000).await;
    let mut worker = Transcoder::register(&world, 4).await;
    let (payer, info, headers) = paid(&world).await;
    let session = token(&info).session_id;

    // The 200 is there before the work is done.
    let response = request(&world, &headers, DATA).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let job = worker.next().await;
    let told = job.seg_data.clone().unwrap();
    assert_eq!((told.seq, told.duration), (7, 2000));
    assert_eq!(told.hash, [0; 32]);
    assert!(told.sig.is_empty() && told.storage.is_empty());
    assert_eq!(told.full_profiles.len(), 2);
    assert_eq!(told.auth_token.as_ref().unwrap().session_id, session);
    assert_eq!(job.orch_id, world.recipient.to_string());
    assert_eq!(source(&world, &job.url).await, DATA);

    let parts = renditions(&[(SMALL, 100), (LARGE, 231)]);
    assert_eq!(answer(upload(&world, job.task_id, parts)).await, (200, "OK".into()));
    let result = net::TranscodeResult::decode(response.bytes().await.unwrap()).unwrap();
    assert_eq!(result.seq, 7);
    assert_eq!(result.info.as_ref().unwrap().auth_token, info.auth_token);
    let data = data(result);
    let hashes = [keccak256(SMALL), keccak256(LARGE)];
    Signature::from_slice(&data.sig)
        .unwrap()
        .verify(&transcode_result_digest(&hashes), world.recipient)
        .unwrap();
    let mut fetched = Vec::new();
    for rendition in &data.segments {
        let response = world.http.get(&rendition.url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "video/mp2t");
        fetched.push(response.bytes().await.unwrap());
    }
    assert_eq!(fetched, [SMALL, LARGE]);
    assert!(data.segments[0].url.ends_with(&format!("/stream/{session}/P240p30fps4x3/7.ts")));

    // The source is gone, and the fee is the pixels' price to the wei.
    assert_eq!(world.http.get(&job.url).send().await.unwrap().status(), 404);
    let summary = world.operator("/v1/summary").await;
    assert_eq!(summary["debited_wei"], (331 * PIXEL_PRICE).to_string());
    let credited: Rational = summary["credited_wei"].as_str().unwrap().parse().unwrap();
    let balance = world.balance(payer.signer.address(), &session).await;
    assert_eq!(balance, &credited - &Rational::from_int((331 * PIXEL_PRICE).into()));

    // A second segment is paid by what is left.
    let again = payer.headers(&payer.nothing(&info), &segment(&info, 8, DATA)).await;
    let waiting = send(&world, &again, DATA);
    let job = worker.next().await;
    upload(&world, job.task_id, renditions(&[(SMALL, 1), (LARGE, 1)])).send().await.unwrap();
    assert_eq!(self::data(waiting.await.unwrap()).segments.len(), 2);
    assert_eq!(world.operator("/v1/summary").await["debited_wei"], (333 * PIXEL_PRICE).to_string());
}

#[tokio::test]
async fn nothing_begins_without_enough_credit() {
    let world = World::paid(100_000).await;
    let mut worker = Transcoder::register(&world, 4).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let nothing = payer.nothing(&info);
    // What the request says about the price does not matter, and neither does silence.
    let free = penstock_domain::PriceInfo::new(0, 1).unwrap();
    for expected_price in [nothing.expected_price, Some(free), None] {
        let payment = penstock_wire::PaymentFields { expected_price, ..nothing.clone() };
        let headers = payer.headers(&payment, &segment(&info, 1, DATA)).await;
        assert_eq!(answer(request(&world, &headers, DATA)).await, short("0"));
    }
    // A job that costs more than the credit is done, and the next one is refused.
    let payment = payer.payment(&info, &[1]).await;
    let headers = payer.headers(&payment, &segment(&info, 2, DATA)).await;
    let waiting = send(&world, &headers, DATA);
    let job = worker.next().await;
    let dear = renditions(&[(SMALL, 1_000_000), (LARGE, 1_000_000)]);
    upload(&world, job.task_id, dear).send().await.unwrap();
    data(waiting.await.unwrap());
    let session = token(&info).session_id;
    let left = world.balance(payer.signer.address(), &session).await;
    assert!(left.is_negative());
    let headers = payer.headers(&nothing, &segment(&info, 3, DATA)).await;
    assert_eq!(answer(request(&world, &headers, DATA)).await, short(&left.floor().to_string()));
}

#[tokio::test]
async fn what_was_not_signed_is_forbidden() {
    let world = World::paid(100_000).await;
    let (payer, info, headers) = paid(&world).await;
    let wrong = answer(request(&world, &headers, b"other data")).await;
    assert_eq!(wrong, (403, "Forbidden".into()));
    // The payment was good all the same, and is kept.
    let session = token(&info).session_id;
    assert!(world.balance(payer.signer.address(), &session).await.is_positive());

    let spec = segment(&info, 1, DATA);
    let payment = payer.payment(&info, &[5]).await;
    let mut altered = spec.clone();
    altered.seq = 2;
    let signed = payer.sign(&spec).await;
    let message = altered.to_message(signed.sig.clone());
    let headers = Headers {
        payment: header::encode_payment(&payment.to_message()),
        segment: header::encode_segment(&message),
    };
    assert_eq!(answer(request(&world, &headers, DATA)).await, (403, "ErrSegSig".into()));

    let mut moved = spec.clone();
    moved.auth_token.as_mut().unwrap().expiration_s += 1;
    let headers = payer.headers(&payment, &moved).await;
    assert_eq!(answer(request(&world, &headers, DATA)).await, (403, "invalid auth token".into()));
    moved.auth_token = None;
    let headers = payer.headers(&payment, &moved).await;
    assert_eq!(answer(request(&world, &headers, DATA)).await, (403, "missing auth token".into()));
    let mut strange = spec.clone();
    strange.capabilities =
        Some(penstock_domain::Capabilities::of_set(penstock_domain::CapabilitySet::of([
            penstock_domain::Capability::Vp9Encode,
        ])));
    let headers = payer.headers(&payment, &strange).await;
    let refused = answer(request(&world, &headers, DATA)).await;
    assert_eq!(refused, (403, "incompatible capabilities".into()));
    let mut long = signed;
    long.duration = 300_001;
    let headers = Headers {
        payment: header::encode_payment(&payment.to_message()),
        segment: header::encode_segment(&long),
    };
    assert_eq!(answer(request(&world, &headers, DATA)).await, (403, "invalid duration".into()));
    assert_eq!(world.operator("/v1/summary").await["tickets"], 2, "row 10 was not reached");
}

#[tokio::test]
async fn errors_after_the_200_are_in_the_body() {
    let world = World::offchain(&[]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, DATA)).await;
    let none = send(&world, &headers, DATA).await.unwrap();
    assert_eq!(error(none), "no transcoders available");

    let mut worker = Transcoder::register(&world, 4).await;
    let bodies: [(Vec<u8>, &str); 3] = [
        (renditions(&[(SMALL, 1)]), "MismatchedSegments"),
        (renditions(&[(SMALL, 1), (b"tiny", 1)]), "ZeroSegments"),
        (b"no multipart at all".to_vec(), "incomplete multipart stream"),
    ];
    for (body, text) in bodies {
        let waiting = send(&world, &headers, DATA);
        let job = worker.next().await;
        upload(&world, job.task_id, body).send().await.unwrap();
        assert_eq!(error(waiting.await.unwrap()), text);
    }
    let waiting = send(&world, &headers, DATA);
    let job = worker.next().await;
    let failed = upload(&world, job.task_id, b"encoder on fire".to_vec())
        .header("Content-Type", "livepeer/transcoding-error");
    let request = failed.build().unwrap();
    let mut request = request;
    request.headers_mut().insert("content-type", "livepeer/transcoding-error".parse().unwrap());
    world.http.execute(request).await.unwrap();
    assert_eq!(error(waiting.await.unwrap()), "encoder on fire");
}

#[tokio::test]
async fn a_lost_worker_is_replaced_by_another() {
    let world = World::offchain(&[]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let mut first = Transcoder::register(&world, 1).await;
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, DATA)).await;
    let waiting = send(&world, &headers, DATA);
    let lost = first.next().await;
    let mut second = Transcoder::register(&world, 1).await;
    drop(first);
    let job = second.next().await;
    assert_ne!(job.task_id, lost.task_id);
    let late = upload(&world, lost.task_id, renditions(&[(LARGE, 9), (LARGE, 9)]));
    assert_eq!(answer(late).await, (200, "OK".into()), "late results are taken and forgotten");
    upload(&world, job.task_id, renditions(&[(SMALL, 1), (LARGE, 1)])).send().await.unwrap();
    assert_eq!(data(waiting.await.unwrap()).segments.len(), 2);
    world.workers(1).await;
}

#[tokio::test]
async fn sessions_are_limited_and_their_queues_short() {
    let world = World::offchain(&["--max-sessions=1"]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let other = payer.info(&world, None).await.unwrap();
    let mut worker = Transcoder::register(&world, 4).await;
    let nothing = payer.nothing(&info);
    let headers = payer.headers(&nothing, &segment(&info, 0, DATA)).await;
    let running = send(&world, &headers, DATA);
    let job = worker.next().await;
    let capped = payer.headers(&nothing, &segment(&other, 0, DATA)).await;
    assert_eq!(answer(request(&world, &capped, DATA)).await, (403, "OrchestratorCapped".into()));
    let refused = payer.info(&world, None).await.unwrap_err();
    assert!(refused.message().ends_with("OrchestratorCapped"));
    // Four may wait; of five more one is too many. Each has its 200 before it is queued or not.
    let waiting: Vec<_> = (0..5).map(|_| send(&world, &headers, DATA)).collect();
    let mut answers = waiting;
    let began = Instant::now();
    let busy = loop {
        assert!(began.elapsed() < DEADLINE, "nobody is refused");
        let done = answers.iter().position(tokio::task::JoinHandle::is_finished);
        if let Some(at) = done {
            break answers.remove(at).await.unwrap();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error(busy), "OrchestratorBusy");
    let body = || renditions(&[(SMALL, 1), (LARGE, 1)]);
    upload(&world, job.task_id, body()).send().await.unwrap();
    data(running.await.unwrap());
    for answer in answers {
        let job = worker.next().await;
        upload(&world, job.task_id, body()).send().await.unwrap();
        data(answer.await.unwrap());
    }
}

#[tokio::test]
async fn an_ended_session_takes_its_files_and_tells_the_worker() {
    let world = World::offchain(&["--max-sessions=1"]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let mut worker = Transcoder::register(&world, 4).await;
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, DATA)).await;
    let waiting = send(&world, &headers, DATA);
    let job = worker.next().await;
    upload(&world, job.task_id, renditions(&[(SMALL, 1), (LARGE, 1)])).send().await.unwrap();
    let url = data(waiting.await.unwrap()).segments[0].url.clone();
    assert_eq!(world.http.get(&url).send().await.unwrap().status(), 200);
    OrchestratorClient::new(world.grpc().await)
        .end_transcoding_session(net::EndTranscodingSessionRequest {
            auth_token: info.auth_token.clone(),
        })
        .await
        .unwrap();
    let teardown = worker.next().await;
    assert!(teardown.url.is_empty());
    assert_eq!(teardown.seg_data.unwrap().auth_token.unwrap().session_id, token(&info).session_id);
    assert_eq!(world.http.get(&url).send().await.unwrap().status(), 404);
    payer.info(&world, None).await.expect("there is room again");
}

#[tokio::test]
async fn idle_sessions_end_by_themselves() {
    let world = World::offchain(&["--max-sessions=1", "--session-idle-ms=1"]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, DATA)).await;
    error(send(&world, &headers, DATA).await.unwrap());
    until("there is room again", || async { payer.info(&world, None).await.is_ok() }).await;
}

#[tokio::test]
async fn segments_by_url_come_from_public_places_only() {
    let world = World::offchain(&[]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, DATA)).await;
    let by_url = |world: &World, url: &str| {
        post(world, "/segment", &headers)
            .header("Content-Type", header::CONTENT_URI)
            .body(url.to_owned())
    };
    let own = format!("{}/healthz", world.service);
    for url in [own.as_str(), "file:///etc/passwd", "http://[::1]:1/", "\u{fffd}", ""] {
        assert_eq!(answer(by_url(&world, url)).await, (400, "BadRequest".into()), "{url}");
    }
    let open = World::offchain(&["--allow-private-urls"]).await;
    let info = payer.info(&open, None).await.unwrap();
    let body = open.http.get(format!("{}/healthz", open.service)).send().await.unwrap();
    let body = body.bytes().await.unwrap();
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, &body)).await;
    let request = post(&open, "/segment", &headers)
        .header("Content-Type", header::CONTENT_URI)
        .body(format!("{}/healthz", open.service));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "the hash is that of the data, not of the URL");
}

#[tokio::test]
async fn work_under_way_is_finished_before_the_end() {
    let mut world = World::offchain(&[]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let mut worker = Transcoder::register(&world, 4).await;
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, DATA)).await;
    let waiting = send(&world, &headers, DATA);
    let job = worker.next().await;
    let stopped = world.stop();
    until("the orchestrator is stopping", || async {
        let ready = world.http.get(format!("{}/readyz", world.service)).send().await.unwrap();
        ready.status() == 503
    })
    .await;
    let refused = answer(request(&world, &headers, DATA)).await;
    assert_eq!(refused, (503, "OrchestratorCapped".into()));
    upload(&world, job.task_id, renditions(&[(SMALL, 1), (LARGE, 1)])).send().await.unwrap();
    assert_eq!(data(waiting.await.unwrap()).segments.len(), 2);
    assert!(worker.jobs.message().await.unwrap().is_none());
    stopped.await.unwrap();
}

#[tokio::test]
async fn segments_that_run_together_do_not_share_one_balance() {
    let world = World::paid(100_000).await;
    let mut worker = Transcoder::register(&world, 4).await;
    let (payer, info, headers) = paid(&world).await;
    let first = send(&world, &headers, DATA);
    let job = worker.next().await;
    let again = payer.headers(&payer.nothing(&info), &segment(&info, 8, DATA)).await;
    // What the first is expected to cost is not free.
    let (status, why) = answer(request(&world, &again, DATA)).await;
    assert!(status == 400 && why.contains(" of 1000 wei are free"), "{status} {why}");
    // Ending the session frees its place, not the money of what it still works on.
    OrchestratorClient::new(world.grpc().await)
        .end_transcoding_session(net::EndTranscodingSessionRequest {
            auth_token: info.auth_token.clone(),
        })
        .await
        .unwrap();
    assert_eq!(answer(request(&world, &again, DATA)).await, (status, why));
    assert!(worker.next().await.url.is_empty(), "the end of the session");
    upload(&world, job.task_id, renditions(&[(SMALL, 1), (LARGE, 1)])).send().await.unwrap();
    data(first.await.unwrap());
    let next = send(&world, &again, DATA);
    let job = worker.next().await;
    upload(&world, job.task_id, renditions(&[(SMALL, 1), (LARGE, 1)])).send().await.unwrap();
    data(next.await.unwrap());
}

#[tokio::test]
async fn downloads_and_uploads_share_the_memory_for_bodies() {
    // Room for 128 KiB of bodies.
    let world = World::offchain(&["--allow-private-urls", "--result-memory-bytes=131072"]).await;
    let payer = Payer::new(&world);
    let info = payer.info(&world, None).await.unwrap();
    let large = vec![7_u8; 200_000];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = large.clone();
    let files = axum::Router::new().fallback(move || async move { served });
    let server = tokio::spawn(async move { axum::serve(listener, files).await });
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 1, &large)).await;
    let by_url =
        post(&world, "/segment", &headers).header("Content-Type", header::CONTENT_URI).body(url);
    assert_eq!(answer(by_url).await, (503, "OrchestratorBusy".into()));
    server.abort();

    let mut worker = Transcoder::register(&world, 1).await;
    let headers = payer.headers(&payer.nothing(&info), &segment(&info, 2, DATA)).await;
    let waiting = send(&world, &headers, DATA);
    let job = worker.next().await;
    let upload = upload(&world, job.task_id, renditions(&[(&large, 1), (&large, 1)]));
    assert_eq!(answer(upload).await, (500, "OrchestratorBusy".into()));
    assert_eq!(error(waiting.await.unwrap()), "OrchestratorBusy");
}
