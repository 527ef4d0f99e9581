//! What a request under an `Idempotency-Key` may still begin. Its hold on the key is renewed while it works;
//! where the store has not heard of that for a while, another replica may be about to take the request over, and
//! nothing more is sent to anybody who charges for it. What was sent is finished.
//!
//! Goes with the request's task, and with those that are made for it.

use super::error::TryError;
use crate::clock;
use penstock_store::{StoreError, UnixMs};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A renewal counts for so long, from before it was sent: shorter than the least time after which the request may
/// be another's (`front::takeover`), by what it takes to send a job.
const COUNTS: Duration = Duration::from_millis(2_500);

/// A moment by two clocks: one that never goes back but stands still while the machine does (a virtual one that
/// is moved or restored), and the time of day, by which others see a hold lapse.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    steady: Instant,
    wall: UnixMs,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { steady: Instant::now(), wall: clock::now() }
    }

    /// One before any renewal that counts.
    #[cfg(test)]
    pub fn long_ago() -> Self {
        let now = Self::now();
        Self { wall: UnixMs(now.wall.0 - 3_600_000), ..now }
    }

    /// Whether less time has passed since then, by both clocks. One that was set back counts for nothing.
    fn is_within(self, least: Duration, now: Self) -> bool {
        let wall = Duration::from_millis(now.wall.since_ms(self.wall));
        now.wall >= self.wall
            && now.steady.saturating_duration_since(self.steady) < least
            && wall < least
    }
}

/// When the store last heard of the hold; never again, once it is another's.
#[derive(Debug, Clone)]
pub struct Fence(Arc<Mutex<Option<Moment>>>);

impl Fence {
    /// Of a hold that was taken by a call which began then.
    pub fn new(began: Moment) -> Self {
        Self(Arc::new(Mutex::new(Some(began))))
    }

    fn set(&self, to: Option<Moment>) {
        let mut renewed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Who lost it does not get it back.
        if renewed.is_some() {
            *renewed = to;
        }
    }

    /// It was renewed, by a call which began then.
    pub fn renewed(&self, began: Moment) {
        self.set(Some(began));
    }

    /// It is another's.
    pub fn is_lost(&self) {
        self.set(None);
    }

    /// Whether something may be begun now.
    pub fn lets(&self, now: Moment) -> bool {
        let renewed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.is_some_and(|at| at.is_within(COUNTS, now))
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
        Some(fence) if !fence.lets(Moment::now()) => {
            metrics::counter!("penstock_gateway_fenced_jobs_total").increment(1);
            let why = "the hold on the request could not be renewed".to_owned();
            Err(StoreError::Unavailable(why).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(by: Moment, steady: Duration, wall: Duration) -> Moment {
        let ms = u64::try_from(wall.as_millis()).unwrap();
        Moment { steady: by.steady + steady, wall: by.wall.plus_ms(ms) }
    }

    #[test]
    fn a_renewal_counts_for_a_while_from_before_it_was_sent() {
        let began = Moment::now();
        let after = |times: u32| later(began, COUNTS * times / 2, COUNTS * times / 2);
        let fence = Fence::new(began);
        assert!(fence.lets(began) && fence.lets(after(1)));
        assert!(!fence.lets(after(2)));
        fence.renewed(after(2));
        assert!(fence.lets(after(3)) && !fence.lets(after(4)));
        fence.is_lost();
        fence.renewed(after(4));
        assert!(!fence.lets(after(4)), "it is another's");
    }

    #[test]
    fn a_machine_that_stood_still_has_lost_its_holds() {
        let (began, none) = (Moment::now(), Duration::ZERO);
        let fence = Fence::new(began);
        assert!(!fence.lets(later(began, none, COUNTS)), "by the time of day");
        assert!(!fence.lets(later(began, COUNTS, none)), "by the other");
        let set_back = Moment { wall: UnixMs(began.wall.0 - 1), ..began };
        assert!(!fence.lets(set_back));
    }

    #[tokio::test]
    async fn nothing_is_sent_under_a_hold_that_may_have_lapsed() {
        assert!(may_send().is_ok(), "without a key");
        let fence = Fence::new(Moment::now());
        scope(Some(fence.clone()), async {
            fence.is_lost();
            assert!(matches!(may_send(), Err(TryError::Store(_))));
            let elsewhere = scope(current(), async { may_send().is_err() });
            assert!(tokio::spawn(elsewhere).await.unwrap(), "also in a task of the same request");
        })
        .await;
    }
}
