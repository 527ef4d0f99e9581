//! Requests a second of one account, at this process. A replica does not know the others' counts:
//! with N replicas an account has N times its rate, and budgets, which are in the books, are what
//! protects the deposit.

use governor::{DefaultDirectRateLimiter, Quota, clock::Clock as _, clock::DefaultClock};
use std::num::NonZeroU32;

/// One account's bucket.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

impl RateLimit {
    /// `None` is no limit. A second's worth may come at once.
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        let bucket = per_second.map(|n| DefaultDirectRateLimiter::direct(Quota::per_second(n)));
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
        let limit = RateLimit::new(NonZeroU32::new(1));
        assert_eq!(limit.take(), Ok(()));
        assert_eq!(limit.take(), Err(1));
        let none = RateLimit::new(None);
        assert!((0..10_000).all(|_| none.take().is_ok()));
    }
}
