//! Storing what is done and paid for. A request that begins while the store is away fails at once; one
//! that has its result in hand waits a little for the store to come back, because failing would mean
//! to do and pay the work again.

use penstock_store::StoreError;
use std::{future::Future, time::Duration};

/// How long. Claims are renewed meanwhile, if the store hears of it; the hold on a key lasts longer.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Repeats a write that may be repeated until it succeeds, fails for good, or patience ends.
pub async fn patiently<T, F>(mut write: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match write().await {
            Err(StoreError::Unavailable(_)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}
