//! What is written after a job while nobody waits for it: that its credit was used as it was set aside,
//! and how fast its orchestrator was. What comes within a moment goes together, so that a thousand jobs
//! cost the store about as much as one.
//!
//! A replica that dies loses a moment of it, which is harmless: what was set aside stays spent, as it
//! should, its trace is forgotten after an hour, and a score is of the last job in any case.

use crate::clock;
use futures::future::join_all;
use penstock_store::{CreditKey, HoldId, SessionStore};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// What comes within it goes together.
const MOMENT: Duration = Duration::from_millis(50);
/// Holds, and scores, that wait at most: more come only while the store is away. Then a trace stays for
/// an hour, and a score is not noted.
const MOST: usize = 8_192;
/// How long a score counts.
pub const SCORE_TTL_MS: u64 = 600_000;

/// What waits to be written.
pub struct Afterwards {
    store: Arc<dyn SessionStore>,
    jobs: TaskTracker,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    holds: HashMap<CreditKey, Vec<HoldId>>,
    count: usize,
    /// By scope and orchestrator: the last one counts.
    scores: HashMap<(String, String), f64>,
    /// Somebody is about to write it.
    is_due: bool,
}

impl Afterwards {
    /// Writes to this store, in tasks that are waited for when the gateway stops.
    pub fn new(store: Arc<dyn SessionStore>, jobs: TaskTracker) -> Arc<Self> {
        Arc::new(Self { store, jobs, waiting: Mutex::default() })
    }

    /// A job used exactly what was set aside.
    pub fn spent(self: &Arc<Self>, account: &CreditKey, hold: &HoldId) {
        self.note(|waiting| {
            if waiting.count < MOST {
                waiting.count += 1;
                waiting.holds.entry(account.clone()).or_default().push(hold.clone());
            }
        });
    }

    /// Seconds of work per unit, of the last job.
    pub fn took(self: &Arc<Self>, scope: &str, orchestrator: &str, score: f64) {
        self.note(|waiting| {
            let place = (scope.to_owned(), orchestrator.to_owned());
            if waiting.scores.len() < MOST || waiting.scores.contains_key(&place) {
                waiting.scores.insert(place, score);
            }
        });
    }

    fn note(self: &Arc<Self>, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut waiting);
        if !std::mem::replace(&mut waiting.is_due, true) {
            let this = Arc::clone(self);
            self.jobs.spawn(async move {
                tokio::time::sleep(MOMENT).await;
                this.write().await;
            });
        }
    }

    async fn write(&self) {
        let Waiting { holds, scores, .. } =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let now = clock::now();
        let holds = holds.into_iter().map(async |(account, holds)| {
            if let Err(error) = self.store.end_holds(&account, &holds, now).await {
                let count = holds.len();
                tracing::warn!(%error, count, "traces of jobs that are done stay for an hour");
            }
        });
        let scores = scores.into_iter().map(async |((scope, orchestrator), score)| {
            let noted = self.store.record_score(&scope, &orchestrator, score, SCORE_TTL_MS, now);
            if let Err(error) = noted.await {
                tracing::warn!(%error, "a latency score was not stored");
            }
        });
        tokio::join!(join_all(holds), join_all(scores));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Address, AuthId};
    use penstock_store::{CreditStore as _, MemoryStore, ReputationStore as _, Reserve};

    #[tokio::test]
    async fn what_comes_within_a_moment_goes_together() {
        let (store, jobs) = (Arc::new(MemoryStore::default()), TaskTracker::new());
        let afterwards = Afterwards::new(store.clone(), jobs.clone());
        let account = CreditKey {
            auth_id: AuthId::new("a").unwrap(),
            sender: Address::ZERO,
            orchestrator: "https://o".into(),
            session: "s".into(),
        };
        let hold = |n: u8| HoldId(n.to_string());
        store.book_purchase(&account, "p", 10, 60_000, clock::now()).await.unwrap();
        let reserve =
            async |n| store.reserve(&account, &hold(n), 3, 0, clock::now()).await.unwrap();
        for n in [1, 2] {
            reserve(n).await;
            afterwards.spent(&account, &hold(n));
        }
        for score in [0.5, 0.25] {
            afterwards.took("video", "https://o", score);
        }
        assert_eq!(jobs.len(), 1, "one writes all of it");
        assert_eq!(reserve(1).await, Reserve::Granted { left_units: 4 }, "still held");
        jobs.close();
        jobs.wait().await;
        let standings = store.standings("video", clock::now()).await.unwrap();
        assert_eq!(standings["https://o"].latency_score, Some(0.25));
        // The holds are gone, what they took is not back.
        assert_eq!(reserve(1).await, Reserve::Granted { left_units: 1 });
        assert_eq!(store.settle(&account, &hold(2), 0, clock::now()).await.unwrap(), 1);
        // And anew.
        afterwards.took("video", "https://o", 0.75);
        jobs.wait().await;
        let standings = store.standings("video", clock::now()).await.unwrap();
        assert_eq!(standings["https://o"].latency_score, Some(0.75));
    }
}
