//! A session's life: it ends with its money, its gateway, its runner, or its process, whichever is
//! first; then its channels are closed, which is how both parties learn of it, what is left of its money is its
//! sender's next session's, and its runner is free for the next one once it says so.

use super::{
    billing::{Bill, Stop, Units},
    channels::Channels,
    error::RunnerError,
    flow::Silence,
    health::{self, Over, Watch},
    paid_start::Means,
    runners::{Runner, Slot},
    sessions::Place,
};
use crate::{
    delivery,
    node::Node,
    release::{Kind, Reason},
    service::holds::Hold,
};
use penstock_payments::fee;
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// A runner gets so long to end a session before its slot is free for others all the same.
const RELEASE_TIME: Duration = Duration::from_secs(30);

/// A session is looked at this often, or often enough within the time that its runner has to bring something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS: u32 = 8;

/// A session that has begun at its runner.
pub struct Session {
    /// Its account; the name in that is its manifest's.
    pub means: Means,
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
}

impl Session {
    /// Its life, to the end: from when its gateway has `heard` of it, if that is ever.
    pub async fn run(self, node: Arc<Node>, heard: oneshot::Receiver<()>) {
        let ended = match heard.await {
            Ok(()) => self.end(&node).await,
            Err(_) => Reason::Unheard,
        };
        self.note_undelivered();
        self.note_how_it_went(ended);
        let Self { means, channels, slot, mut place, hold, units } = self;
        place.because(ended);
        drop(channels);
        drop(hold);
        let (reason, shown) = (ended.as_str(), super::shown(means.account().session()));
        tracing::info!(session = shown, reason, units = units.charged(), "live video ended");
        // From here on its account may be another session's.
        drop(place);
        if let Means::Start(start) = means {
            node.end_start(start).await;
        }
        let is_gone = match ended {
            Reason::Stopping => true,
            // At an operator's URL its successor answers; a worker's has none, and may be at work unheard.
            Reason::RunnerFailed => !slot.runner().api.is_workers(),
            _ => false,
        };
        if !is_gone {
            let_go(slot, node.live.settings.health_interval).await;
        }
    }

    /// For the next ones who ask for its runner.
    fn note_how_it_went(&self, ended: Reason) {
        let (runner, passed) = (self.slot.runner(), self.channels.passed());
        let has_failed = match ended {
            Reason::NoOutput | Reason::RunnerFailed => true,
            Reason::RunnerStopped => passed.input_bytes > 0 && passed.output_bytes == 0,
            _ => false,
        };
        if has_failed {
            runner.brought_nothing(self.means.account().sender());
        } else if passed.output_bytes > 0 {
            runner.brings(self.means.account().sender());
        }
    }

    /// Charged, and its runner has never sent a byte: by the rules of [`super::billing`] there is none such.
    fn note_undelivered(&self) {
        if let Some(hold) = &self.hold
            && self.channels.output.received_bytes() == 0
        {
            delivery::undelivered(Kind::LiveVideo, &fee(self.units.charged(), &hold.price));
        }
    }

    async fn end(&self, node: &Node) -> Reason {
        let mut bill = Bill::new(self.means.account().session(), &self.channels, &self.units);
        let ended = self.first_end(node, &mut bill).await;
        if let (Some(cashier), Some(hold)) = (&node.cashier, &self.hold) {
            bill.settle(cashier, hold).await;
        }
        ended
    }

    async fn first_end(&self, node: &Node, bill: &mut Bill<'_>) -> Reason {
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
                    let mid = super::shown(self.means.account().session());
                    tracing::warn!(mid, fee_wei = %fee, balance_wei = %balance, "insufficient balance");
                    Reason::OutOfFunds
                }
                Stop::NoBooks => Reason::LedgerUnavailable,
            },
            () = self.channels.ingest.closed() => Reason::ClientGone,
            () = self.channels.output.closed() => Reason::RunnerStopped,
            over = watched(self.slot.runner(), settings.health_interval) => match over {
                Over::Gone => Reason::RunnerFailed,
                Over::Done => Reason::RunnerStopped,
            },
            why = self.unanswered(settings.output_timeout) => why,
            () = node.live_stop.cancelled() => Reason::Stopping,
        }
    }

    /// Waits until the runner has brought nothing of what came for so long. Who sent nothing that it could work on has
    /// only held its room.
    async fn unanswered(&self, longest: Duration) -> Reason {
        let (channels, sender) = (&self.channels, self.means.account().sender());
        let mut silence = Silence::new(channels.shape);
        let every = LOOK_EVERY.min(longest / LOOKS).max(Duration::from_millis(1));
        let mut brought_bytes = 0;
        loop {
            tokio::time::sleep(every).await;
            let passed = channels.passed();
            if passed.output_bytes != brought_bytes {
                brought_bytes = passed.output_bytes;
                self.slot.runner().brings(sender);
            }
            if silence.look(passed, every) >= longest {
                return if silence.has_media() { Reason::NoOutput } else { Reason::ClientGone };
            }
        }
    }
}

/// Asks the runner until its answers end the session.
async fn watched(runner: &Runner, every: Duration) -> Over {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(every).await;
        let said = runner.api.health().await;
        if runner.api.is_over() {
            return Over::Gone;
        }
        if let Some(over) = watch.hear(&said, every) {
            return over;
        }
    }
}

/// Gives a slot back once its runner says that it has no session any more, or after a while.
pub async fn let_go(slot: Slot, every: Duration) {
    if tokio::time::timeout(RELEASE_TIME, released(slot.runner(), every)).await.is_err() {
        let runner = slot.runner().api.place();
        tracing::warn!(runner, "the runner has not ended a session in time");
    }
}

async fn released(runner: &Runner, every: Duration) {
    while !runner.api.is_over() {
        let said = runner.api.health().await;
        // Its worker is there, and it is not.
        let is_gone = runner.api.is_workers() && said.as_ref().is_err_and(RunnerError::is_gone);
        if is_gone || health::has_ended(&said, runner.capacity) {
            return;
        }
        tokio::time::sleep(every).await;
    }
}
