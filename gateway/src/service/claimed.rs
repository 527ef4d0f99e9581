//! Giving back what was claimed of the session store for a while: a segment, a session's lease, an
//! `Idempotency-Key`, a round of discovery. Work under a claim mostly fails because the store is away, and then giving back
//! fails as well: the next one would wait for the claim to lapse. So it is tried again, in the
//! background and for as long as a claim may last. It is given back by the name of who claimed it, so
//! that one may also be given back of which nobody knows whether it was granted, because the answer was
//! lost. While the store is away each request that comes fails with a claim in hand, so that there is a bound
//! to how many are tried again; those beyond lapse.

use futures::future::BoxFuture;
use penstock_store::StoreError;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Claims that are given back at a time, at most.
const AT_ONCE: usize = 2_048;

/// Where claims are given back: among the jobs that are waited for before the process ends, and so many at a time.
#[derive(Debug, Clone)]
pub struct GiveBacks {
    jobs: TaskTracker,
    room: Arc<Semaphore>,
}

impl GiveBacks {
    /// Among these jobs.
    pub fn among(jobs: &TaskTracker) -> Self {
        Self { jobs: jobs.clone(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

type Undo = Box<dyn Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// Something that is claimed, or is about to be. Given back when dropped, however that comes.
pub struct Claimed {
    /// For logs.
    what: &'static str,
    /// How long a claim lasts that nobody gives back.
    lasts: Duration,
    undo: Option<Undo>,
    by: GiveBacks,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claimed").field(&self.what).finish()
    }
}

impl Claimed {
    /// To be made before the store is asked. `undo` gives back by the claimant's name, and does nothing
    /// where the claim is somebody else's or nobody's.
    pub fn new<F>(
        what: &'static str,
        lasts: Duration,
        by: &GiveBacks,
        undo: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let undo: Undo = Box::new(move || Box::pin(undo()));
        Self { what, lasts, undo: Some(undo), by: by.clone() }
    }

    /// There is nothing to give back: it was refused, or has ended in another way.
    pub fn is_over(mut self) {
        self.undo = None;
    }

    /// Gives it back. Returns after the first try; whether it succeeded makes no difference to anybody's
    /// result.
    pub async fn give_back(mut self) {
        if let Some(first) = self.begin() {
            // Never sent: dropped when the try is over.
            let _ = first.await;
        }
    }

    fn begin(&mut self) -> Option<oneshot::Receiver<()>> {
        let undo = self.undo.take()?;
        // None: the process is ending, and the claim lapses.
        let runtime = Handle::try_current().ok()?;
        let Ok(place) = Arc::clone(&self.by.room).try_acquire_owned() else {
            metrics::counter!("penstock_gateway_claims_left_to_lapse_total").increment(1);
            return None;
        };
        let (trying, first) = oneshot::channel();
        self.by.jobs.spawn_on(persist(self.what, self.lasts, undo, trying, place), &runtime);
        Some(first)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.begin();
    }
}

async fn persist(
    what: &'static str,
    lasts: Duration,
    undo: Undo,
    trying: oneshot::Sender<()>,
    _place: OwnedSemaphorePermit,
) {
    let deadline = Instant::now() + lasts;
    let mut trying = Some(trying);
    loop {
        let error = match undo().await {
            Ok(()) => return,
            Err(error) => error,
        };
        drop(trying.take());
        if !matches!(error, StoreError::Unavailable(_)) || Instant::now() >= deadline {
            tracing::warn!(what, %error, "a claim was not given back; it lapses by itself");
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    };

    fn away() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("away".to_owned()))
    }

    /// A claim that cannot be given back the first `failures` times, and how often that was tried.
    fn claimed(failures: u32, lasts_ms: u64, jobs: &TaskTracker) -> (Claimed, Arc<AtomicU32>) {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let undo = move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move { if number < failures { away() } else { Ok(()) } }
        };
        let by = GiveBacks::among(jobs);
        (Claimed::new("a test", Duration::from_millis(lasts_ms), &by, undo), tries)
    }

    async fn all_done(jobs: &TaskTracker) {
        jobs.close();
        jobs.wait().await;
    }

    #[tokio::test]
    async fn what_is_dropped_is_given_back_when_the_store_is_there_again() {
        let jobs = TaskTracker::new();
        let (claim, tries) = claimed(3, 60_000, &jobs);
        drop(claim);
        all_done(&jobs).await;
        assert_eq!(tries.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn nobody_waits_for_more_than_the_first_try() {
        let jobs = TaskTracker::new();
        let (claim, tries) = claimed(2, 60_000, &jobs);
        claim.give_back().await;
        assert_eq!(tries.load(Ordering::SeqCst), 1);
        all_done(&jobs).await;
        assert_eq!(tries.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn what_has_lapsed_anyway_is_let_go() {
        let jobs = TaskTracker::new();
        let (claim, tries) = claimed(u32::MAX, 1, &jobs);
        drop(claim);
        all_done(&jobs).await;
        assert!(tries.load(Ordering::SeqCst) > 0);
    }

    #[tokio::test]
    async fn a_store_that_is_away_gathers_a_bounded_crowd() {
        let (jobs, there) = (TaskTracker::new(), Arc::new(AtomicBool::new(false)));
        let by = GiveBacks::among(&jobs);
        let claim = || {
            let there = Arc::clone(&there);
            let undo = move || {
                let there = there.load(Ordering::SeqCst);
                async move { if there { Ok(()) } else { away() } }
            };
            Claimed::new("a test", Duration::from_secs(600), &by, undo)
        };
        for _ in 0..3 * AT_ONCE {
            // As a request does that fails at once.
            claim().give_back().await;
        }
        assert_eq!(jobs.len(), AT_ONCE);
        there.store(true, Ordering::SeqCst);
        all_done(&jobs).await;
        assert_eq!(by.room.available_permits(), AT_ONCE, "there is room again");
    }

    #[tokio::test]
    async fn what_is_over_is_not_given_back() {
        let jobs = TaskTracker::new();
        let (claim, tries) = claimed(0, 60_000, &jobs);
        claim.is_over();
        all_done(&jobs).await;
        assert_eq!(tries.load(Ordering::SeqCst), 0);
    }
}
