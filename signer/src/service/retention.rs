//! Taking out of the books what is old: in the background, some rows at a time, by one replica at a
//! time. What goes and what never does is the ledger's to know; here is only how old is old.

use super::Signer;
use crate::audit_command::{announcement, digests};
use penstock_http_kit::CancellationToken;
use penstock_ledger::signer::LedgerError;
use std::{future::Future, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const DAY_MS: i64 = 86_400_000;
/// How often the books are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// Rows of one transaction: some milliseconds that payments may have to wait.
const BATCH: u32 = 500;
/// After each transaction, rest so many times as long: payments have the disk nearly for themselves.
const REST: u32 = 4;

/// How long what is kept; `None`: for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// `--retain-answers-days`
    pub answers_days: Option<u32>,
    /// `--retain-payments-days`
    pub payments_days: Option<u32>,
}

impl Retention {
    /// Answers of payments made before this may shrink, Unix milliseconds.
    fn answers_before_ms(&self, now_ms: i64) -> Option<i64> {
        Some(now_ms.saturating_sub(DAY_MS.saturating_mul(self.answers_days?.into())))
    }

    /// Payments made before this may go: a midnight (UTC), so that days go whole.
    fn payments_before_ms(&self, now_ms: i64) -> Option<i64> {
        let midnight_ms = now_ms.saturating_sub(now_ms.rem_euclid(DAY_MS));
        Some(midnight_ms.saturating_sub(DAY_MS.saturating_mul(self.payments_days?.into())))
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Answers that were looked at.
    pub answers: u64,
    /// Payments that are lines of usage now.
    pub payments: u64,
    /// Counters of periods that are over.
    pub counters: u64,
}

impl Signer {
    /// Sweeps again and again until `stop`; not at all if everything is kept for ever.
    pub async fn forget(&self, retention: Retention, stop: CancellationToken) {
        if retention == Retention::default() {
            return;
        }
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A transaction that is cut off is rolled back.
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let swept = tokio::select! {
                () = stop.cancelled() => return,
                swept = self.sweep(retention) => swept,
            };
            match swept {
                Ok(swept) if swept == Swept::default() => {}
                Ok(Swept { answers, payments, counters }) => {
                    tracing::info!(answers, payments, counters, "what was old left the books");
                }
                Err(error) => tracing::warn!(%error, "what is old could not leave the books"),
            }
        }
    }

    /// Once, until nothing is old any more (or another replica is at it).
    pub async fn sweep(&self, retention: Retention) -> Result<Swept, LedgerError> {
        let mut swept = Swept::default();
        let now_ms = self.now_ms();
        if let Some(before_ms) = retention.payments_before_ms(now_ms) {
            // The oldest first: are there any? Then it is announced before it is done.
            let oldest = self.ledger.charged_after(0, 1).await?;
            if oldest.first().is_some_and(|payment| payment.created_at_ms < before_ms) {
                self.ledger.record_signatures(vec![announcement(before_ms)], now_ms).await?;
            }
            let prune = || self.ledger.prune_payments(before_ms, BATCH);
            swept.payments = in_batches("signer_payments_pruned_total", prune).await?;
            swept.counters = self.ledger.prune_counters(before_ms).await?;
        }
        if let Some(before_ms) = retention.answers_before_ms(now_ms) {
            let shrink = || self.ledger.shrink_answers(before_ms, BATCH, digests);
            swept.answers = in_batches("signer_answers_shrunk_total", shrink).await?;
        }
        Ok(swept)
    }
}

async fn in_batches<F>(counter: &'static str, batch: impl Fn() -> F) -> Result<u64, LedgerError>
where
    F: Future<Output = Result<u64, LedgerError>>,
{
    let mut all = 0_u64;
    loop {
        let begun = Instant::now();
        let count = batch().await?;
        metrics::counter!(counter).increment(count);
        all = all.saturating_add(count);
        if count < u64::from(BATCH) {
            return Ok(all);
        }
        sleep(begun.elapsed().saturating_mul(REST)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_go_whole() {
        let retention = Retention { answers_days: Some(2), payments_days: Some(35) };
        let now_ms = 100 * DAY_MS + 5;
        assert_eq!(retention.answers_before_ms(now_ms), Some(98 * DAY_MS + 5));
        assert_eq!(retention.payments_before_ms(now_ms), Some(65 * DAY_MS));
        assert_eq!(Retention::default().answers_before_ms(now_ms), None);
        assert_eq!(Retention::default().payments_before_ms(now_ms), None);
    }
}
