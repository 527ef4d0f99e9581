//! What a request under an `Idempotency-Key` may still begin. Its hold on the key is renewed while it works;
//! where the store has not heard of that for a while, another replica may be about to take the request over, and
//! nothing more is sent to anybody who charges for it. What was sent is finished.
//!
//! Goes with the request's task, and with those that are made for it.

use super::error::TryError;
use penstock_store::StoreError;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A renewal counts for so long, from before it was sent: shorter than the least time after which the request may
/// be another's (`front::takeover`), by what it takes to send a job.
const COUNTS: Duration = Duration::from_millis(2_500);

/// When the store last heard of the hold; never again, once it is another's.
#[derive(Debug, Clone)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    /// Of a hold that was taken by a call which began then.
    pub fn new(began: Instant) -> Self {
        Self(Arc::new(Mutex::new(Some(began))))
    }

    fn set(&self, to: Option<Instant>) {
        let mut renewed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who lost it does not get it back.
        if renewed.is_some() {
            *renewed = to;
        }
    }

    /// It was renewed, by a call which began then.
    pub fn renewed(&self, began: Instant) {
        self.set(Some(began));
    }

    /// It is another's.
    pub fn is_lost(&self) {
        self.set(None);
    }

    /// Whether something may be begun now.
    pub fn lets(&self, now: Instant) -> bool {
        let renewed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.is_some_and(|at| now.saturating_duration_since(at) < COUNTS)
    }
}

tokio::task_local! {
    static CURRENT: Option<Fence>;
}

/// The running request's; `None` where there is no key.
pub fn current() -> Option<Fence> {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Runs `work` as part of a request.
pub async fn scope<T>(fence: Option<Fence>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(fence, work).await
}

/// Whether the running request may send what is charged for. To be asked last, before sending.
pub fn may_send() -> Result<(), TryError> {
    match current() {
        Some(fence) if !fence.lets(Instant::now()) => {
            metrics::counter!("penstock_gateway_fenced_jobs_total").increment(1);
            let why = "the hold on the Idempotency-Key could not be renewed".to_owned();
            Err(StoreError::Unavailable(why).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_counts_for_a_while_from_before_it_was_sent() {
        let began = Instant::now();
        let fence = Fence::new(began);
        assert!(fence.lets(began) && fence.lets(began + COUNTS / 2));
        assert!(!fence.lets(began + COUNTS));
        fence.renewed(began + COUNTS);
        assert!(fence.lets(began + COUNTS) && !fence.lets(began + 2 * COUNTS));
        fence.is_lost();
        fence.renewed(began + 2 * COUNTS);
        assert!(!fence.lets(began + 2 * COUNTS), "it is another's");
    }

    #[tokio::test]
    async fn nothing_is_sent_under_a_hold_that_may_have_lapsed() {
        assert!(may_send().is_ok(), "without a key");
        let fence = Fence::new(Instant::now());
        scope(Some(fence.clone()), async {
            fence.is_lost();
            assert!(matches!(may_send(), Err(TryError::Store(_))));
            let elsewhere = scope(current(), async { may_send().is_err() });
            assert!(tokio::spawn(elsewhere).await.unwrap(), "also in a task of the same request");
        })
        .await;
    }
}
