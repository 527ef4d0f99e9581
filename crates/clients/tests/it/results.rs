//! Downloads: bounded, and never anywhere but where the URL says.

use crate::{
    orchestrator::{AMPLE, client},
    server,
};
use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    routing::get,
};
use penstock_clients::CallErrorKind;
use std::convert::Infallible;

#[tokio::test]
async fn whole_or_not_at_all() {
    let endless = || async {
        let chunk = || Ok::<_, Infallible>(Bytes::from_static(&[1; 1000]));
        Body::from_stream(futures::stream::repeat_with(chunk))
    };
    let router = Router::new()
        .route("/good.ts", get(|| async { vec![7u8; 1000] }))
        .route("/endless.ts", get(endless));
    let server = server::tls(router).await;
    let client = client();
    let fetch =
        async |path: &str, max| client.download(&format!("{}{path}", server.uri), max, AMPLE).await;
    assert_eq!(fetch("/good.ts", 1000).await.unwrap().len(), 1000);
    for (path, max) in [("/good.ts", 999), ("/endless.ts", 50_000)] {
        let error = fetch(path, max).await.unwrap_err();
        assert!(matches!(error.kind, CallErrorKind::AnswerTooLong { .. }), "{path}");
    }
    assert_eq!(fetch("/gone.ts", 10).await.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let router = Router::new()
        .route("/a", get(|| async { (StatusCode::FOUND, [("location", "/b")]) }))
        .route("/b", get(|| async { "secret" }));
    let server = server::clear(router).await;
    let error = client().download(&format!("{}/a", server.uri), 100, AMPLE).await.unwrap_err();
    assert_eq!(error.status(), Some(302));
}
