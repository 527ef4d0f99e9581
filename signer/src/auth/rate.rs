//! Requests a second of one account, at this process. A replica does not know the others' counts; it
//! is told how many share the load (`--rate-replicas`) and lets its share through. Told nothing, N
//! replicas let N times as many through. Budgets, which are in the books and exact, are what protects
//! the deposit.

use governor::{DefaultDirectRateLimiter, Quota, clock::Clock as _, clock::DefaultClock};
use std::{num::NonZeroU32, time::Duration};

/// One account's bucket.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

impl RateLimit {
    /// `None` is no limit. A second's worth of this process may come at once, one request at least.
    pub fn new(per_second: Option<NonZeroU32>, replicas: NonZeroU32) -> Self {
        let quota = |n: NonZeroU32| {
            let one = Duration::from_secs(1).saturating_mul(replicas.get()).checked_div(n.get());
            let burst = NonZeroU32::new(n.get().div_ceil(replicas.get()));
            Some(Quota::with_period(one?.max(Duration::from_nanos(1)))?.allow_burst(burst?))
        };
        let bucket = per_second.map(|n| quota(n).unwrap_or_else(|| Quota::per_second(n)));
        let bucket = bucket.map(DefaultDirectRateLimiter::direct);
        Self { bucket, clock: DefaultClock::default() }
    }

    /// Takes one request, or says in how many seconds (1 or more) there is room again.
    pub fn take(&self) -> Result<(), u32> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        bucket.check().map_err(|full| {
            let wait = full.wait_time_from(self.clock.now());
            u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_says_when_to_come_back() {
        let limit =
            |n, replicas| RateLimit::new(NonZeroU32::new(n), NonZeroU32::new(replicas).unwrap());
        let one = limit(1, 1);
        assert_eq!(one.take(), Ok(()));
        assert_eq!(one.take(), Err(1));
        // A third of a request a second: the next one after three.
        let shared = limit(1, 3);
        assert_eq!(shared.take(), Ok(()));
        assert_eq!(shared.take(), Err(3));
        let shared = limit(5, 2);
        assert!((0..3).all(|_| shared.take().is_ok()));
        assert_eq!(shared.take(), Err(1));
        let none = RateLimit::new(None, NonZeroU32::MIN);
        assert!((0..10_000).all(|_| none.take().is_ok()));
    }
}
