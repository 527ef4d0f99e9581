//! How often one caller may ask and how much in a day, over all replicas: kept in the session store.
//! Jobs at work at a time are bounded by each replica (module `workload`).

use crate::{
    clock,
    config::{front::LimitSettings, selection::TierPolicy},
    error::GatewayError,
    front::caller::Caller,
    service::Gateway,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_store::{Limit, Rule, SessionStore, StoreError, Taken, UnixMs};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};
use thiserror::Error;

const SECOND_MS: u64 = 1_000;
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
        let of_day = matches!(self, Self::Day { .. });
        Standing { limit, left: 0, reset_s: retry_after_ms.div_ceil(1_000), of_day }
    }
}

/// What is left of the limit that a caller will meet first, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    limit: u64,
    left: u64,
    reset_s: u64,
    of_day: bool,
}

/// Beside an answer: nothing was tried for the request, which may come again.
#[derive(Debug, Clone, Copy)]
pub struct NothingDone;

impl Standing {
    /// When the request is not counted among the day's.
    pub fn given_back(self) -> Self {
        Self { left: self.left + u64::from(self.of_day), ..self }
    }

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

/// Tiers that callers have and no rules are set for: each is logged once, of so many.
const MAX_UNKNOWN: usize = 100;

/// Those that were logged.
#[derive(Debug, Default)]
pub struct UnknownTiers(Mutex<HashSet<String>>);

impl UnknownTiers {
    /// Whether it was not known before that there is such a tier.
    fn is_news(&self, tier: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MAX_UNKNOWN && known.insert(tier.to_owned())
    }
}

/// The rules of a caller's tier. A tier without rules counts as none; the operator hears of it, because one
/// of the two names may be misspelt.
fn tier_of<'a>(
    tiers: &'a BTreeMap<String, TierPolicy>,
    caller: &Caller,
    unknown: &UnknownTiers,
) -> Option<&'a TierPolicy> {
    let name = caller.tier.as_deref()?;
    let found = tiers.get(name);
    // Where none has rules tiers are the signer's alone.
    if found.is_none() && !tiers.is_empty() {
        metrics::counter!("penstock_gateway_unknown_tier_requests_total").increment(1);
        if unknown.is_news(name) {
            tracing::warn!(tier = name, caller = %caller.auth_id, "a caller's tier has no rules in --tier-policies: those for all count");
        }
    }
    found
}

impl Gateway {
    /// Counts a request of this caller. `Ok(None)`: the caller has no limit.
    pub async fn take_request(&self, caller: &Caller) -> Result<Option<Standing>, GatewayError> {
        let tier = tier_of(&self.settings.selection.tiers, caller, &self.unknown_tiers);
        take(self.store.as_ref(), of(self.settings.front.limits, tier, caller), caller).await
    }

    /// Takes a request out of the caller's day. How often they ask is counted all the same.
    pub async fn give_request(&self, caller: &Caller) {
        let tier = tier_of(&self.settings.selection.tiers, caller, &self.unknown_tiers);
        let limits = of(self.settings.front.limits, tier, caller);
        let Some(most) = limits.requests_per_day else { return };
        let rule = Rule::Quota { per_ms: DAY_MS, most: most.get() };
        let day = Limit { key: key_of(caller), rule, cost: 1 };
        if let Err(error) = self.store.give(&[day], clock::now()).await {
            tracing::warn!(%error, caller = %caller.auth_id, "a request that came to nothing stays counted");
        }
    }
}

/// Counts a request. `Ok(None)`: the caller has no limit.
async fn take(
    store: &dyn SessionStore,
    limits: LimitSettings,
    caller: &Caller,
) -> Result<Option<Standing>, GatewayError> {
    take_at(store, limits, caller, clock::now()).await
}

