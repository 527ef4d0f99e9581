//! One round at a time in the fleet, and none that repeats what another replica has just found out.

use super::{Patience, Question};
use crate::{
    clock,
    service::{Gateway, claimed::Claimed, error::JobError},
};
use penstock_store::{OwnerId, Pool, PoolKey, PoolStore, UnixMs};
use std::{sync::Arc, time::Duration};

/// The right to ask around lapses after so long, unless it is renewed: a replica that died does not
/// keep the others from asking for longer.
const HOLD_MS: u64 = 8_000;
/// A round renews its right so often.
const RENEW_EVERY: Duration = Duration::from_millis(HOLD_MS / 4);
/// How soon a pool in which nobody answers may be asked for again.
const NOBODY_MS: u64 = 1_000;

/// What became of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Turn {
    /// It was made here.
    Made,
    /// Another made it a moment ago: what it found is in the store.
    Fresh,
    /// Another is making it.
    Elsewhere,
}

/// Which rounds are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Due {
    /// Whatever is known.
    Now,
    /// Those of pools whose last whole round is so many milliseconds ago.
    After(u64),
    /// The same, but sooner where nobody is known: nothing can be done without.
    SoonAfter(u64),
}

impl Due {
    fn is_due(self, pool: Option<&Pool>, now: UnixMs) -> bool {
        let (Some(pool), Self::After(ms) | Self::SoonAfter(ms)) = (pool, self) else { return true };
        let answered = pool.entries.iter().any(|e| now.since_ms(e.last_seen) < ms);
        let ms = match self {
            Self::SoonAfter(ms) if !answered => ms.min(NOBODY_MS),
            _ => ms,
        };
        now.since_ms(pool.refreshed_at) >= ms
    }
}

impl Gateway {
    /// Asks every orchestrator and stores who answered, if it is due and nobody else is at it.
    pub(in crate::service) async fn refresh_pool(
        &self,
        key: &PoolKey,
        question: &Question,
        patience: Patience,
        due: Due,
    ) -> Result<Turn, JobError> {
        let owner = self.owner();
        // Before it is asked for: an answer may be lost, and a job that waits may be given up.
        let claim = self.round_claim(key, &owner);
        if !self.store.begin_pool_refresh(key, &owner, HOLD_MS, clock::now()).await? {
            claim.is_over();
            return Ok(Turn::Elsewhere);
        }
        let turn = Box::pin(self.take_turn(key, question, patience, due, &owner)).await;
        claim.give_back().await;
        turn
    }

    /// The right to a round that is about to be asked for in this name.
    fn round_claim(&self, key: &PoolKey, owner: &OwnerId) -> Claimed {
        let (store, key, owner) = (Arc::clone(&self.store), key.clone(), owner.clone());
        let undo = move || {
            let (store, key, owner) = (Arc::clone(&store), key.clone(), owner.clone());
            async move { store.end_pool_refresh(&key, &owner, clock::now()).await }
        };
        Claimed::new("a round", Duration::from_millis(HOLD_MS), &self.give_backs, undo)
    }

    async fn take_turn(
        &self,
        key: &PoolKey,
        question: &Question,
        patience: Patience,
        due: Due,
        owner: &OwnerId,
    ) -> Result<Turn, JobError> {
        // Looked at under the lock: whoever had it before may have asked everybody just now.
        let now = clock::now();
        if due != Due::Now && !due.is_due(self.store.pool(key, now).await?.as_ref(), now) {
            return Ok(Turn::Fresh);
        }
        let round = self.ask_around(key, question, patience);
        held(&*self.store, key, owner, (RENEW_EVERY, clock::now), round).await?;
        self.pools.is_outdated(key);
        Ok(Turn::Made)
    }

    /// How long until the first of these pools is due.
    pub(super) async fn until_due(&self, keys: &[PoolKey], interval_ms: u64) -> Duration {
        let now = clock::now();
        let mut least = interval_ms;
        for key in keys {
            let pool = self.store.pool(key, now).await.ok().flatten();
            let age = pool.map_or(u64::MAX, |pool| now.since_ms(pool.refreshed_at));
            least = least.min(interval_ms.saturating_sub(age));
        }
        // While another replica's round lasts there is no hurry.
        Duration::from_millis(least.max(interval_ms.min(1_000)))
    }
}

/// Does `work` and renews the right to it meanwhile. A renewal that fails is made good by the next one;
/// two rounds at once would do no harm but the questions.
async fn held<S: PoolStore + ?Sized, T>(
    store: &S,
    key: &PoolKey,
    owner: &OwnerId,
    (renew_every, now): (Duration, impl Fn() -> UnixMs),
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(renew_every) => {}
        }
        let renewal = store.begin_pool_refresh(key, owner, HOLD_MS, now());
        tokio::select! {
            biased;
            done = &mut work => return done,
            renewed = renewal => if let Err(error) = renewed {
                tracing::debug!(pool = %key.0, %error, "the right to a round was not renewed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_store::{MemoryStore, PoolEntry};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn pool(refreshed_at: u64, last_seen: Option<u64>) -> Pool {
        let entry = |at: u64| PoolEntry {
            asked_uri: "o".into(),
            transcoder: "o".into(),
            score: 1.0,
            latency_ms: 1,
            info: vec![],
            last_seen: UnixMs(at),
        };
        Pool {
            refreshed_at: UnixMs(refreshed_at),
            entries: last_seen.map(entry).into_iter().collect(),
        }
    }

    #[test]
    fn who_is_due() {
        let at = UnixMs(100_000);
        let due = |due: Due, pool: &Pool| due.is_due(Some(pool), at);
        let fresh = pool(90_000, Some(90_000));
        assert!(due(Due::Now, &fresh));
        assert!(!due(Due::After(15_000), &fresh) && !due(Due::SoonAfter(15_000), &fresh));
        assert!(due(Due::After(10_000), &fresh), "the interval is over");
        for silent in [pool(98_000, None), pool(98_000, Some(80_000))] {
            assert!(!due(Due::After(15_000), &silent));
            assert!(due(Due::SoonAfter(15_000), &silent), "nobody answered");
        }
        assert!(!due(Due::SoonAfter(15_000), &pool(99_001, None)), "but not all the time");
        assert!(Due::After(15_000).is_due(None, at));
    }

    /// A round may outlast the right to it many times over.
    #[tokio::test]
    async fn the_right_to_a_round_lasts_as_long_as_the_round() {
        let (store, key) = (MemoryStore::default(), PoolKey("video".to_owned()));
        let (ours, other) = (OwnerId("ours".to_owned()), OwnerId("other".to_owned()));
        let clock = AtomicU64::new(1_000);
        let now = || UnixMs(clock.load(Ordering::SeqCst));
        assert!(store.begin_pool_refresh(&key, &ours, HOLD_MS, now()).await.unwrap());
        // By this clock a quarter of the hold has passed at each renewal.
        let renewed = || UnixMs(clock.fetch_add(HOLD_MS / 4, Ordering::SeqCst) + HOLD_MS / 4);
        let round = async {
            while now() < UnixMs(1_000 + 10 * HOLD_MS) {
                assert!(!store.begin_pool_refresh(&key, &other, HOLD_MS, now()).await.unwrap());
                tokio::task::yield_now().await;
            }
        };
        let held = held(&store, &key, &ours, (Duration::from_millis(1), renewed), round);
        tokio::time::timeout(Duration::from_secs(60), held).await.unwrap();
        // Of a replica that died nothing is left after a while.
        let later = now().plus_ms(HOLD_MS);
        assert!(store.begin_pool_refresh(&key, &other, HOLD_MS, later).await.unwrap());
    }
}
