//! What any simulated peer can be told to suffer from, whatever it is asked: slowness, refusals,
//! silence. It works on the whole server, so that it looks the same to HTTP and to gRPC callers.

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Switches that may be turned at any time. They count for requests that arrive afterwards.
#[derive(Debug, Default)]
pub struct Faults {
    latency_ms: AtomicU64,
    fail_one_in: AtomicU64,
    silent: AtomicBool,
    requests: AtomicU64,
}

impl Faults {
    /// Every answer is so much later.
    pub fn set_latency(&self, latency: Duration) {
        self.latency_ms.store(u64::try_from(latency.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Each `n`th request is answered 503 before anything happens; 1 is all of them, 0 none.
    pub fn fail_one_in(&self, n: u64) {
        self.fail_one_in.store(n, Ordering::SeqCst);
    }

    /// Requests are read and never answered.
    pub fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// How many requests arrived, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// `router` under these faults.
    pub fn over(self: &Arc<Self>, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(Arc::clone(self), suffer))
    }
}

async fn suffer(State(faults): State<Arc<Faults>>, request: Request, next: Next) -> Response {
    let number = faults.requests.fetch_add(1, Ordering::SeqCst) + 1;
    if faults.silent.load(Ordering::SeqCst) {
        return std::future::pending().await;
    }
    let latency = faults.latency_ms.load(Ordering::SeqCst);
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    let one_in = faults.fail_one_in.load(Ordering::SeqCst);
    if one_in > 0 && number.is_multiple_of(one_in) {
        return (StatusCode::SERVICE_UNAVAILABLE, "told to fail").into_response();
    }
    next.run(request).await
}
