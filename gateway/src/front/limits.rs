//! How often one caller may ask and how much in a day, over all replicas: kept in the session store.
//! Jobs at work at a time are bounded by each replica (module `workload`).

use crate::{
    clock,
    config::{front::LimitSettings, selection::TierPolicy},
    error::GatewayError,
    front::caller::Caller,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_store::{Limit, QuotaTaken, SessionStore, StoreError, Taken, UnixMs};
use thiserror::Error;

const DAY_MS: u64 = 86_400_000;
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// A caller asks for more than they may.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OverLimit {
    /// Too often.
    #[error("{per_second} requests a second are allowed")]
    Rate {
        /// How many are.
        per_second: u32,
        /// When the next one is allowed, milliseconds.
        retry_after_ms: u64,
    },
    /// Too many today.
    #[error("{per_day} requests a day are allowed")]
    Day {
        /// How many are.
        per_day: u64,
        /// When the count begins anew, milliseconds from now.
        retry_after_ms: u64,
    },
}

impl OverLimit {
    /// Whole seconds, at least one.
    pub fn retry_after_s(&self) -> u32 {
        let (Self::Rate { retry_after_ms, .. } | Self::Day { retry_after_ms, .. }) = self;
        u32::try_from(retry_after_ms.div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
    }

    /// What the answer says of the limit that was met.
    pub fn standing(&self) -> Standing {
        let (limit, retry_after_ms) = match self {
            Self::Rate { per_second, retry_after_ms } => (u64::from(*per_second), *retry_after_ms),
            Self::Day { per_day, retry_after_ms } => (*per_day, *retry_after_ms),
        };
        Standing { limit, left: 0, reset_s: retry_after_ms.div_ceil(1_000) }
    }
}

/// What is left of the limit that a caller will meet first, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    limit: u64,
    left: u64,
    reset_s: u64,
}

impl Standing {
    /// `RateLimit-Limit`, `-Remaining`, `-Reset` (IETF draft, as widely read).
    pub fn write(self, headers: &mut HeaderMap) {
        for (name, value) in [(LIMIT, self.limit), (REMAINING, self.left), (RESET, self.reset_s)] {
            headers.insert(name, HeaderValue::from(value));
        }
    }
}

/// What counts for a caller: what their account says, else their tier, else what is set for all.
pub fn of(all: LimitSettings, tier: Option<&TierPolicy>, caller: &Caller) -> LimitSettings {
    let per_second = caller.requests_per_second.or_else(|| tier?.requests_per_second);
    let per_day = caller.requests_per_day.or_else(|| tier?.requests_per_day);
    LimitSettings {
        requests_per_second: per_second.or(all.requests_per_second),
        requests_per_day: per_day.or(all.requests_per_day),
    }
}

/// Counts a request. `Ok(None)`: the caller has no limit.
pub async fn take(
    store: &dyn SessionStore,
    limits: LimitSettings,
    caller: &Caller,
) -> Result<Option<Standing>, GatewayError> {
    let now = clock::now();
    let mut standing = None;
    if let Some(per_second) = limits.requests_per_second {
        let per_second = per_second.get();
        standing = Some(rate(store, per_second, caller, now).await?);
    }
    if let Some(per_day) = limits.requests_per_day {
        let key = format!("{}/day", caller.auth_id);
        let added = store.quota_add(&key, 1, Some(per_day.get()), DAY_MS, now).await;
        match added.map_err(store_error)? {
            QuotaTaken::Over { resets_at, .. } => {
                let retry_after_ms = resets_at.since_ms(now);
                return Err(OverLimit::Day { per_day: per_day.get(), retry_after_ms }.into());
            }
            QuotaTaken::Added { total } => {
                let left = per_day.get().saturating_sub(total);
                if standing.is_none_or(|s| left < s.left) {
                    let (limit, reset_s) = (per_day.get(), DAY_MS / 1_000);
                    standing = Some(Standing { limit, left, reset_s });
                }
            }
        }
    }
    Ok(standing)
}

