//! `/healthz` (the process is alive) and `/readyz` (it can do its work now).

use axum::{Json, Router, response::IntoResponse, routing::get};
use futures::future::BoxFuture;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// A dependency that keeps this process from working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// What is missing: `signer`, `ledger`, `chain`, `runner`…
    pub dependency: String,
    /// Why, and which setting to look at.
    pub reason: String,
}

impl NotReady {
    /// One missing dependency.
    pub fn new(dependency: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { dependency: dependency.into(), reason: reason.into() }
    }
}

/// The answer of a readiness check.
pub type Readiness = Result<(), Vec<NotReady>>;

/// `GET /healthz` → 200 always; `GET /readyz` → 200, or 503 with the list of what is missing.
/// `ready` must answer quickly from what the process already knows.
pub fn router<S, F>(ready: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> BoxFuture<'static, Readiness> + Send + Sync + 'static,
{
    let ready = Arc::new(ready);
    let readyz = move || {
        let ready = Arc::clone(&ready);
        async move {
            match ready().await {
                Ok(()) => (StatusCode::OK, Json(json!({ "ready": true }))).into_response(),
                Err(missing) => {
                    let body = Json(json!({ "ready": false, "missing": missing }));
                    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
                }
            }
        }
    };
    Router::new()
        .route("/healthz", get(|| async { Json(json!({ "alive": true })) }))
        .route("/readyz", get(readyz))
}
