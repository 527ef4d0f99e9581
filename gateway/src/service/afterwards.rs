//! What is written after a job while nobody waits for it: that its credit was used as it was set aside,
//! and how fast its orchestrator was. What comes within a moment goes together, so that a thousand jobs
//! cost the store about as much as one; and one such write at a time is under way, however slow the store
//! is.
//!
//! A replica that dies loses a moment of it, which is harmless: what was set aside stays spent, as it
//! should, its trace is forgotten after an hour, and a score is of the last job in any case. For the same
//! reason nothing here can cost anything twice. When the store does not take it, traces are tried again for a while, because
//! they take up an account's room until they are forgotten; ending one that is gone already changes
//! nothing. Scores are not: the next job has a newer one.

use crate::clock;
use async_trait::async_trait;
use futures::future::join_all;
use penstock_store::{CreditKey, HoldId, SessionStore, StoreError};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// What comes within it goes together.
const MOMENT: Duration = Duration::from_millis(50);
/// Before traces that were not taken are tried again; and how often in a row anything may not be taken
/// before they are left to themselves.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// Holds, and scores, that wait at most: more come only while the store is away. Then a trace stays for
/// an hour, and a score is not noted.
const MOST: usize = 8_192;
/// How long a score counts.
pub const SCORE_TTL_MS: u64 = 600_000;

/// As much of a store as is needed.
#[async_trait]
trait Desk: Send + Sync {
    async fn end_holds(&self, account: &CreditKey, holds: &[HoldId]) -> Result<(), StoreError>;
    async fn record_score(&self, scope: &str, uri: &str, score: f64) -> Result<(), StoreError>;
}

#[async_trait]
impl Desk for Arc<dyn SessionStore> {
    async fn end_holds(&self, account: &CreditKey, holds: &[HoldId]) -> Result<(), StoreError> {
        self.as_ref().end_holds(account, holds, clock::now()).await
    }

    async fn record_score(&self, scope: &str, uri: &str, score: f64) -> Result<(), StoreError> {
        self.as_ref().record_score(scope, uri, score, SCORE_TTL_MS, clock::now()).await
    }
}

/// What waits to be written.
pub struct Afterwards {
    desk: Box<dyn Desk>,
    jobs: TaskTracker,
    waiting: Mutex<Waiting>,
    again: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    holds: HashMap<CreditKey, Vec<HoldId>>,
    count: usize,
    /// By scope and orchestrator: the last one counts.
    scores: HashMap<(String, String), f64>,
    /// Somebody writes it, or is about to.
    is_due: bool,
}

impl Waiting {
    fn add(&mut self, account: &CreditKey, holds: &[HoldId]) {
        let room = MOST.saturating_sub(self.count).min(holds.len());
        if let Some(holds) = holds.get(..room).filter(|holds| !holds.is_empty()) {
            self.count += holds.len();
            self.holds.entry(account.clone()).or_default().extend_from_slice(holds);
        }
    }
}

impl Afterwards {
    /// Writes to this store, in a task that is waited for when the gateway stops.
    pub fn new(store: Arc<dyn SessionStore>, jobs: TaskTracker) -> Arc<Self> {
        Self::at(Box::new(store), jobs, AGAIN)
    }

    fn at(desk: Box<dyn Desk>, jobs: TaskTracker, again: Duration) -> Arc<Self> {
        Arc::new(Self { desk, jobs, waiting: Mutex::default(), again })
    }

