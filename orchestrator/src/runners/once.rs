//! A single call: its session ends with its answer. A fixed price is booked then, unless the runner
//! failed, so that nobody pays for what was not delivered.

use super::{pay::Begun, sessions::Reserved};
use crate::{
    delivery,
    node::Node,
    release::{Kind, Reason},
    service::hands::Purse,
};
use penstock_payments::fee;
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// A call under way.
pub struct Once {
    node: Arc<Node>,
    reserved: Option<Reserved>,
    purse: Option<Purse>,
    outcome: Reason,
    owed: bool,
}

impl Once {
    /// It begins.
    pub fn new(node: Arc<Node>, begun: Begun) -> Self {
        let Begun { reserved, once } = begun;
        let (outcome, owed) = (Reason::ClientGone, false);
        Self { node, reserved: Some(reserved), purse: once, outcome, owed }
    }

    /// Its session.
    pub fn session(&self) -> Option<(&str, &str)> {
        self.reserved.as_ref().map(|reserved| (reserved.route.as_str(), reserved.name.as_str()))
    }

    /// The answer is through.
    pub fn done(&mut self) {
        self.outcome = Reason::Completed;
    }

    /// The runner is about to hear of it: who hangs up from here on has had its time.
    pub fn sent(&mut self) {
        self.owed = true;
    }

    /// There is no answer, or not all of it, and it was not its client who ended it.
    pub fn voided(&mut self, why: Reason) {
        self.outcome = why;
        self.owed = false;
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        let (Some(mut reserved), outcome) = (self.reserved.take(), self.outcome) else { return };
        reserved.because(outcome);
        let Some(purse) = self.purse.take() else { return };
        if !self.owed {
            metrics::counter!("orchestrator_runner_calls_voided_total").increment(1);
            return;
        }
        let node = Arc::clone(&self.node);
        reserved.units.store(1, Relaxed);
        drop(reserved);
        // In a task: the books take their time, and nobody waits for them.
        let running = node.jobs.token();
        tokio::spawn(async move {
            let Some(cashier) = &node.cashier else { return };
            let job = format!("runner/{}", uuid::Uuid::new_v4().simple());
            let hold = &purse.hold;
            match cashier.debit(hold, job, 1).await {
                Err(error) => tracing::error!(%error, "a single call was not charged"),
                Ok(()) if outcome != Reason::Completed => {
                    delivery::undelivered(Kind::LiveRunner, &fee(1, &hold.price));
                }
                Ok(()) => {}
            }
            drop(purse);
            drop(running);
        });
    }
}
