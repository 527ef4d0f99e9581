//! `POST /segment`, `POST /payment` and AI jobs.

use crate::{
    orchestrator::{AMPLE, client, headers, info},
    server,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Multipart,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use penstock_clients::{
    AiBody, AiLimits, CallErrorKind, Fault, Next, Paid, SegmentBody, SegmentTimeouts, multipart,
};
use penstock_domain::Capability;
use penstock_wire::net::{self, transcode_result};
use prost::Message;
use std::{convert::Infallible, time::Duration};

const TIMEOUTS: SegmentTimeouts = SegmentTimeouts { head: AMPLE, whole: AMPLE };

fn result(result: transcode_result::Result) -> Vec<u8> {
    let info = Some(info("https://o:8935"));
    net::TranscodeResult { seq: 7, info, result: Some(result) }.encode_to_vec()
}

fn data(url: &str) -> Vec<u8> {
    let segment = net::TranscodedSegmentData { url: url.into(), pixels: 42, ..Default::default() };
    result(transcode_result::Result::Data(net::TranscodeData {
        segments: vec![segment],
        sig: vec![1; 65],
    }))
}

async fn segment(
    router: Router,
) -> Result<penstock_clients::SegmentAnswer, penstock_clients::CallError> {
    let server = server::tls(router).await;
    let body = SegmentBody::Data("segment bytes".into());
    client().submit_segment(&server.uri, &headers(), body, TIMEOUTS).await
}

fn answering(status: u16, body: impl Into<Bytes>) -> Router {
    let (status, body) = (StatusCode::from_u16(status).unwrap(), body.into());
    Router::new().route("/segment", post(move || async move { (status, body) }))
}

#[tokio::test]
async fn a_segment_goes_out_whole_and_its_result_comes_back() {
    let check = |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["livepeer-payment"], "cGF5");
        assert_eq!(headers["livepeer-segment"], "c2Vn");
        assert_eq!(headers["content-type"], "video/MP2T");
        assert!(headers["traceparent"].to_str().unwrap().starts_with("00-0af7"));
        assert_eq!(body.len(), 3_000_000);
        data("/stream/a1b2c3d4/P240p30fps16x9/7.ts")
    };
    let router = Router::new()
        .route("/segment", post(check))
        .layer(axum::extract::DefaultBodyLimit::disable());
    let server = server::tls(router).await;
    let chunks = (0..300).map(|_| Ok::<_, Infallible>(Bytes::from(vec![9u8; 10_000])));
    let body = penstock_clients::Body::wrap_stream(futures::stream::iter(chunks));
    let answer = client()
        .submit_segment(&server.uri, &headers(), SegmentBody::Data(body), TIMEOUTS)
        .await
        .unwrap();
    assert_eq!(answer.seq, 7);
    assert_eq!(answer.renditions[0].pixels, 42);
    let url = format!("{}/stream/a1b2c3d4/P240p30fps16x9/7.ts", server.uri);
    assert_eq!(answer.renditions[0].url, url);
    let (offer, encoded) = answer.offer.unwrap();
    assert_eq!(offer.auth_token.unwrap().session_id, "a1b2c3d4");
    assert_eq!(encoded, info("https://o:8935").encode_to_vec());
}

#[tokio::test]
async fn a_segment_by_url() {
    let check = |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/vnd+livepeer.uri");
        assert_eq!(body, "https://store/7.ts");
        data("https://store/out.ts")
    };
    let server = server::clear(Router::new().route("/segment", post(check))).await;
    let body = SegmentBody::Url("https://store/7.ts".into());
    let answer = client().submit_segment(&server.uri, &headers(), body, TIMEOUTS).await.unwrap();
    assert_eq!(answer.renditions[0].url, "https://store/out.ts");
}

