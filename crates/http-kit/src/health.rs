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
    /// The process does its work without it, less well.
    #[serde(skip)]
    pub is_degraded: bool,
}

impl NotReady {
    /// One missing dependency.
    pub fn new(dependency: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { dependency: dependency.into(), reason: reason.into(), is_degraded: false }
    }

    /// One without which the process works less well: it is told, and the process is ready.
    pub fn degraded(dependency: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { is_degraded: true, ..Self::new(dependency, reason) }
    }
}

/// The answer of a readiness check.
pub type Readiness = Result<(), Vec<NotReady>>;

/// `GET /healthz` → 200 always; `GET /readyz` → 200, with what is degraded if anything is, or 503 with the
/// list of what is missing.
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
                Err(missing) if missing.iter().all(|one| one.is_degraded) => {
                    let body = Json(json!({ "ready": true, "degraded": missing }));
                    (StatusCode::OK, body).into_response()
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use http::Request;
    use tower::ServiceExt as _;

    async fn readyz(missing: Vec<NotReady>) -> (u16, serde_json::Value) {
        let ready = move || -> BoxFuture<'static, Readiness> {
            let missing = missing.clone();
            Box::pin(async { if missing.is_empty() { Ok(()) } else { Err(missing) } })
        };
        let request = Request::get("/readyz").body(axum::body::Body::empty()).unwrap();
        let answer = router::<(), _>(ready).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 4096).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_is_degraded_is_told_and_does_not_stop_the_work() {
        assert_eq!(readyz(vec![]).await, (200, json!({ "ready": true })));
        let (slow, gone) = (NotReady::degraded("a", "slow"), NotReady::new("b", "gone"));
        let told = json!({ "ready": true, "degraded": [{ "dependency": "a", "reason": "slow" }] });
        assert_eq!(readyz(vec![slow.clone()]).await, (200, told));
        let (status, told) = readyz(vec![slow, gone]).await;
        assert_eq!((status, &told["missing"][1]["dependency"]), (503, &json!("b")));
    }
}
