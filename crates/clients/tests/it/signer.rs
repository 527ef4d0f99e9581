//! The signer client.

use crate::server;
use axum::{
    Json, Router,
    extract::RawQuery,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::{get, post},
};
use penstock_clients::{
    CallErrorKind, Fault, Next, Paid, PaymentContext, STATUS_NO_TICKETS, STATUS_PRICE_EXCEEDED,
    STATUS_REFRESH_SESSION, SignerClient, SignerOptions, Trust,
};
use penstock_domain::{Address, AuthId};
use penstock_wire::{
    header,
    json::{LivePaymentCall, PaymentState, SignOrchestratorInfo},
    net,
};
use serde_json::{Value, json};

fn signer(uri: &str) -> SignerClient {
    let options = SignerOptions {
        bearer_token: Some("hush".into()),
        headers: vec![("X-Extra".into(), "1".into())],
        trust: Trust::AcceptAny,
        ..SignerOptions::new(uri)
    };
    SignerClient::new(&options).unwrap()
}

#[tokio::test]
async fn who_pays() {
    let info = SignOrchestratorInfo { address: Address::repeat_byte(3), signature: vec![7; 65] };
    let body = info.to_json();
    let answer = move |headers: HeaderMap| async move {
        assert_eq!(headers["authorization"], "Bearer hush");
        assert_eq!(headers["x-extra"], "1");
        Json(body)
    };
    let server = server::tls(Router::new().route("/sign-orchestrator-info", post(answer))).await;
    // A path in the configured URL is dropped, as the SDK does.
    let client = signer(&format!("{}/some/path", server.uri));
    assert_eq!(client.sign_orchestrator_info().await.unwrap(), info);
}

#[tokio::test]
async fn payments_keep_the_state_as_it_came() {
    let answer = |headers: HeaderMap, Json(body): Json<Value>| async move {
        assert_eq!(headers["signer-auth-id"], "client:subject");
        assert_eq!(headers["idempotency-key"], "k1");
        assert_eq!(body["orchestrator"], "b2ZmZXI=");
        assert_eq!(body["inPixels"], 1000);
        let seen = body.get("state").cloned().unwrap_or_default();
        let body = json!({
            "payment":"cA==","segCreds":"c2M=","state":{"State":"AQ==","Sig":"Ag==","seen":seen}
        });
        let told = [("penstock-billed-units", "990"), ("penstock-replayed", "true")];
        // Other signers tell neither.
        if seen.is_null() { (told, Json(body)).into_response() } else { Json(body).into_response() }
    };
    let server = server::clear(Router::new().route("/generate-live-payment", post(answer))).await;
    let client = signer(&server.uri);
    let auth_id = AuthId::new("client:subject").unwrap();
    let context =
        PaymentContext { auth_id: Some(&auth_id), idempotency_key: Some("k1"), traceparent: None };
    let call = LivePaymentCall { orchestrator: b"offer", in_pixels: 1000, ..Default::default() };
    let signed = client.generate_live_payment(&call, context).await.unwrap();
    assert_eq!((signed.billed_units, signed.replayed), (Some(990), true));
    let first = signed.answer;
    assert_eq!((first.payment.as_str(), first.seg_creds.as_str()), ("cA==", "c2M="));
    let call = LivePaymentCall { state: Some(&first.state), manifest_id: "m", ..call };
    let second = client.generate_live_payment(&call, context).await.unwrap();
    assert_eq!(second.answer.state.as_value()["seen"], first.state.as_value());
    assert_eq!((second.billed_units, second.replayed), (None, false));
}

#[tokio::test]
async fn segment_credentials() {
    let answer = |Json(body): Json<Value>| async move {
        let segment = header::decode_segment(body["segment"].as_str().unwrap()).unwrap();
        assert_eq!(body["state"]["State"], "AQ==");
        let signed = net::SegData { sig: vec![1; 65], ..segment };
        Json(json!({ "segCreds": header::encode_segment(&signed) }))
    };
    let server =
        server::clear(Router::new().route("/sign-segment-credentials", post(answer))).await;
    let state = PaymentState::new(json!({"State":"AQ==","Sig":"Ag=="})).unwrap();
    let unsigned = net::SegData { seq: 5, ..Default::default() };
    let text = signer(&server.uri)
        .sign_segment_credentials(&state, &unsigned, PaymentContext::default())
        .await
        .unwrap();
    let signed = header::decode_segment(&text).unwrap();
    assert_eq!((signed.seq, signed.sig.len()), (5, 65));
}

