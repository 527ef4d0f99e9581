//! Bad input at every endpoint: a documented 4xx, and nothing changes.

use crate::{
    payer::{Headers, Payer, answer, empty, post},
    world::World,
};
use penstock_wire::header;
use proptest::prelude::*;
use reqwest::Method;
use serde_json::Value;

async fn books(world: &World) -> (Value, Value) {
    (world.operator("/v1/summary").await, world.operator("/v1/accounts").await)
}

#[tokio::test]
async fn broken_headers() {
    let world = World::paid(100_000).await;
    let payer = Payer::funded(&world).await;
    let info = payer.info(&world, None).await.unwrap();
    let payment = payer.payment(&info, &[1]).await;
    let good = payer.headers(&payment, &empty(&info, "manifest")).await;
    let before = books(&world).await;
    let bytes = header::from_base64("p", &good.payment, 1 << 20).unwrap();
    let cut = header::to_base64(&bytes[..bytes.len() - 3]);
    let mut bad_payments = vec![
        ("!!!".to_owned(), "base64 decode error"),
        (good.payment.replacen('A', "-", 1), "base64 decode error"),
        (cut, "protobuf unmarshal error"),
        (header::to_base64([0xff; 50]), "protobuf unmarshal error"),
        ("A".repeat(129 * 1024), "longer than"),
    ];
    let mut message = payment.to_message();
    message.sender = vec![1; 21];
    bad_payments.push((header::encode_payment(&message), "invalid sender"));
    let mut message = payment.to_message();
    message.ticket_params.as_mut().unwrap().face_value = vec![1; 33];
    bad_payments.push((header::encode_payment(&message), "invalid face value"));
    for path in ["/payment", "/segment", "/audio-to-text", "/llm"] {
        for (payment, text) in &bad_payments {
            let headers = Headers { payment: payment.clone(), segment: good.segment.clone() };
            let (status, said) = answer(post(&world, path, &headers)).await;
            assert_eq!(status, 402, "{path}: {said}");
            assert!(said.contains(text), "{path}: {said}");
        }
        for segment in ["", "!!!", &header::to_base64([0xff; 50]), &good.segment[..20]] {
            let headers = Headers { payment: good.payment.clone(), segment: segment.to_owned() };
            let (status, said) = answer(post(&world, path, &headers)).await;
            assert_eq!(status, 403, "{path}: {said}");
        }
        // Without a payment the signer of the credential is nobody.
        let headers = Headers { payment: String::new(), segment: good.segment.clone() };
        assert_eq!(answer(post(&world, path, &headers)).await, (403, "ErrSegSig".into()));
    }
    let mut priced = payment.to_message();
    priced.expected_price.as_mut().unwrap().pixels_per_unit = 0;
    let headers =
        Headers { payment: header::encode_payment(&priced), segment: good.segment.clone() };
    let (status, said) = answer(post(&world, "/payment", &headers)).await;
    assert_eq!(status, 400);
    assert!(said.contains("pixels per unit is 0"), "{said}");
    assert_eq!(books(&world).await, before);
}

#[tokio::test]
async fn wrong_methods_paths_and_bodies() {
    let world = World::paid(100_000).await;
    let before = books(&world).await;
    for path in [
        "/segment",
        "/payment",
        "/refresh-payment",
        "/transcodeResults",
        "/aiResults",
        "/audio-to-text",
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let url = format!("{}{path}", world.service);
            let (status, _) = answer(world.http.request(method, url)).await;
            assert_eq!(status, 405, "{path}");
        }
    }
    for path in [
        "/stream/a/b",
        "/stream/a/b/c.ts",
        "/stream/a/%2Fsources/x.tempfile",
        "/stream/../../etc/passwd",
        "/v1/accounts",
    ] {
        let (status, _) = answer(world.http.get(format!("{}{path}", world.service))).await;
        assert_eq!(status, 404, "{path}");
    }
    let refresh =
        |body: Vec<u8>| world.http.post(format!("{}/refresh-payment", world.service)).body(body);
    for body in
        [&b""[..], b"null", b"[]", b"{", b"{\"sender\":1}", b"{\"sender\":\"0x\"}", &[0xff; 64]]
    {
        let response = refresh(body.to_vec()).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let envelope: Value = response.json().await.unwrap();
        assert!(envelope["error"]["message"].is_string());
    }
    assert_eq!(answer(refresh(vec![b' '; 5000])).await.0, 413);
    for path in ["/v1/accounts?limit=-1", "/v1/winners?limit=x", "/v1/nothing"] {
        let (status, _) = answer(world.http.get(format!("{}{path}", world.admin))).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    assert_eq!(books(&world).await, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Any bytes in the two headers, many at once over one server.
    #[test]
    fn any_headers_are_refused(pairs in prop::collection::vec(
        (prop::collection::vec(any::<u8>(), 0..80), prop::collection::vec(any::<u8>(), 0..80)), 40..60,
    )) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
            .block_on(async {
                let world = World::offchain(&[]).await;
                for (payment, segment) in pairs {
                    let headers = Headers {
                        payment: header::to_base64(payment),
                        segment: header::to_base64(segment),
                    };
                    let (status, said) = answer(post(&world, "/payment", &headers)).await;
                    assert!(matches!(status, 402 | 403), "{status} {said}");
                }
            });
    }
}
