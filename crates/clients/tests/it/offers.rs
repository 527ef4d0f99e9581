//! `GetOrchestrator`, `Ping`, `EndTranscodingSession`, `/discovery`, certificates.

use crate::{
    orchestrator::{AMPLE, Fake, client, info},
    server,
};
use axum::{Router, routing::get};
use penstock_clients::{
    CallErrorKind, Fault, Next, OfferRequest, OrchestratorClient, OrchestratorOptions, Paid, Reach,
    Trust,
};
use penstock_domain::{Address, B256, Capabilities, Capability};
use penstock_wire::AuthToken;
use tonic::Status;

#[tokio::test]
async fn an_offer_over_self_signed_tls_and_in_clear() {
    let fake = Fake { info: info("https://o:8935"), ..Fake::default() };
    let (tls, clear) = (server::tls(fake.router()).await, server::clear(fake.router()).await);
    let client = client();
    let request = OfferRequest {
        address: Address::repeat_byte(9),
        sig: vec![7; 65],
        capabilities: Some(Capabilities::ai_job(Capability::AudioToText, "m", false)),
        ignore_capacity_check: true,
        traceparent: None,
    };
    for uri in [&tls.uri, &clear.uri] {
        let offered = client.get_orchestrator(uri, &request, Some(AMPLE)).await.unwrap();
        let price = offered.offer.price.unwrap();
        assert_eq!((price.price_per_unit(), price.pixels_per_unit()), (3, 2));
        let again = penstock_wire::OrchestratorOffer::decode(&offered.encoded).unwrap();
        assert_eq!(again, offered.offer);
    }
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].address.as_slice(), asked[0].sig.len()), (&[9u8; 20][..], 65));
    assert!(asked[0].ignore_capacity_check);
    let caps = penstock_wire::capabilities::read(asked[0].capabilities.as_ref().unwrap()).unwrap();
    assert!(caps.model(Capability::AudioToText, "m").is_some());
    assert!(client.pins().get(&tls.uri).is_some());
    assert!(client.pins().get(&clear.uri).is_none());
}

#[tokio::test]
async fn ping_and_end_of_session() {
    let fake = Fake::default();
    let server = server::tls(fake.router()).await;
    let client = client();
    let mut value = [0; 32];
    value[0] = 1;
    let pong = client.ping(&server.uri, B256::from(value)).await.unwrap();
    assert_eq!((pong.len(), pong[31]), (32, 1));
    let token = AuthToken { token: vec![5], session_id: "a1b2c3d4".into(), expiration_s: 7 };
    client.end_session(&server.uri, &token).await.unwrap();
    let ended = fake.ended.lock().unwrap();
    assert_eq!(ended[0].auth_token.as_ref().unwrap().session_id, "a1b2c3d4");
}

#[tokio::test]
async fn strict_trust_refuses_a_self_signed_certificate() {
    let router = Fake::default().router().route("/discovery", get(|| async { "[]" }));
    let server = server::tls(router).await;
    let strict = OrchestratorOptions { trust: Trust::System, ..OrchestratorOptions::default() };
    let strict = OrchestratorClient::new(strict).unwrap();
    let grpc = strict.get_orchestrator(&server.uri, &OfferRequest::default(), Some(AMPLE)).await;
    let http = strict.discovery(&server.uri).await;
    for error in [grpc.unwrap_err(), http.unwrap_err()] {
        assert!(matches!(error.kind, CallErrorKind::Connect(_)), "{error:?}");
        assert_eq!((error.fault(), error.next()), (Fault::Network, Next::Elsewhere));
        assert_eq!(error.paid(), Paid::No);
    }
    assert!(strict.pins().get(&server.uri).is_none());
    // The same server is fine for a client that accepts any.
    client().discovery(&server.uri).await.unwrap();
}

#[tokio::test]
async fn refusals_carry_the_nodes_words() {
    let full = Status::unknown("Invalid orchestrator request: OrchestratorCapped");
    let server = server::clear(Fake { refuse: Some(full), ..Fake::default() }.router()).await;
    let error = client().get_orchestrator(&server.uri, &OfferRequest::default(), Some(AMPLE)).await;
    let error = error.unwrap_err();
    assert_eq!(error.next(), Next::Busy);
    assert!(error.message().contains("OrchestratorCapped"));

    let sender =
        Status::unknown("insufficient sender reserve: 4 wei of it can stand behind a ticket here");
    let server = server::clear(Fake { refuse: Some(sender), ..Fake::default() }.router()).await;
    let error = client().get_orchestrator(&server.uri, &OfferRequest::default(), Some(AMPLE)).await;
    assert_eq!(error.unwrap_err().next(), Next::Elsewhere);
}

#[tokio::test]
async fn nobody_there_is_the_network() {
    let uri = format!("https://{}", server::nobody().await);
    let client = client();
    let grpc = client.get_orchestrator(&uri, &OfferRequest::default(), Some(AMPLE)).await;
    let http = client.discovery(&uri).await;
    for error in [grpc.unwrap_err(), http.unwrap_err()] {
        assert!(matches!(error.kind, CallErrorKind::Connect(_)), "{error:?}");
        assert_eq!(error.peer, uri);
    }
}

