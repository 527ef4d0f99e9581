//! Limits on callers: how often (GCRA), how much in a time (quotas), how many at once (slots).
//!
//! GCRA keeps one point in time per limit, the moment at which the caller will have used up nothing:
//! each cost moves it on by its share of the period, and a request is refused while it would lie
//! further ahead than one period. No counter has to be reset and nothing bursts at a boundary.

use crate::{OwnerId, StoreError, UnixMs};
use async_trait::async_trait;

/// One limit that a request falls under: `burst` costs per `per_ms`, all of them at once if unused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Whose limit, and of what. Limits of one request are taken atomically if the keys share the
    /// part before the first `/` (a caller's name); else one such part after the other, and what was
    /// taken is given back when a later one refuses.
    pub key: String,
    /// The period.
    pub per_ms: u64,
    /// Cost that fits into one period.
    pub burst: u32,
    /// What this request costs.
    pub cost: u32,
}

impl Limit {
    /// The part of the key that decides what is taken together.
    pub fn group(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }

    /// The period in microseconds, the unit of the arithmetic: small enough for a million a second,
    /// and with today's date still exact in a float.
    pub fn period_us(&self) -> u64 {
        // 35 years, so that sums with a date stay below 2^53.
        const MOST: u64 = 1_100_000_000_000_000;
        self.per_ms.saturating_mul(1_000).min(MOST)
    }

    /// By how much a request moves the limit's time on; `None` when it can never fit.
    pub fn step_us(&self) -> Option<u64> {
        if self.cost > self.burst {
            return None;
        }
        let share = u128::from(self.period_us()) * u128::from(self.cost);
        u64::try_from(share.div_ceil(u128::from(self.burst.max(1)))).ok()
    }

    /// How much is left when the limit's time lies `ahead_us` ahead.
    pub fn left(&self, ahead_us: u64) -> u32 {
        let free = u128::from(self.period_us().saturating_sub(ahead_us));
        let left = free * u128::from(self.burst) / u128::from(self.period_us().max(1));
        u32::try_from(left).unwrap_or(u32::MAX).min(self.burst)
    }
}

/// The outcome of asking for all limits of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// All of them allow it, and the cost is taken.
    Allowed {
        /// What is left of each limit, in their order.
        left: Vec<u32>,
    },
    /// One refuses; nothing was taken.
    Limited {
        /// Which, by its place; the first that refuses.
        index: usize,
        /// When the same request would be allowed if nobody else took anything. A cost that never
        /// fits says its period.
        retry_after_ms: u64,
    },
}

/// The outcome of adding to a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaTaken {
    /// Added.
    Added {
        /// The new sum.
        total: u64,
    },
    /// The sum would be above the cap; nothing was added.
    Over {
        /// What it is.
        total: u64,
        /// When it begins anew.
        resets_at: UnixMs,
    },
}

impl QuotaTaken {
    /// No sum goes above it: the largest number that every backend counts exactly.
    pub const MAX_TOTAL: u64 = (1 << 53) - 1;
}

/// Limits, quotas and slots by key. Keys may hold anything.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes the cost of a request from all its limits, or from none. Without limits it is allowed.
    async fn take(&self, limits: &[Limit], now: UnixMs) -> Result<Taken, StoreError>;

    /// Adds to a sum if it stays within `cap` and [`QuotaTaken::MAX_TOTAL`]. The sum lives `ttl_ms` from its first addition and
    /// then begins anew. An amount of 0 asks what the sum is.
    async fn quota_add(
        &self,
        key: &str,
        amount: u64,
        cap: Option<u64>,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<QuotaTaken, StoreError>;

    /// Takes one of `most` places for `hold_ms`; false when all are taken. The holder asking again
    /// keeps its place for longer. A holder that dies frees its place by not asking again.
    async fn take_slot(
        &self,
        key: &str,
        holder: &OwnerId,
        most: u32,
        hold_ms: u64,
        now: UnixMs,
    ) -> Result<bool, StoreError>;

    /// Gives a place back.
    async fn free_slot(&self, key: &str, holder: &OwnerId, now: UnixMs) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_at_the_edges() {
        let limit = |per_ms, burst, cost| Limit { key: "k".into(), per_ms, burst, cost };
        assert_eq!(limit(1_000, 10, 1).step_us(), Some(100_000));
        assert_eq!(limit(1_000, 3, 1).step_us(), Some(333_334), "never more than the burst");
        assert_eq!(limit(1_000, 3, 4).step_us(), None);
        assert_eq!(limit(1_000, 0, 0).step_us(), Some(0));
        assert_eq!(limit(0, 5, 5).step_us(), Some(0));
        assert!(limit(u64::MAX, u32::MAX, u32::MAX).step_us().is_some());
        assert_eq!(limit(1_000, 10, 1).left(0), 10);
        assert_eq!(limit(1_000, 10, 1).left(100_000), 9);
        assert_eq!(limit(1_000, 10, 1).left(u64::MAX), 0);
        assert_eq!(limit(0, 10, 1).left(0), 0);
    }
}
