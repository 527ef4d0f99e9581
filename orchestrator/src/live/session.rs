//! A session's life: it ends with its money, its gateway, its runner, or its process, whichever is
//! first; then its channels are closed, which is how both parties learn of it, and its runner is free
//! for the next one once it says so.

use super::{
    billing::{Bill, Stop, Units},
    channels::Channels,
    health::{self, Over, Watch},
    runners::{Runner, Slot},
    sessions::Place,
};
use crate::{node::Node, service::holds::Hold};
use penstock_ledger::orchestrator::{AccountKey, StartEnd};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A runner gets so long to end a session before its slot is free for others all the same.
const RELEASE_TIME: Duration = Duration::from_secs(30);

/// Why a session ended, as metrics and logs call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its balance does not cover the time that has passed.
    OutOfFunds,
    /// The books could not be written.
    NoBooks,
    /// The gateway closed its channel, or sent nothing for too long.
    GatewayGone,
    /// The runner closed its channel, sent nothing for too long, or says that it has no session.
    RunnerDone,
    /// The runner is broken or cannot be reached.
    RunnerGone,
    /// Nobody heard of its begin.
    Unheard,
    /// The process stops.
    Stopping,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::OutOfFunds => "out_of_funds",
            Self::NoBooks => "ledger_unavailable",
            Self::GatewayGone => "gateway_gone",
            Self::RunnerDone => "runner_done",
            Self::RunnerGone => "runner_gone",
            Self::Unheard => "unheard",
            Self::Stopping => "stopping",
        }
    }
}

/// A session that has begun at its runner.
pub struct Session {
    /// Its own; the name in it is its manifest's.
    pub account: AccountKey,
    /// Its channels.
    pub channels: Channels,
    /// Its runner.
    pub slot: Slot,
    /// Its place among all.
    pub place: Place,
    /// Its account and price; `None` off-chain.
    pub hold: Option<Hold>,
    /// What it was charged for.
    pub units: Arc<Units>,
    /// Cancelled when the gateway did not hear of it.
    pub unheard: CancellationToken,
}

impl Session {
    /// Its life, to the end.
    pub async fn run(self, node: Arc<Node>) {
        let ended = self.end(&node).await;
        let Self { account, channels, slot, place, hold, units, .. } = self;
        drop(channels);
        drop(hold);
        metrics::counter!("orchestrator_live_sessions_ended_total", "reason" => ended.as_str())
            .increment(1);
        let (reason, shown) = (ended.as_str(), super::shown(account.session()));
        tracing::info!(session = shown, reason, units = units.charged(), "live video ended");
        // One that is gone has nothing to end, and its successor is asked how it is.
        if !matches!(ended, Ended::Stopping | Ended::RunnerGone) {
            let_go(slot, node.live.settings.health_interval).await;
        }
        drop(place);
        if ended == Ended::Unheard {
            // Its sender knows nothing of it, and pays for another one.
            node.end_start(account, StartEnd::Void).await;
        }
    }

    async fn end(&self, node: &Node) -> Ended {
        let mut bill = Bill::new(self.account.session(), &self.channels, &self.units);
        let ended = self.first_end(node, &mut bill).await;
        if let (Some(cashier), Some(hold)) = (&node.cashier, &self.hold)
            && ended != Ended::OutOfFunds
        {
            bill.settle(cashier, hold).await;
        }
        ended
    }

    async fn first_end(&self, node: &Node, bill: &mut Bill<'_>) -> Ended {
        let settings = &node.live.settings;
        let charged = async {
            let (Some(cashier), Some(hold)) = (&node.cashier, &self.hold) else {
                return std::future::pending().await;
            };
            bill.charge(cashier, hold, settings.payment_interval_ms).await
        };
        tokio::select! {
            stop = charged => match stop {
                Stop::OutOfFunds { fee, balance } => {
                    let mid = super::shown(self.account.session());
                    tracing::warn!(mid, %fee, %balance, "insufficient balance");
                    Ended::OutOfFunds
                }
                Stop::NoBooks => Ended::NoBooks,
            },
            () = self.channels.ingest.closed() => Ended::GatewayGone,
            () = self.channels.output.closed() => Ended::RunnerDone,
            over = watched(self.slot.runner(), settings.health_interval) => match over {
                Over::Gone => Ended::RunnerGone,
                Over::Done => Ended::RunnerDone,
            },
            () = self.unheard.cancelled() => Ended::Unheard,
            () = node.live_stop.cancelled() => Ended::Stopping,
        }
    }
}

/// Asks the runner until its answers end the session.
async fn watched(runner: &Runner, every: Duration) -> Over {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(every).await;
        let said = runner.api.health().await;
        if let Some(over) = watch.hear(&said, every) {
            return over;
        }
    }
}

/// Gives a slot back once its runner says that it has no session any more, or after a while.
pub async fn let_go(slot: Slot, every: Duration) {
    if tokio::time::timeout(RELEASE_TIME, released(slot.runner(), every)).await.is_err() {
        let runner = slot.runner().api.url();
        tracing::warn!(%runner, "the runner has not ended a session in time");
    }
}

async fn released(runner: &Runner, every: Duration) {
    while !health::has_ended(&runner.api.health().await, runner.capacity) {
        tokio::time::sleep(every).await;
    }
}