#[tokio::test]
async fn an_impossible_offer_is_refused_at_the_door() {
    let mut bad = info("https://o:8935");
    bad.address = vec![1; 19];
    let server = server::clear(Fake { info: bad, ..Fake::default() }.router()).await;
    let error = client().get_orchestrator(&server.uri, &OfferRequest::default(), Some(AMPLE)).await;
    let error = error.unwrap_err();
    assert!(matches!(error.kind, CallErrorKind::Answer(_)));
    assert_eq!((error.fault(), error.next()), (Fault::Peer, Next::Elsewhere));
}

#[tokio::test]
async fn peers_may_not_lead_into_our_network() {
    let fake = Fake { info: info("https://o:8935"), ..Fake::default() };
    let server = server::clear(fake.router().route("/x", get(|| async { "x" }))).await;
    let public = OrchestratorOptions { reach: Reach::PublicOnly, ..OrchestratorOptions::default() };
    let public = OrchestratorClient::new(public).unwrap();
    let named = format!("http://localhost:{}", server.addr.port());
    for uri in [&server.uri, &named] {
        let grpc = public.get_orchestrator(uri, &OfferRequest::default(), Some(AMPLE)).await;
        let download = public.download(&format!("{uri}/x"), 10, AMPLE).await;
        for error in [grpc.map(|_| ()).unwrap_err(), download.map(|_| ()).unwrap_err()] {
            let refused = matches!(error.kind, CallErrorKind::Url(_) | CallErrorKind::Connect(_));
            assert!(refused, "{error:?}");
            assert!(
                error.kind.to_string().contains("public address"),
                "refused for another reason: {}",
                error.kind
            );
        }
    }
    assert!(fake.asked.lock().unwrap().is_empty());
    for uri in ["file:///etc/passwd", "not a url", "ftp://o/x"] {
        let error = client().download(uri, 10, AMPLE).await.unwrap_err();
        assert!(matches!(error.kind, CallErrorKind::Url(_)), "{uri}");
    }
}

/// A Go orchestrator makes a new certificate at each start: the channel connects again, and the
/// change is counted.
#[tokio::test]
async fn a_restarted_orchestrator_is_found_again_and_its_new_pin_noted() {
    let fake = Fake { info: info("https://o:8935"), ..Fake::default() };
    let first = server::tls(fake.router()).await;
    let relay = server::Relay::to(first.addr).await;
    let uri = format!("https://{}", relay.addr);
    let client = client();
    let request = OfferRequest::default();
    let ask = || client.get_orchestrator(&uri, &request, Some(AMPLE));
    ask().await.unwrap();
    let pin = client.pins().get(&uri).unwrap();
    let second = server::tls(fake.router()).await;
    relay.point_at(second.addr);
    drop(first);
    // The call during which the old connection turns out to be dead may fail; none after it.
    if ask().await.is_err() {
        ask().await.unwrap();
    }
    // A graceful shutdown may have let the first connection finish a few more calls.
    for _ in 0..1000 {
        if client.pins().get(&uri) != Some(pin) {
            break;
        }
        let _ = ask().await;
    }
    assert_eq!(client.pins().changes(), 1);
}

#[tokio::test]
async fn discovery_lists_runners() {
    let list = r#"[{"address":"https://o:8935","runners":[{"url":"https://r","app":"a"}]}]"#;
    let router = Router::new().route("/discovery", get(move || async move { list }));
    let server = server::tls(router).await;
    // A service URI may end with a slash.
    let entries = client().discovery(&format!("{}/", server.uri)).await.unwrap();
    assert_eq!(entries[0].runners[0].app, "a");
}

/// With strict pins the same orchestrator under another certificate is refused, over gRPC and HTTP,
/// and the others of its host are not.
#[tokio::test]
async fn strict_pins_refuse_another_certificate() {
    let router = || {
        let fake = Fake { info: info("https://o:8935"), ..Fake::default() };
        fake.router().route("/discovery", get(|| async { "[]" }))
    };
    let (first, second) = (server::tls(router()).await, server::tls(router()).await);
    let relay = server::Relay::to(first.addr).await;
    let uri = format!("https://{}", relay.addr);
    let pins = std::sync::Arc::new(penstock_clients::Pins::strict());
    let strict = || {
        let pins = std::sync::Arc::clone(&pins);
        OrchestratorClient::new(OrchestratorOptions { pins, ..OrchestratorOptions::default() })
    };
    let request = OfferRequest::default();
    let client = strict().unwrap();
    client.get_orchestrator(&uri, &request, Some(AMPLE)).await.unwrap();
    client.get_orchestrator(&first.uri, &request, Some(AMPLE)).await.unwrap();
    client.discovery(&uri).await.unwrap();
    relay.point_at(second.addr);
    // A client of its own makes connections of its own; what was seen is shared.
    let client = strict().unwrap();
    let grpc = client.get_orchestrator(&uri, &request, Some(AMPLE)).await.map(drop);
    let http = client.discovery(&uri).await.map(drop);
    for refused in [grpc, http] {
        let error = refused.unwrap_err();
        assert!(matches!(error.kind, CallErrorKind::Connect(_)), "{error:?}");
        assert_eq!(error.paid(), Paid::No);
    }
    client.get_orchestrator(&first.uri, &request, Some(AMPLE)).await.unwrap();
}
