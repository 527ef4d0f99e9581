//! Waiting for a condition. The deadline is for a hung test only: it is far beyond what a slow
//! machine needs, and passing it is a failure, never a result.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long a condition may take before the test is lost.
pub const DEADLINE: Duration = Duration::from_secs(240);

/// Asks `probe` until it answers `Ok`; panics with `what` and the last reason at the deadline.
pub async fn until_ok<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A probe may wait for somebody who never answers.
        let asked = tokio::time::timeout(left, probe()).await;
        match asked.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(value) => return value,
            Err(reason) => {
                assert!(Instant::now() < deadline, "waited in vain until {what}: {reason}");
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Asks `probe` until it answers `Some`; panics with `what` at the deadline.
pub async fn until_some<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    until_ok(what, || {
        let asked = probe();
        async move { asked.await.ok_or_else(|| "not yet".to_owned()) }
    })
    .await
}

/// Asks `probe` until it answers true; panics with `what` at the deadline.
pub async fn until<F>(what: &str, mut probe: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    until_some(what, || {
        let asked = probe();
        async move { asked.await.then_some(()) }
    })
    .await;
}