async fn rate(
    store: &dyn SessionStore,
    per_second: u32,
    caller: &Caller,
    now: UnixMs,
) -> Result<Standing, GatewayError> {
    let key = format!("{}/rps", caller.auth_id);
    let limit = Limit { key, per_ms: 1_000, burst: per_second, cost: 1 };
    match store.take(&[limit], now).await.map_err(store_error)? {
        Taken::Limited { retry_after_ms, .. } => {
            Err(OverLimit::Rate { per_second, retry_after_ms }.into())
        }
        Taken::Allowed { left } => Ok(Standing {
            limit: per_second.into(),
            left: left.first().copied().unwrap_or(0).into(),
            reset_s: 1,
        }),
    }
}

fn store_error(error: StoreError) -> GatewayError {
    crate::service::error::JobError::from(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::AuthId;
    use penstock_store::MemoryStore;
    use penstock_wire::json::VerifiedPolicy;
    use std::num::{NonZeroU32, NonZeroU64};

    fn caller(name: &str, per_second: Option<u32>) -> Caller {
        let policy = VerifiedPolicy {
            requests_per_second: per_second.and_then(NonZeroU32::new),
            ..VerifiedPolicy::default()
        };
        Caller::with_policy(AuthId::new(name).unwrap(), &policy)
    }

    fn settings(per_second: Option<u32>, per_day: Option<u64>) -> LimitSettings {
        LimitSettings {
            requests_per_second: per_second.and_then(NonZeroU32::new),
            requests_per_day: per_day.and_then(NonZeroU64::new),
        }
    }

    #[tokio::test]
    async fn a_day_has_its_number_of_requests() {
        let store = MemoryStore::default();
        let (bob, eve) = (caller("a:bob", None), caller("a:eve", None));
        let two = settings(None, Some(2));
        for left in [1, 0] {
            let standing = take(&store, two, &bob).await.unwrap().unwrap();
            assert_eq!((standing.limit, standing.left), (2, left));
        }
        let refused = take(&store, two, &bob).await.unwrap_err();
        assert!(refused.to_string().starts_with("2 requests a day"), "{refused}");
        assert!(take(&store, two, &eve).await.is_ok(), "each caller has their own");
    }

    /// Told apart by what the header says.
    #[tokio::test]
    async fn the_account_counts_before_the_tier_and_that_before_the_gateway() {
        let store = MemoryStore::default();
        let tier = TierPolicy {
            requests_per_second: NonZeroU32::new(5),
            requests_per_day: NonZeroU64::new(50),
            ..TierPolicy::default()
        };
        let rates = |who: &Caller, all, tier| of(settings(all, Some(1)), tier, who);
        let (own, none) = (caller("a:b", Some(7)), caller("a:c", None));
        for (who, all, tier, want) in [
            (&own, Some(3), Some(&tier), (Some(7), Some(50))),
            (&own, Some(3), None, (Some(7), Some(1))),
            (&none, Some(3), Some(&tier), (Some(5), Some(50))),
            (&none, Some(3), None, (Some(3), Some(1))),
            (&none, None, None, (None, Some(1))),
        ] {
            let limits = rates(who, all, tier);
            let got = (limits.requests_per_second, limits.requests_per_day);
            assert_eq!((got.0.map(NonZeroU32::get), got.1.map(NonZeroU64::get)), want);
        }
        let mut daily = caller("a:d", None);
        daily.requests_per_day = NonZeroU64::new(2);
        let limits = rates(&daily, None, Some(&tier));
        let limits = LimitSettings { requests_per_second: None, ..limits };
        let standing = take(&store, limits, &daily).await.unwrap().unwrap();
        assert_eq!((standing.limit, standing.left), (2, 1), "the account's own");
        assert!(take(&store, settings(None, None), &none).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_burst_is_cut_off() {
        let store = MemoryStore::default();
        let bob = caller("a:bob", None);
        // One clock for both, so that no time passes between them.
        let now = clock::now();
        assert_eq!(rate(&store, 1, &bob, now).await.unwrap().left, 0);
        let refused = rate(&store, 1, &bob, now).await.unwrap_err();
        let GatewayError::OverLimit(over) = refused else { panic!("{refused}") };
        assert_eq!(over, OverLimit::Rate { per_second: 1, retry_after_ms: 1_000 });
        assert_eq!(over.retry_after_s(), 1);
        let mut headers = HeaderMap::new();
        over.standing().write(&mut headers);
        assert_eq!(headers[REMAINING], "0");
    }
}
