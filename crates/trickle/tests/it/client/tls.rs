//! Certificates: checked unless told otherwise, and HTTP/1.1 either way.

use super::{bytes, read};
use penstock_clients::{Reach, Trust};
use penstock_http_kit::{
    serve::{Options, bind, serve_with},
    tls::{TlsFiles, TlsServer},
};
use penstock_testkit::certificates::Authority;
use penstock_trickle::{
    Seq, Settings, TrickleServer,
    client::{
        ClientError, Publisher, PublisherOptions, Start, Subscriber, SubscriberOptions, http,
    },
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// TestTrickle_TLSDefaultValidatesCertificates,
/// TestTrickle_InsecureSkipVerifyAllowsSelfSignedCertificates
#[tokio::test]
async fn a_certificate_is_checked_unless_any_is_accepted() {
    penstock_http_kit::tls::install_crypto_provider();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let folder = tempfile::tempdir().unwrap();
    ours.pair().write(folder.path());
    let files = TlsFiles {
        cert: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
        client_ca: None,
        client_certificates: Default::default(),
    };
    let trickle = TrickleServer::new(Settings::default()).unwrap();
    trickle.create("c", "text/plain").unwrap();
    let listener = bind("127.0.0.1:0".parse().unwrap(), "port").await.unwrap();
    let url = format!("https://{}/c", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let options = Options { tls: Some(TlsServer::load(files).unwrap()), ..Options::default() };
    tokio::spawn(serve_with(listener, trickle.router(), stop, Duration::ZERO, options));

    let trusting = |authority: &Authority| {
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, &authority.pem).unwrap();
        Trust::roots_from_file(&path).unwrap()
    };
    let trusts = [(trusting(&other), false), (trusting(&ours), true), (Trust::AcceptAny, true)];
    for (number, (trust, works)) in trusts.into_iter().enumerate() {
        let http = http(trust, Reach::Anywhere).unwrap();
        let publish =
            PublisherOptions { start: Start::At(number_of(number)), ..Default::default() };
        let mut publisher = Publisher::open(http.clone(), &url, publish).await.unwrap();
        let written = publisher.write(bytes("hello")).await;
        let subscribe = SubscriberOptions {
            start: number_of(number).into(),
            max_failures: 0,
            ..SubscriberOptions::default()
        };
        let mut subscriber = Subscriber::new(http, &url, subscribe).unwrap();
        if works {
            written.unwrap();
            assert_eq!(read(&mut subscriber).await.unwrap().1, "hello");
            continue;
        }
        for error in [written.unwrap_err(), read(&mut subscriber).await.unwrap_err()] {
            assert!(matches!(error, ClientError::Connect(_)), "{error:?}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    }
}

fn number_of(number: usize) -> Seq {
    Seq::new(number as u64).unwrap()
}
