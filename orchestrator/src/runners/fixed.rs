//! A session at a fixed price, which is booked when the first of it is delivered: a byte of an answer of its runner's, or
//! one through a channel. One that its runner, or this process, ends before that costs nothing: what was paid is its
//! sender's next session's. One that its client lets go costs what was agreed all the same, since the runner was
//! held for it, and is there: else whoever leaves and comes again would hold it for nothing.

use super::{
    health::Probe,
    ids,
    sessions::{Delivery, Reserved},
};
use crate::{
    delivery,
    node::Node,
    release::{Kind, Reason},
    service::{cashier::MoneyError, hands::Purse},
};
use penstock_payments::fee;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Tries in a row that the books could not take. The session ends then, or when what was set aside is lost: it would be
/// for nothing.
const MOST_FAILURES: u32 = 12;

/// What a session costs, once.
pub struct FixedPrice {
    node: Arc<Node>,
    runner: String,
    route: String,
    name: String,
    generation: u64,
    ended: CancellationToken,
    delivery: Delivery,
    probe: Probe,
    units: Arc<AtomicU64>,
    purse: Purse,
    /// Of this session, and of no other of the same name.
    job: String,
}

impl FixedPrice {
    /// It has begun.
    pub fn new(node: Arc<Node>, session: &Reserved, purse: Purse) -> Self {
        Self {
            node,
            runner: session.runner.clone(),
            route: session.route.clone(),
            name: session.name.clone(),
            generation: session.generation,
            ended: session.ended.clone(),
            delivery: session.delivery.clone(),
            probe: session.probe.clone(),
            units: Arc::clone(&session.units),
            purse,
            job: format!("runner/{}", uuid::Uuid::new_v4().simple()),
        }
    }

    /// To the session's end.
    pub async fn run(self) {
        tokio::select! {
            () = self.charge() => {
                if let Ok(runners) = self.node.runners() {
                    let why = Reason::LedgerUnavailable;
                    runners.registry.release_this(&self.runner, &self.name, self.generation, why);
                }
            }
            () = self.ended.cancelled() => {}
        }
        self.settle().await;
    }

    /// Books it when something is delivered; returns if the books do not take it.
    async fn charge(&self) {
        let Ok(runners) = self.node.runners() else { return };
        let period = runners.registry.bounds.payment_interval;
        while !self.delivery.first.is_cancelled() {
            tokio::select! {
                () = self.delivery.first.cancelled() => {}
                // What comes through channels has to be looked for.
                () = sleep(period) => {
                    runners.registry.look_for_output(&self.runner, &self.name, self.generation);
                }
            }
        }
        for _ in 0..MOST_FAILURES {
            match self.book().await {
                Ok(()) => return std::future::pending().await,
                Err(error) => {
                    self.complain(&error);
                    // It stays so, however often it is tried.
                    if matches!(error, MoneyError::Lost) {
                        return;
                    }
                }
            }
            sleep(period).await;
        }
    }

    /// Once, however often it is tried.
    async fn book(&self) -> Result<(), MoneyError> {
        if let Some(cashier) = &self.node.cashier {
            cashier.debit(&self.purse.hold, self.job.clone(), 1).await?;
        }
        if self.units.swap(1, Relaxed) == 0 {
            metrics::counter!("orchestrator_runner_units_charged_total").increment(1);
        }
        Ok(())
    }

    /// At the end: what is owed and not booked yet, if anything is.
    async fn settle(&self) {
        let is_booked = self.units.load(Relaxed) > 0;
        // Whose client has ended it, because nothing came, may be dead.
        let is_void = self.delivery.is_void().await || !is_booked && !self.was_there().await;
        if is_void && !is_booked {
            metrics::counter!("orchestrator_runner_calls_voided_total").increment(1);
            return;
        }
        if !is_booked && let Err(error) = self.book().await {
            self.complain(&error);
            return;
        }
        if is_void {
            delivery::undelivered(Kind::LiveRunner, &fee(1, &self.purse.hold.price));
        }
    }

    /// Whether it has delivered something, or its runner is there to be held.
    async fn was_there(&self) -> bool {
        let Ok(runners) = self.node.runners() else { return false };
        self.delivery.first.is_cancelled()
            || self.delivery.why() == Some(Reason::RunnerStopped)
            || runners.registry.is_there(&self.route, Instant::now())
                && self.probe.is_well(&runners.health).await
    }

    fn complain(&self, error: &MoneyError) {
        let session = ids::shown(&self.name);
        tracing::warn!(session, %error, "a fixed price could not be charged");
    }
}
