//! `/healthz` (the process is alive) and `/readyz` (it can do its work now); and the same as metrics, for whoever
//! is to be told when it cannot.

use axum::{Json, Router, response::IntoResponse, routing::get};
use futures::future::BoxFuture;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a dependency may take to answer while metrics are read; one that is slower counts as missing.
const LONGEST: Duration = Duration::from_secs(2);
/// Dependencies that are told apart in metrics: models of a worker are among them.
const MOST: usize = 256;

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

/// A readiness check under way.
pub type Answer = BoxFuture<'static, Readiness>;

/// `GET /healthz` → 200 always; `GET /readyz` → 200, with what is degraded if anything is, or 503 with the
/// list of what is missing.
/// `ready` must answer quickly from what the process already knows.
pub fn router<S, F>(ready: F) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn() -> Answer + Send + Sync + 'static,
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

/// What was missing when metrics were last read. Whatever was once is told for ever, so that it is seen to be back.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<BTreeSet<String>>);

impl Watched {
    /// Looks, and shows what it sees.
    pub(crate) async fn look(&self, ready: Answer) {
        let found = tokio::time::timeout(LONGEST, ready).await;
        let found = found.unwrap_or_else(|_| Err(vec![NotReady::new("answer", "not in time")]));
        let missing = found.err().unwrap_or_default();
        let is_ready = missing.iter().all(|one| one.is_degraded);
        metrics::gauge!("penstock_ready").set(f64::from(u8::from(is_ready)));
        for (dependency, is_missing) in self.note(&missing) {
            metrics::gauge!("penstock_missing", "dependency" => dependency)
                .set(f64::from(u8::from(is_missing)));
        }
    }

    /// All that were ever missing, and whether they are now.
    fn note(&self, missing: &[NotReady]) -> Vec<(String, bool)> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in missing {
            if seen.len() < MOST {
                seen.insert(one.dependency.clone());
            }
        }
        let is_missing = |dependency: &str| missing.iter().any(|one| one.dependency == dependency);
        seen.iter().map(|dependency| (dependency.clone(), is_missing(dependency))).collect()
    }
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

    #[test]
    fn what_comes_back_is_seen_to_be_back() {
        let watched = Watched::default();
        let noted = |missing: &[NotReady]| watched.note(missing);
        assert!(noted(&[]).is_empty());
        let gone = [NotReady::new("ledger", "gone")];
        assert_eq!(noted(&gone), [("ledger".to_owned(), true)]);
        assert_eq!(noted(&[]), [("ledger".to_owned(), false)]);
        for n in 0..2 * MOST {
            noted(&[NotReady::new(format!("runner of {n}"), "down")]);
        }
        assert_eq!(noted(&[]).len(), MOST);
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
