//! A session that is paid by the time that passes (live-runner.md section 6.2): charged at intervals,
//! and for the rest at its end as far as the balance goes. Time in which its runner says that it takes
//! nobody costs nothing.

use super::{ids, release::Reason, sessions::Reserved};
use crate::{
    live::affordable,
    node::Node,
    service::{
        cashier::{Charged, MoneyError},
        holds::Hold,
    },
};
use penstock_payments::LiveMeter;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
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
    ended: CancellationToken,
    units: Arc<AtomicU64>,
    hold: Hold,
    meter: LiveMeter,
    begun: Instant,
    /// Makes its charges those of this session, and of no other of the same name.
    id: String,
    owed: u64,
    /// Of the next charge. One that is dropped half-way may be in the books: the one after it bears
    /// its number and is then not booked a second time.
    number: u64,
}

impl Meter {
    /// From now on.
    pub fn new(node: Arc<Node>, session: &Reserved, hold: Hold, per_second: u64) -> Self {
        Self {
            node,
            runner: session.runner.clone(),
            route: session.route.clone(),
            name: session.name.clone(),
            ended: session.ended.clone(),
            units: Arc::clone(&session.units),
            hold,
            // Without an interval of its own: a stretch is as long as the caller makes it.
            meter: LiveMeter::new(per_second, 0, 0),
            begun: Instant::now(),
            id: format!("runner/{}", uuid::Uuid::new_v4().simple()),
            owed: 0,
            number: 0,
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
            runners.registry.release(&self.runner, &self.name, why);
        }
        if stopped != Some(Reason::OutOfFunds) {
            self.settle().await;
        }
    }

    async fn charge(&mut self) -> Reason {
        let Ok(runners) = self.node.runners().cloned() else { return Reason::Stopping };
        let period = runners.registry.bounds.payment_interval;
        let mut ticks = interval_at(self.begun + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        while failures < MOST_FAILURES {
            ticks.tick().await;
            let passed = self.passed();
            if runners.registry.is_there(&self.route, Instant::now()) {
                self.owed = self.owed.saturating_add(passed);
            }
            match self.book(self.owed).await {
                Ok(Charged::Booked) => failures = 0,
                Ok(Charged::Short { fee, balance }) => {
                    let session = ids::shown(&self.name);
                    tracing::warn!(session, %fee, %balance, "insufficient balance");
                    return Reason::OutOfFunds;
                }
                Err(error) => {
                    failures += 1;
                    self.complain(&error);
                }
            }
        }
        Reason::NoBooks
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
        let booked = async {
            let balance = cashier.balance(&self.hold.account).await?;
            let units = affordable(&balance, &self.hold.price, self.owed);
            self.book(units).await.map(drop)
        };
        if let Err(error) = booked.await {
            self.complain(&error);
        }
    }

    async fn book(&mut self, units: u64) -> Result<Charged, MoneyError> {
        let Some(cashier) = &self.node.cashier else { return Ok(Charged::Booked) };
        if units == 0 {
            return Ok(Charged::Booked);
        }
        let id = format!("{}/{}", self.id, self.number);
        let charged = cashier.charge(&self.hold, id, units).await;
        self.number += 1;
        if matches!(charged, Ok(Charged::Booked)) {
            self.units.fetch_add(units, Relaxed);
            metrics::counter!("orchestrator_runner_units_charged_total").increment(units);
            self.owed = self.owed.saturating_sub(units);
        }
        charged
    }

    fn complain(&self, error: &MoneyError) {
        let session = ids::shown(&self.name);
        tracing::warn!(session, %error, "a live runner's session could not be charged");
    }
}