/// All limits of the caller in one step.
async fn take_at(
    store: &dyn SessionStore,
    limits: LimitSettings,
    caller: &Caller,
    now: UnixMs,
) -> Result<Option<Standing>, GatewayError> {
    let rate = limits
        .requests_per_second
        .map(|most| (Rule::Rate { per_ms: SECOND_MS, burst: most.get() }, u64::from(most.get())));
    let day = limits
        .requests_per_day
        .map(|most| (Rule::Quota { per_ms: DAY_MS, most: most.get() }, most.get()));
    let all: Vec<_> = rate.into_iter().chain(day).collect();
    if all.is_empty() {
        return Ok(None);
    }
    let limit = |&(rule, _): &(Rule, u64)| Limit { key: key_of(caller), rule, cost: 1 };
    let asked: Vec<_> = all.iter().map(limit).collect();
    match store.take(&asked, now).await.map_err(store_error)? {
        Taken::Allowed { left, reset_ms } => {
            let each = all.iter().zip(left).zip(reset_ms);
            let standings = each.map(|(((rule, limit), left), reset_ms)| Standing {
                limit: *limit,
                left,
                reset_s: reset_ms.div_ceil(SECOND_MS),
                of_day: matches!(rule, Rule::Quota { .. }),
            });
            Ok(standings.min_by_key(|standing| standing.left))
        }
        Taken::Limited { index, retry_after_ms } => Err(match asked.get(index).map(|l| l.rule) {
            Some(Rule::Quota { most, .. }) => OverLimit::Day { per_day: most, retry_after_ms },
            Some(Rule::Rate { burst, .. }) => OverLimit::Rate { per_second: burst, retry_after_ms },
            None => OverLimit::Rate { per_second: 0, retry_after_ms },
        }
        .into()),
    }
}

fn key_of(caller: &Caller) -> String {
    format!("{}/requests", caller.auth_id)
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
    async fn a_day_ends_a_day_after_it_began() {
        let store = MemoryStore::default();
        let (bob, now, two) = (caller("a:bob", None), clock::now(), settings(None, Some(2)));
        for (after_ms, reset_s) in [(0, 86_400), (3_600_500, 82_800)] {
            let standing =
                take_at(&store, two, &bob, now.plus_ms(after_ms)).await.unwrap().unwrap();
            assert_eq!(standing.reset_s, reset_s);
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

    #[test]
    fn a_tier_without_rules_is_told_once() {
        let tiers = BTreeMap::from([("gold".to_owned(), TierPolicy::default())]);
        let unknown = UnknownTiers::default();
        let of =
            |tier: Option<&str>| Caller { tier: tier.map(str::to_owned), ..caller("a:b", None) };
        assert!(tier_of(&tiers, &of(Some("gold")), &unknown).is_some());
        assert!(tier_of(&tiers, &of(None), &unknown).is_none());
        assert!(tier_of(&BTreeMap::new(), &of(Some("glod")), &unknown).is_none());
        assert!(unknown.0.lock().unwrap().is_empty());
        assert!(tier_of(&tiers, &of(Some("glod")), &unknown).is_none());
        assert!(!unknown.is_news("glod") && unknown.is_news("silver"));
        let told = (0..2 * MAX_UNKNOWN).filter(|n| unknown.is_news(&n.to_string())).count();
        assert_eq!(told, MAX_UNKNOWN - 2);
        assert_eq!(unknown.0.lock().unwrap().len(), MAX_UNKNOWN);
    }

    #[tokio::test]
    async fn a_burst_is_cut_off() {
        let store = MemoryStore::default();
        let bob = caller("a:bob", None);
        // One clock for both, so that no time passes between them.
        let now = clock::now();
        let one = settings(Some(1), Some(5));
        assert_eq!(take_at(&store, one, &bob, now).await.unwrap().unwrap().left, 0);
        let refused = take_at(&store, one, &bob, now).await.unwrap_err();
        let GatewayError::OverLimit(over) = refused else { panic!("{refused}") };
        assert_eq!(over, OverLimit::Rate { per_second: 1, retry_after_ms: 1_000 });
        assert_eq!(over.retry_after_s(), 1);
        let mut headers = HeaderMap::new();
        over.standing().write(&mut headers);
        assert_eq!(headers[REMAINING], "0");
        // What was refused counts for no day.
        let daily = take_at(&store, settings(None, Some(5)), &bob, now).await.unwrap().unwrap();
        assert_eq!(daily.left, 3);
    }
}