#[tokio::test]
async fn refused_segments_say_what_to_do() {
    for (status, text, next, paid) in [
        (400, "TicketParams expired\n", Next::Refresh, Paid::Maybe),
        (400, "Insufficient balance\n", Next::BuyMore, Paid::Yes),
        (403, "expired auth token\n", Next::Refresh, Paid::No),
        (403, "OrchestratorCapped\n", Next::Busy, Paid::No),
        (402, "base64 decode error\n", Next::Elsewhere, Paid::No),
        (500, "Internal Server Error\n", Next::Elsewhere, Paid::Maybe),
    ] {
        let error = segment(answering(status, text)).await.unwrap_err();
        assert_eq!((error.next(), error.paid()), (next, paid), "{text}");
        assert_eq!((error.status(), error.message()), (Some(status), text.trim().to_owned()));
    }
}

#[tokio::test]
async fn failures_inside_the_result() {
    let job = |text: &str| result(transcode_result::Result::Error(text.into()));
    let error = segment(answering(200, job("No keyframes in input"))).await.unwrap_err();
    assert_eq!((error.fault(), error.next(), error.paid()), (Fault::Job, Next::Reject, Paid::Yes));
    let error = segment(answering(200, job("OrchestratorBusy"))).await.unwrap_err();
    assert_eq!(error.next(), Next::Busy);
    let error = segment(answering(200, Vec::new())).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::NoResult));
    let error = segment(answering(200, vec![0xff; 10])).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Answer(_)));
    let error = segment(answering(200, vec![0; 3 * 1024 * 1024])).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::AnswerTooLong { .. }));
    assert_eq!(error.paid(), Paid::Maybe);
}

#[tokio::test]
async fn silence_before_and_within_the_answer() {
    let never = Router::new().route("/segment", post(std::future::pending::<&'static str>));
    let server = server::tls(never).await;
    let short = SegmentTimeouts { head: Duration::from_millis(50), whole: AMPLE };
    let body = || SegmentBody::Data("x".into());
    let client = client();
    let error = client.submit_segment(&server.uri, &headers(), body(), short).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::HeaderTimeout), "{error:?}");
    assert_eq!((error.next(), error.paid()), (Next::Elsewhere, Paid::Maybe));
    assert!(error.kind.to_string().starts_with("header timeout"));

    // As a real orchestrator does: 200 is flushed, the result comes later, here never.
    let head_only = Router::new().route(
        "/segment",
        post(|| async {
            Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>())
        }),
    );
    let server = server::tls(head_only).await;
    // The whole has to be longer than a busy machine takes for the head.
    let short = SegmentTimeouts { head: AMPLE, whole: Duration::from_secs(3) };
    let error = client.submit_segment(&server.uri, &headers(), body(), short).await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::BodyTimeout), "{error:?}");
    assert!(error.kind.to_string().starts_with("body timeout"));
}

#[tokio::test]
async fn headers_that_cannot_be_sent_are_our_fault() {
    let mut bad = headers();
    bad.payment = "a\nb".into();
    let error = client().pay("http://127.0.0.1:1", &bad).await.unwrap_err();
    assert_eq!((error.fault(), error.next(), error.paid()), (Fault::Us, Next::GiveUp, Paid::No));
}

#[tokio::test]
async fn a_payment_alone() {
    let check = |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["livepeer-payment"], "cGF5");
        assert!(body.is_empty());
        net::PaymentResult { info: Some(info("https://o:8935")) }.encode_to_vec()
    };
    let router = Router::new()
        .route("/payment", post(check))
        .route("/apps/r/session/a/payment", post(check))
        .route(
            "/refused/payment",
            post(|| async { (StatusCode::BAD_REQUEST, "invalid ticket senderNonce: 3") }),
        );
    let server = server::tls(router).await;
    let client = client();
    assert!(client.pay(&server.uri, &headers()).await.unwrap().is_some());
    let url = format!("{}/apps/r/session/a/payment", server.uri);
    assert!(client.pay_at(&url, &headers()).await.unwrap().is_some());
    let error = client.pay(&format!("{}/refused", server.uri), &headers()).await.unwrap_err();
    assert_eq!(error.next(), Next::Busy);
}

