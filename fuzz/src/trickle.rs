//! Paths of trickle requests, at a server that has a channel.

use crate::text;
use axum::body::Body;
use futures::FutureExt as _;
use http::Request;
use penstock_trickle::{Position, Settings, TrickleServer};
use tower::ServiceExt as _;

/// `METHOD PATH`, one a line, at one server.
pub fn path(data: &[u8]) -> bool {
    let Some(text) = text(data) else { return false };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position), "an index is read as another one");
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return false;
    };
    let _inside = runtime.enter();
    let settings = Settings { autocreate: true, changefeed: true, ..Settings::default() };
    let Ok(server) = TrickleServer::new(settings) else { return false };
    let mut accepted = false;
    for line in text.lines().take(32) {
        let (method, path) = line.split_once(' ').unwrap_or(("GET", line));
        let request = Request::builder().method(method).uri(path);
        let Ok(request) = request.body(Body::from("data")) else { continue };
        // Who waits for a segment is not waited for.
        let answer = server.router().oneshot(request).now_or_never();
        accepted |= matches!(answer, Some(Ok(answer)) if answer.status().is_success());
    }
    server.stop();
    accepted
}
