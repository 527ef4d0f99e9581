//! Follows the accounts in the books, so that letting a caller in costs no database read: neither
//! a known key nor a flood of unknown ones.
//!
//! All accounts are in memory (the books bound their number). Every [`POLL`] a replica asks what
//! changed since its newest change number, which is one indexed read. What another replica changed
//! counts here after [`MAX_AGE`] at the latest: if the books have not answered for that long, they
//! are asked before the caller is, and if they are away nobody is let in by them (503).
//! What is changed through this process counts here at once.

use super::directory::Directory;
use penstock_http_kit::CancellationToken;
use penstock_ledger::signer::{
    LedgerError,
    accounts::{AccountLedger, Applied, Put},
};
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

/// Between two looks at the books.
pub const POLL: Duration = Duration::from_millis(500);
/// Longest wait between two looks while they fail; each waits twice as long as the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// How old what is known may be.
pub const MAX_AGE: Duration = Duration::from_millis(2_000);
/// Records in one read.
const PAGE: u32 = 5_000;

/// The accounts as this replica knows them.
pub struct Follower {
    ledger: Arc<dyn AccountLedger>,
    directory: RwLock<Directory>,
    /// When the books were asked the last time that they answered.
    asked: Mutex<Option<Instant>>,
    /// When and how a question failed the last time.
    failed: Mutex<Option<(Instant, LedgerError)>>,
    /// One reader of changes at a time.
    reading: tokio::sync::Mutex<()>,
}

impl Follower {
    /// Knows nothing yet.
    pub fn new(ledger: Arc<dyn AccountLedger>) -> Self {
        Self {
            ledger,
            directory: RwLock::default(),
            asked: Mutex::new(None),
            failed: Mutex::new(None),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Shares every rate with so many replicas. Before anything is read.
    pub fn sharing_rates(mut self, replicas: NonZeroU32) -> Self {
        self.directory = RwLock::new(Directory::sharing_rates(replicas));
        self
    }

    /// Reads all changes there are.
    pub async fn catch_up(&self) -> Result<(), LedgerError> {
        let _turn = self.reading.lock().await;
        self.read().await
    }

    async fn read(&self) -> Result<(), LedgerError> {
        let read = self.read_all().await;
        if let Err(error) = &read {
            let failure = Some((Instant::now(), error.clone()));
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        }
        read
    }

    async fn read_all(&self) -> Result<(), LedgerError> {
        loop {
            // Before the question: what is written while it is under way may be missing.
            let now = Instant::now();
            let after = self.known().latest();
            let changes = self.ledger.changes(after, PAGE).await?;
            if !changes.records.is_empty() {
                let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
                directory.take(changes.records);
            }
            if !changes.more {
                *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                return Ok(());
            }
        }
    }

    fn is_fresh(&self) -> bool {
        self.asked().is_some_and(|at| at.elapsed() <= MAX_AGE)
    }

    /// How a question failed that ended after `since`.
    fn failure_since(&self, since: Instant) -> Option<LedgerError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().filter(|(at, _)| *at >= since).map(|(_, error)| error.clone())
    }

    /// When the books answered the last time.
    fn asked(&self) -> Option<Instant> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nobody is let in by what is known, for readiness: it is too old at `now`, and the last
    /// question failed.
    pub fn trouble(&self, now: Instant) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (at, error) = failed?;
        let Some(asked) = self.asked() else { return Some(format!("never read: {error}")) };
        let age = now.saturating_duration_since(asked);
        (at >= asked && age > MAX_AGE).then(|| format!("read {} s ago: {error}", age.as_secs()))
    }

    /// What is known, no older than [`MAX_AGE`].
    pub async fn fresh(&self) -> Result<RwLockReadGuard<'_, Directory>, LedgerError> {
        if !self.is_fresh() {
            let came = Instant::now();
            let _turn = self.reading.lock().await;
            // Many may have waited for one who asked. What that one was told holds for them all: if
            // each asked books that are away, the last would wait for the time limits of all.
            if !self.is_fresh() {
                if let Some(error) = self.failure_since(came) {
                    return Err(error);
                }
                self.read().await?;
            }
        }
        Ok(self.known())
    }

    /// What is known, however old.
    pub fn known(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, and knows what was written when this returns.
    pub async fn apply(&self, puts: Vec<Put>, now_ms: i64) -> Result<Applied, LedgerError> {
        let applied = self.ledger.apply(puts, now_ms).await?;
        self.catch_up().await?;
        Ok(applied)
    }

    /// Keeps up until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut failures = 0u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause(failures)) => {}
            }
            match self.catch_up().await {
                Ok(()) if failures > 0 => {
                    failures = 0;
                    tracing::info!("the accounts in the ledger are readable again");
                }
                Ok(()) => {}
                Err(error) => {
                    metrics::counter!("signer_accounts_read_errors_total").increment(1);
                    if failures == 0 {
                        tracing::warn!(%error, "the accounts in the ledger cannot be read");
                    }
                    failures = failures.saturating_add(1);
                }
            }
            if let Some(at) = self.asked() {
                metrics::gauge!("signer_accounts_age_seconds").set(at.elapsed().as_secs_f64());
            }
        }
    }

    /// Ends its connections.
    pub async fn close(&self) {
        self.ledger.close().await;
    }
}