    /// A job used exactly what was set aside.
    pub fn spent(self: &Arc<Self>, account: &CreditKey, hold: &HoldId) {
        self.note(|waiting| waiting.add(account, std::slice::from_ref(hold)));
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
        let is_due = self.with(|waiting| {
            change(waiting);
            std::mem::replace(&mut waiting.is_due, true)
        });
        if !is_due {
            let this = Arc::clone(self);
            self.jobs.spawn(async move { this.write_all().await });
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until nothing waits.
    async fn write_all(&self) {
        let (mut failures, mut pause) = (0, MOMENT);
        loop {
            tokio::time::sleep(pause).await;
            let taken = self.with(|waiting| {
                let taken = std::mem::take(waiting);
                waiting.is_due = true;
                taken
            });
            let left = self.write(taken).await;
            failures = if left.is_empty() { 0 } else { failures + 1 };
            pause = if failures == 0 { MOMENT } else { self.again };
            if failures >= TRIES {
                let count: usize = left.iter().map(|(_, holds)| holds.len()).sum();
                tracing::warn!(count, "traces of jobs that are done stay for an hour");
            }
            let over = self.with(|waiting| {
                if failures < TRIES {
                    left.iter().for_each(|(account, holds)| waiting.add(account, holds));
                }
                waiting.is_due = !(waiting.holds.is_empty() && waiting.scores.is_empty());
                !waiting.is_due
            });
            if over {
                return;
            }
        }
    }

    /// The traces that are there still.
    async fn write(&self, taken: Waiting) -> Vec<(CreditKey, Vec<HoldId>)> {
        let holds = taken.holds.into_iter().map(async |(account, holds)| {
            let error = self.desk.end_holds(&account, &holds).await.err()?;
            tracing::debug!(%error, count = holds.len(), "traces of jobs that are done are there still");
            Some((account, holds))
        });
        let scores = taken.scores.into_iter().map(async |((scope, orchestrator), score)| {
            if let Err(error) = self.desk.record_score(&scope, &orchestrator, score).await {
                tracing::warn!(%error, "a latency score was not stored");
            }
        });
        let (holds, _) = tokio::join!(join_all(holds), join_all(scores));
        holds.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Address, AuthId};
    use penstock_store::{CreditStore as _, MemoryStore, ReputationStore as _, Reserve};
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    fn account() -> CreditKey {
        CreditKey {
            auth_id: AuthId::new("a").unwrap(),
            sender: Address::ZERO,
            orchestrator: "https://o".into(),
            session: "s".into(),
        }
    }

    fn hold(n: usize) -> HoldId {
        HoldId(n.to_string())
    }

    /// A store that is away so many times, then slow as long as its gate is shut.
    #[derive(Default)]
    struct Slow {
        away: AtomicU32,
        gate: Option<Semaphore>,
        now: AtomicUsize,
        most: AtomicUsize,
        ended: Mutex<Vec<HoldId>>,
    }

    #[async_trait]
    impl Desk for Arc<Slow> {
        async fn end_holds(&self, _: &CreditKey, holds: &[HoldId]) -> Result<(), StoreError> {
            let less = |left: u32| left.checked_sub(1);
            if self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                return Err(StoreError::Unavailable("away".into()));
            }
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            self.ended.lock().unwrap().extend_from_slice(holds);
            Ok(())
        }

        async fn record_score(&self, _: &str, _: &str, _: f64) -> Result<(), StoreError> {
            Err(StoreError::Unavailable("away".into()))
        }
    }

    fn at(desk: &Arc<Slow>) -> (Arc<Afterwards>, TaskTracker) {
        let jobs = TaskTracker::new();
        let again = Duration::from_millis(1);
        (Afterwards::at(Box::new(Arc::clone(desk)), jobs.clone(), again), jobs)
    }

    async fn all_is_written(jobs: &TaskTracker) {
        jobs.close();
        tokio::time::timeout(Duration::from_secs(120), jobs.wait()).await.expect("it ends");
    }

    #[tokio::test]
    async fn what_the_store_did_not_take_is_tried_again() {
        let desk = Arc::new(Slow { away: AtomicU32::new(TRIES - 1), ..Slow::default() });
        let (afterwards, jobs) = at(&desk);
        afterwards.spent(&account(), &hold(1));
        afterwards.took("video", "https://o", 0.5);
        all_is_written(&jobs).await;
        assert_eq!(*desk.ended.lock().unwrap(), [hold(1)], "once");
        // Not for ever.
        desk.away.store(TRIES, Ordering::SeqCst);
        afterwards.spent(&account(), &hold(2));
        all_is_written(&jobs).await;
        afterwards.spent(&account(), &hold(3));
        all_is_written(&jobs).await;
        assert_eq!(*desk.ended.lock().unwrap(), [hold(1), hold(3)]);
    }

    #[tokio::test]
    async fn a_slow_store_has_one_write_under_way() {
        let desk = Arc::new(Slow { gate: Some(Semaphore::new(0)), ..Slow::default() });
        let (afterwards, jobs) = at(&desk);
        afterwards.spent(&account(), &hold(0));
        penstock_testkit::until("it is at it", || async { desk.now.load(Ordering::SeqCst) == 1 })
            .await;
        let more: Vec<_> = (1..MOST + 100).map(hold).collect();
        more.iter().for_each(|hold| afterwards.spent(&account(), hold));
        assert_eq!(jobs.len(), 1);
        assert_eq!(afterwards.with(|waiting| waiting.count), MOST, "bounded");
        desk.gate.as_ref().unwrap().add_permits(1_000);
        all_is_written(&jobs).await;
        assert_eq!(desk.most.load(Ordering::SeqCst), 1);
        assert_eq!(desk.ended.lock().unwrap().len(), 1 + MOST);
    }

    #[tokio::test]
    async fn what_comes_within_a_moment_goes_together() {
        let (store, jobs) = (Arc::new(MemoryStore::default()), TaskTracker::new());
        let afterwards = Afterwards::new(store.clone(), jobs.clone());
        let account = account();
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
