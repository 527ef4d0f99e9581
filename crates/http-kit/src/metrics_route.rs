//! `/metrics` in Prometheus' text form.

use axum::{Router, response::IntoResponse, routing::get};
use http::header;
use std::sync::Arc;

/// `GET /metrics`; `render` is the recorder's own printing.
pub fn router<S, F>(render: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> String + Send + Sync + 'static,
{
    let render = Arc::new(render);
    let metrics = move || {
        let render = Arc::clone(&render);
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render()).into_response() }
    };
    Router::new().route("/metrics", get(metrics))
}
