//! A session that is paid by the time that passes (live-runner.md section 6.2): charged at intervals,
//! and for the rest at its end as far as the balance goes. Time in which its runner says that it takes
//! nobody costs nothing. What is left at the end is the sender's next session's.

use super::{error::RunnerError, ids, sessions::Reserved};
use crate::{
    delivery,
    node::Node,
    release::{Kind, Reason},
    service::{
        cashier::MoneyError,
        charges::{Charged, Charges, lasts},
        hands::Purse,
    },
};
use penstock_payments::{LiveMeter, fee};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Charges in a row that the books could not take. What they were for is not lost: the next one is
/// for it, too.
const MOST_FAILURES: u32 = 12;

/// What a session owes.
pub struct Meter {
    node: Arc<Node>,
    runner: String,
    route: String,
    name: String,
    generation: u64,
    ended: CancellationToken,
    units: Arc<AtomicU64>,
    purse: Purse,
    meter: LiveMeter,
    per_second: u64,
    begun: Instant,
    visited: Arc<AtomicBool>,
    owed: u64,
    charges: Charges,
}

impl Meter {
    /// From now on.
    pub fn new(node: Arc<Node>, session: &Reserved, purse: Purse, per_second: u64) -> Self {
        Self {
            node,
            runner: session.runner.clone(),
            route: session.route.clone(),
            name: session.name.clone(),
            generation: session.generation,
            ended: session.ended.clone(),
            units: Arc::clone(&session.units),
            purse,
            // Without an interval of its own: a stretch is as long as the caller makes it.
            meter: LiveMeter::new(per_second, 0, 0),
            per_second,
            begun: Instant::now(),
            visited: Arc::clone(&session.visited),
            owed: 0,
            // Those of this session, and of no other of the same name.
            charges: Charges::new(format!("runner/{}", uuid::Uuid::new_v4().simple())),
        }
    }

    /// To the session's end.
    pub async fn run(mut self) {
        let ended = self.ended.clone();
        let stopped = tokio::select! {
            why = self.charge() => Some(why),
            () = ended.cancelled() => None,
        };
        if let (Some(why), Ok(runners)) = (stopped, self.node.runners()) {
            runners.registry.release_this(&self.runner, &self.name, self.generation, why);
        }
        self.settle().await;
    }

    async fn charge(&mut self) -> Reason {
        let node = Arc::clone(&self.node);
        let (Ok(runners), Some(cashier)) = (node.runners(), &node.cashier) else {
            return Reason::Stopping;
        };
        let period = runners.registry.bounds.payment_interval;
        let (mut failures, mut wait) = (0, period);
        while failures < MOST_FAILURES {
            sleep(wait).await;
            let passed = self.passed();
            if runners.registry.is_there(&self.route, Instant::now()) {
                self.owed = self.owed.saturating_add(passed);
            }
            wait = self.until_next(period);
            if self.owed == 0 {
                continue;
            }
            match self.charges.book(cashier, &self.purse.hold, self.owed).await {
                Ok(Charged::Booked(units)) => {
                    note_booked(&self.units, &mut self.owed, units);
                    failures = 0;
                    wait = self.until_next(period);
                }
                Ok(Charged::Short { fee, balance }) => {
                    let session = ids::shown(&self.name);
                    tracing::warn!(session, %fee, %balance, "insufficient balance");
                    return Reason::OutOfFunds;
                }
                Err(error) => {
                    failures += 1;
                    wait = period;
                    self.complain(&error);
                }
            }
        }
        Reason::LedgerUnavailable
    }

    /// An interval, or less where what is left does not last so long: nobody is served beyond it.
    fn until_next(&self, period: Duration) -> Duration {
        let left = self.charges.left();
        let price = &self.purse.hold.price;
        let lasts = left.map(|left| lasts(left, price, self.owed, self.per_second));
        lasts.map_or(period, |lasts| period.min(lasts))
    }

    fn passed(&mut self) -> u64 {
        let elapsed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.meter.tick(elapsed).unwrap_or(0)
    }

    /// At the end: what is owed since the last charge, as far as the balance goes.
    async fn settle(&mut self) {
        self.owed = self.owed.saturating_add(self.passed());
        let node = Arc::clone(&self.node);
        let Some(cashier) = &node.cashier else { return };
        // Else whoever is quick would have everything for nothing, as often as he likes.
        let is_owed = !self.runner_failed();
        if is_owed && self.visited.load(Relaxed) && self.units.load(Relaxed) == 0 {
            self.owed = self.owed.max(1);
        }
        let Self { charges, purse, units, owed, .. } = self;
        let all = *owed;
        let booked = charges.settle(cashier, &purse.hold, all, |now| note_booked(units, owed, now));
        if let Err(error) = booked.await {
            self.complain(&error);
        }
        if !is_owed && !self.visited.load(Relaxed) {
            // Paid for time in which nobody came, before its runner failed.
            let paid = fee(self.units.load(Relaxed), &self.purse.hold.price);
            delivery::undelivered(Kind::LiveRunner, &paid);
        }
    }

    fn runner_failed(&self) -> bool {
        let over = self.node.runners().map(|all| all.registry.gone(&self.route, &self.name));
        matches!(over, Ok(RunnerError::NoSession(Some(why))) if why.is_runners_fault())
    }

    fn complain(&self, error: &MoneyError) {
        let session = ids::shown(&self.name);
        tracing::warn!(session, %error, "a live runner's session could not be charged");
    }
}

fn note_booked(charged: &AtomicU64, owed: &mut u64, units: u64) {
    charged.fetch_add(units, Relaxed);
    metrics::counter!("orchestrator_runner_units_charged_total").increment(units);
    *owed = owed.saturating_sub(units);
}