/// A signer makes up to 100 tickets at once; HTTP/2 servers limit header lists to 16 KiB.
#[tokio::test]
async fn a_hundred_tickets_fit_the_header() {
    let ticket = net::TicketSenderParams { sender_nonce: u32::MAX, sig: vec![0xff; 65] };
    let payment = net::Payment {
        ticket_params: Some(net::TicketParams {
            recipient: vec![1; 20],
            face_value: vec![1; 32],
            win_prob: vec![1; 32],
            recipient_rand_hash: vec![1; 32],
            seed: vec![1; 32],
            expiration_block: vec![1; 8],
            expiration_params: None,
        }),
        ticket_sender_params: vec![ticket; 100],
        ..Default::default()
    };
    let sent = penstock_wire::header::encode_payment(&payment);
    let expected = sent.clone();
    let check = move |headers: HeaderMap| async move {
        assert_eq!(headers["livepeer-payment"], expected);
        net::PaymentResult::default().encode_to_vec()
    };
    let server = server::tls(Router::new().route("/payment", post(check))).await;
    let mut headers = headers();
    headers.payment = sent;
    headers.segment = "A".repeat(2048);
    assert!(client().pay(&server.uri, &headers).await.unwrap().is_none());
}

#[tokio::test]
async fn an_ai_job_with_a_file() {
    async fn work(headers: HeaderMap, mut form: Multipart) -> impl IntoResponse {
        assert_eq!(headers["authorization"], "Livepeer-AI-Worker-1.0");
        let file = form.next_field().await.unwrap().unwrap();
        assert_eq!((file.name(), file.file_name()), (Some("audio"), Some("a.wav")));
        assert_eq!(file.bytes().await.unwrap(), "RIFF");
        let field = form.next_field().await.unwrap().unwrap();
        assert_eq!(field.name(), Some("model_id"));
        ([("content-type", "application/json")], r#"{"text":"hello","chunks":[]}"#)
    }
    let server = server::tls(Router::new().route("/audio-to-text", post(work))).await;
    // Put together before it is sent, and streamed.
    for file_bytes in [4, 4 << 20] {
        let file = multipart::Part::bytes(b"RIFF".as_slice()).file_name("a.wav");
        let form = multipart::Form::new().part("audio", file).text("model_id", "m");
        let answer = client()
            .ai_job(
                &server.uri,
                Capability::AudioToText,
                &headers(),
                AiBody::Multipart { form, file_bytes },
                AiLimits::default(),
            )
            .await
            .unwrap();
        let text: penstock_wire::json::TextAnswer =
            penstock_wire::json::AiResult::parse(&answer.body, 1000).unwrap();
        assert_eq!(text.text, "hello");
    }
}

#[tokio::test]
async fn ai_failures() {
    let json = [("content-type", "application/json")];
    let router = Router::new()
        .route("/llm", post(|| async { "not json" }))
        .route(
            "/upscale",
            post(|| async { (StatusCode::SERVICE_UNAVAILABLE, "insufficient capacity\n") }),
        )
        .route(
            "/audio-to-text",
            post(|| async {
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "audio-to-text container returned 400: bad file",
                )
            }),
        )
        .route("/text-to-image", post(move || async move { (json, vec![b' '; 2000]) }));
    let server = server::tls(router).await;
    let client = client();
    let run = async |capability| {
        let limits = AiLimits { timeout: AMPLE, max_bytes: 1000 };
        let body = AiBody::Json(Bytes::from_static(b"{}"));
        client.ai_job(&server.uri, capability, &headers(), body, limits).await.unwrap_err()
    };
    assert!(matches!(run(Capability::Llm).await.kind, CallErrorKind::Answer(_)));
    let full = run(Capability::Upscale).await;
    assert_eq!((full.next(), full.paid()), (Next::Busy, Paid::No));
    let refused = run(Capability::AudioToText).await;
    assert_eq!((refused.fault(), refused.next()), (Fault::Job, Next::Reject));
    let large = run(Capability::TextToImage).await;
    assert!(matches!(large.kind, CallErrorKind::AnswerTooLong { max: 1000 }));
    assert_eq!(run(Capability::ImageToText).await.status(), Some(404));
}