#[tokio::test]
async fn discovery_with_capabilities() {
    let answer = |RawQuery(query): RawQuery| async move {
        assert_eq!(query.unwrap(), "caps=audio-to-text%2Fa%26b&caps=llm%2Fm");
        r#"[{"address":"https://o:8935","score":1,"capabilities":["audio-to-text/a&b"]}]"#
    };
    let server = server::clear(Router::new().route("/discover-orchestrators", get(answer))).await;
    let list =
        signer(&server.uri).discover_orchestrators(&["audio-to-text/a&b", "llm/m"]).await.unwrap();
    assert_eq!((list[0].address.as_str(), list[0].score), ("https://o:8935", 1.0));
}

#[tokio::test]
async fn statuses_of_the_protocol() {
    async fn refuse(headers: HeaderMap) -> impl IntoResponse {
        let status: u16 = headers["idempotency-key"].to_str().unwrap().parse().unwrap();
        let body = json!({"error":{"message":format!("because {status}"),"code":"why"}});
        let status = StatusCode::from_u16(status).unwrap();
        (status, [("retry-after", "3")], Json(body))
    }
    let server = server::clear(Router::new().route("/generate-live-payment", post(refuse))).await;
    let client = signer(&server.uri);
    for (status, fault, next) in [
        (STATUS_REFRESH_SESSION, Fault::Peer, Next::Refresh),
        (STATUS_PRICE_EXCEEDED, Fault::Peer, Next::PriceTooHigh),
        (STATUS_NO_TICKETS, Fault::Us, Next::NoTickets),
        (400, Fault::Us, Next::GiveUp),
        (401, Fault::Us, Next::GiveUp),
        (409, Fault::Us, Next::GiveUp),
        (503, Fault::Peer, Next::RetrySame),
    ] {
        let key = status.to_string();
        let context = PaymentContext { idempotency_key: Some(&key), ..Default::default() };
        let error =
            client.generate_live_payment(&LivePaymentCall::default(), context).await.unwrap_err();
        assert_eq!(
            (error.fault(), error.next(), error.paid()),
            (fault, next, Paid::No),
            "{status}"
        );
        assert_eq!(error.message(), format!("because {status}"));
        let CallErrorKind::Status { code, retry_after_s, .. } = error.kind else { panic!() };
        assert_eq!((code.as_deref(), retry_after_s), (Some("why"), Some(3)));
    }
}

#[tokio::test]
async fn answers_that_are_none() {
    let router = Router::new()
        .route("/generate-live-payment", post(|| async { r#"{"payment":"cA=="}"# }))
        .route("/discover-orchestrators", get(|| async { "{}" }))
        .route("/sign-orchestrator-info", post(|| async { vec![b' '; 1_000_000] }));
    let server = server::clear(router).await;
    let client = signer(&server.uri);
    let call = LivePaymentCall::default();
    let payment = client.generate_live_payment(&call, PaymentContext::default()).await;
    assert!(matches!(payment.unwrap_err().kind, CallErrorKind::Answer(_)));
    let list = client.discover_orchestrators(&[]).await;
    assert!(matches!(list.unwrap_err().kind, CallErrorKind::Answer(_)));
    let info = client.sign_orchestrator_info().await;
    assert!(matches!(info.unwrap_err().kind, CallErrorKind::AnswerTooLong { .. }));

    let gone = signer(&format!("http://{}", server::nobody().await));
    let error = gone.sign_orchestrator_info().await.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Connect(_)));
    assert_eq!((error.fault(), error.next()), (Fault::Network, Next::RetrySame));
    let shown = format!("{:?} {gone:?}", SignerOptions::new("http://x"));
    assert!(!shown.contains("hush"));
}
