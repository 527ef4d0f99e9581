//! `/metrics` in Prometheus' text form.

use crate::health::{self, Answer, Watched};
use axum::{Router, response::IntoResponse, routing::get};
use http::header;
use std::sync::Arc;

/// `GET /metrics`, beside `/healthz` and `/readyz`; `render` is the recorder's own printing. Readiness is among the
/// metrics: looked at when they are read, and so never old.
pub fn router<S, F, R>(ready: R, render: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> String + Send + Sync + 'static,
    R: Fn() -> Answer + Clone + Send + Sync + 'static,
{
    let (render, watched) = (Arc::new(render), Arc::new(Watched::default()));
    let looked_at = ready.clone();
    let metrics = move || {
        let (render, watched) = (Arc::clone(&render), Arc::clone(&watched));
        let ready = looked_at();
        async move {
            watched.look(ready).await;
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render()).into_response()
        }
    };
    health::router(ready).route("/metrics", get(metrics))
}