/// Before the next look, after so many failures in a row: books that are away are not hammered by
/// every replica. A caller who comes meanwhile makes a look of his own.
fn pause(failures: u32) -> Duration {
    POLL.saturating_mul(2u32.saturating_pow(failures)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_ledger::signer::accounts::Changes;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use tokio::sync::Semaphore;

    /// Books that answer no question before they are let, as when a database's host is away.
    struct Away {
        questions: AtomicU64,
        let_go: Semaphore,
        back: AtomicBool,
    }

    #[async_trait::async_trait]
    impl AccountLedger for Away {
        async fn changes(&self, _after: u64, _limit: u32) -> Result<Changes, LedgerError> {
            self.questions.fetch_add(1, Ordering::SeqCst);
            let _let = self.let_go.acquire().await.map_err(|_| LedgerError::Closed)?;
            if self.back.load(Ordering::SeqCst) {
                return Ok(Changes { records: Vec::new(), more: false });
            }
            Err(LedgerError::Closed)
        }

        async fn apply(&self, _puts: Vec<Put>, _now_ms: i64) -> Result<Applied, LedgerError> {
            Err(LedgerError::Closed)
        }

        async fn close(&self) {}
    }

    #[tokio::test]
    async fn who_waited_for_a_failed_question_does_not_ask_it_again() {
        let ledger = Arc::new(Away {
            questions: AtomicU64::new(0),
            let_go: Semaphore::new(0),
            back: AtomicBool::new(false),
        });
        let follower = Follower::new(Arc::clone(&ledger) as Arc<dyn AccountLedger>);
        let all = futures::future::join_all((0..20).map(|_| follower.fresh()));
        // All of them wait before the one question is let fail: they are polled in their order.
        let (said, ()) = tokio::join!(all, async { ledger.let_go.add_permits(1) });
        assert!(said.iter().all(|one| matches!(one, Err(LedgerError::Closed))));
        assert_eq!(ledger.questions.load(Ordering::SeqCst), 1);
        drop(said);
        // Who comes later asks anew, and learns that they are back.
        ledger.back.store(true, Ordering::SeqCst);
        assert!(follower.fresh().await.is_ok());
        assert_eq!(ledger.questions.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn who_fails_waits_longer_and_longer() {
        let waits: Vec<u128> = (0..7).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        assert_eq!(pause(u32::MAX), LONGEST_WAIT);
    }

    #[tokio::test]
    async fn what_is_too_old_is_trouble_and_says_its_age() {
        let ledger = Arc::new(Away {
            questions: AtomicU64::new(0),
            let_go: Semaphore::new(100),
            back: AtomicBool::new(false),
        });
        let follower = Follower::new(Arc::clone(&ledger) as Arc<dyn AccountLedger>);
        assert_eq!(follower.trouble(Instant::now()), None, "nothing was asked yet");
        follower.catch_up().await.unwrap_err();
        let said = follower.trouble(Instant::now()).unwrap();
        assert!(said.starts_with("never read: "), "{said}");
        ledger.back.store(true, Ordering::SeqCst);
        follower.catch_up().await.unwrap();
        let read = follower.asked().unwrap();
        assert_eq!(follower.trouble(read + MAX_AGE * 9), None, "the last question was answered");
        ledger.back.store(false, Ordering::SeqCst);
        follower.catch_up().await.unwrap_err();
        assert_eq!(follower.trouble(read + MAX_AGE), None, "what is known still counts");
        let said = follower.trouble(read + MAX_AGE * 9).unwrap();
        assert!(said.starts_with("read 18 s ago: "), "{said}");
    }
}
