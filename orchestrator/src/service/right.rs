//! The right to redeem, which one process has at a time, is renewed while that process waits for the chain.

use penstock_ledger::orchestrator::{Fence, OrchestratorLedger};
use std::{pin::pin, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Waits for what is being sent. Meanwhile the right to redeem stays here: another process that got it
/// would find the winner unpaid, and send it once more.
pub async fn keeping_the_right<T>(
    ledger: &dyn OrchestratorLedger,
    fence: Fence,
    every: Duration,
    sending: impl Future<Output = T>,
) -> T {
    let renewing = async {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is now, and the right was just looked at.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match ledger.redeemer().await {
                Ok(Some(now)) if now == fence => {}
                Ok(_) => {
                    // What was sent cannot be taken back; the chain pays it once.
                    tracing::warn!(
                        "another process redeems, and this one still waits for the chain"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the right to redeem was not renewed; trying again")
                }
            }
        }
    };
    let mut sending = pin!(sending);
    tokio::select! {
        biased;
        sent = &mut sending => sent,
        () = renewing => sending.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_ledger::orchestrator::{LeaseTime, open};
    use penstock_testkit::{
        postgres::{Database, database},
        until,
    };
    use tokio::sync::oneshot;

    /// Longer than any test: what moves the end of the lease is a renewal.
    const LEASE: LeaseTime = LeaseTime(Duration::from_secs(3600));

    async fn lease_until(database: &Database) -> String {
        database.text("SELECT lease_until::text FROM leases WHERE name = 'redeemer'").await
    }

    #[tokio::test]
    async fn the_right_to_redeem_is_renewed_while_the_chain_takes_its_time() {
        let database = database().await;
        let ledger = open(database.url(), LEASE).await.unwrap();
        let fence = ledger.redeemer().await.unwrap().unwrap();
        let begun = lease_until(&database).await;
        let (pay, paid) = oneshot::channel();
        let every = Duration::from_millis(5);
        let sending = keeping_the_right(ledger.as_ref(), fence, every, paid);
        let renewed = async {
            until("the lease is renewed", || async { lease_until(&database).await != begun }).await;
            pay.send("paid").unwrap();
        };
        let (sent, ()) = tokio::join!(sending, renewed);
        assert_eq!(sent.unwrap(), "paid");
        ledger.close().await;
    }

    #[tokio::test]
    async fn one_that_lost_the_right_still_hears_of_its_payment() {
        let database = database().await;
        let ledger = open(database.url(), LEASE).await.unwrap();
        let fence = ledger.redeemer().await.unwrap().unwrap();
        let other = Fence(fence.0 - 1);
        let (pay, paid) = oneshot::channel();
        let every = Duration::from_millis(5);
        let sending = keeping_the_right(ledger.as_ref(), other, every, paid);
        let begun = lease_until(&database).await;
        let asked = async {
            until("it has asked", || async { lease_until(&database).await != begun }).await;
            pay.send("paid").unwrap();
        };
        let (sent, ()) = tokio::join!(sending, asked);
        assert_eq!(sent.unwrap(), "paid");
        ledger.close().await;
    }
}
