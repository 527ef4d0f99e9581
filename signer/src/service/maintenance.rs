//! What happens without being asked: reservations of the dead give their budget back, and the audit
//! chains are written into each other. Any replica may do it, at any time, and several at once.

use super::Signer;
use penstock_http_kit::CancellationToken;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often reservations are looked at. They live for two minutes.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);
/// How often the chains' heads are exchanged: what a forger could take off a tail unseen. One process
/// alone has no other chain to be written into: its own head goes to the log, and must be kept there.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);
/// Reservations taken back at once.
const BATCH: u32 = 1_000;

impl Signer {
    /// Until `stop`.
    pub async fn maintain(&self, stop: CancellationToken) {
        let mut expire = interval(EXPIRE_EVERY);
        let mut anchor = interval(ANCHOR_EVERY);
        for ticks in [&mut expire, &mut anchor] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = expire.tick() => self.expire_reservations().await,
                _ = anchor.tick() => {
                    if let Err(error) = self.ledger.anchor(self.now_ms()).await {
                        tracing::warn!(%error, "the audit chains could not be anchored");
                    }
                }
            }
        }
    }

    /// Takes back what nobody will commit any more.
    pub async fn expire_reservations(&self) {
        loop {
            match self.ledger.expire_reservations(self.now_ms(), BATCH).await {
                Ok(count) => {
                    metrics::counter!("signer_reservations_expired_total").increment(count);
                    if count > 0 {
                        tracing::info!(count, "reservations expired; their budget is given back");
                    }
                    if count < u64::from(BATCH) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "reservations could not be expired");
                    return;
                }
            }
        }
    }
}
