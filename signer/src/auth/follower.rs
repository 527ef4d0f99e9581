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
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
    time::{Duration, Instant},
};

/// Between two looks at the books.
pub const POLL: Duration = Duration::from_millis(500);
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
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Reads all changes there are.
    pub async fn catch_up(&self) -> Result<(), LedgerError> {
        let _turn = self.reading.lock().await;
        self.read().await
    }

    async fn read(&self) -> Result<(), LedgerError> {
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
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|at| at.elapsed() <= MAX_AGE)
    }

    /// What is known, no older than [`MAX_AGE`].
    pub async fn fresh(&self) -> Result<RwLockReadGuard<'_, Directory>, LedgerError> {
        if !self.is_fresh() {
            let _turn = self.reading.lock().await;
            // Many may have waited for one who asked.
            if !self.is_fresh() {
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
        let mut away = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            match self.catch_up().await {
                Ok(()) if away => {
                    away = false;
                    tracing::info!("the accounts in the ledger are readable again");
                }
                Ok(()) => {}
                Err(error) => {
                    metrics::counter!("signer_accounts_read_errors_total").increment(1);
                    if !away {
                        away = true;
                        tracing::warn!(%error, "the accounts in the ledger cannot be read");
                    }
                }
            }
        }
    }

    /// Ends its connections.
    pub async fn close(&self) {
        self.ledger.close().await;
    }
}
