//! Limits on callers: how often (GCRA), how much in a time (quotas), how many at once (slots).
//! All rates and quotas of a request are taken in one step, or none is.
//!
//! GCRA keeps one point in time per limit, the moment at which the caller will have used up nothing:
//! each cost moves it on by its share of the period, and a request is refused while it would lie
//! further ahead than one period. No counter has to be reset and nothing bursts at a boundary.

use crate::{OwnerId, StoreError, UnixMs};
use async_trait::async_trait;

/// One limit that a request falls under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Whose limit, and of what. Limits of one request are taken atomically if the keys share the
    /// part before the first `/` (a caller's name); else one such part after the other, and what was
    /// taken is given back when a later one refuses. A rate and a quota of the same key are two.
    pub key: String,
    /// How much there is.
    pub rule: Rule,
    /// What this request costs.
    pub cost: u32,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `burst` costs per `per_ms`, all of them at once if unused (GCRA).
    Rate {
        /// The period.
        per_ms: u64,
        /// Cost that fits into one period.
        burst: u32,
    },
    /// `most` in `per_ms` from the first cost, and then anew.
    Quota {
        /// The period.
        per_ms: u64,
        /// Cost that fits into it; at most [`Rule::MOST`] counts.
        most: u64,
    },
}

impl Rule {
    /// No sum of a quota goes above it: the largest number that every backend counts exactly.
    pub const MOST: u64 = (1 << 53) - 1;
}

impl Limit {
    /// The part of the key that decides what is taken together.
    pub fn group(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }
}

/// The arithmetic of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub per_ms: u64,
    pub burst: u32,
}

impl Rate {
    /// The period in microseconds, the unit of the arithmetic: small enough for a million a second,
    /// and with today's date still exact in a float.
    pub fn period_us(self) -> u64 {
        // 35 years, so that sums with a date stay below 2^53.
        const MOST: u64 = 1_100_000_000_000_000;
        self.per_ms.saturating_mul(1_000).min(MOST)
    }

    /// By how much a cost moves the limit's time on; `None` when it can never fit.
    pub fn step_us(self, cost: u32) -> Option<u64> {
        if cost > self.burst {
            return None;
        }
        let share = u128::from(self.period_us()) * u128::from(cost);
        u64::try_from(share.div_ceil(u128::from(self.burst.max(1)))).ok()
    }

    /// How much is left when the limit's time lies `ahead_us` ahead.
    pub fn left(self, ahead_us: u64) -> u64 {
        let free = u128::from(self.period_us().saturating_sub(ahead_us));
        let left = free * u128::from(self.burst) / u128::from(self.period_us().max(1));
        u64::try_from(left).unwrap_or(u64::MAX).min(u64::from(self.burst))
    }
}

/// The outcome of asking for all limits of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// All of them allow it, and the cost is taken.
    Allowed {
        /// What is left of each limit, in their order.
        left: Vec<u64>,
        /// When all of each is there again if nobody takes any more, milliseconds from now.
        reset_ms: Vec<u64>,
    },
    /// One refuses; nothing was taken.
    Limited {
        /// Which, by its place; the first that refuses.
        index: usize,
        /// When the same request would be allowed if nobody else took anything; of a quota, when it
        /// begins anew. A cost that never fits says its period.
        retry_after_ms: u64,
    },
}

/// Limits, quotas and slots by key. Keys may hold anything.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes the cost of a request from all its limits, or from none. Without limits it is allowed.
    async fn take(&self, limits: &[Limit], now: UnixMs) -> Result<Taken, StoreError>;

    /// Gives back what was taken, by a request that came to nothing: as much of each as it cost. What has begun
    /// anew since then has it already.
    async fn give(&self, limits: &[Limit], now: UnixMs) -> Result<(), StoreError>;

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
        let rate = |per_ms, burst| Rate { per_ms, burst };
        assert_eq!(rate(1_000, 10).step_us(1), Some(100_000));
        assert_eq!(rate(1_000, 3).step_us(1), Some(333_334), "never more than the burst");
        assert_eq!(rate(1_000, 3).step_us(4), None);
        assert_eq!(rate(1_000, 0).step_us(0), Some(0));
        assert_eq!(rate(0, 5).step_us(5), Some(0));
        assert!(rate(u64::MAX, u32::MAX).step_us(u32::MAX).is_some());
        assert_eq!(rate(1_000, 10).left(0), 10);
        assert_eq!(rate(1_000, 10).left(100_000), 9);
        assert_eq!(rate(1_000, 10).left(u64::MAX), 0);
        assert_eq!(rate(0, 10).left(0), 0);
    }
}
