//! A session that is paid by the time that passes (live-runner.md section 6.2): charged at intervals,
//! and for the rest at its end as far as the balance goes. Time in which its runner says that it takes
//! nobody costs nothing. What is left at the end is the sender's next session's.
//!
//! Until the first of it is delivered (a byte of an answer of its runner's, or one through a channel), time is only set
//! aside: if its runner, or this process, ends it before that, it costs nothing. Then all of it is booked from the
//! reservation on, and from there on up to when its runner was last known to be there. A client that lets the session go
//! pays for all of it, delivered or not, if the runner is there to be held.

use super::{
    LiveRunners,
    health::Probe,
    ids,
    sessions::{Delivery, Reserved},
};
use crate::{
    delivery,
    node::Node,
    release::{Kind, Reason},
    service::{
        cashier::{Cashier, MoneyError},
        charges::{Charged, Charges, lasts},
        hands::Purse,
    },
    signs::LastSign,
};
use penstock_domain::Rational;
use penstock_ledger::orchestrator::Held;
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
    delivery: Delivery,
    there: Arc<LastSign>,
    probe: Probe,
    /// Units that are owed and not in the books.
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
            delivery: session.delivery.clone(),
            there: Arc::clone(&session.there),
            probe: session.probe.clone(),
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
        let registry = &runners.registry;
        let period = registry.bounds.payment_interval;
        let (mut failures, mut wait, mut looked) = (0, period, self.begun);
        while failures < MOST_FAILURES {
            tokio::select! {
                () = sleep(wait) => {}
                // What was set aside until then is booked at once.
                () = self.delivery.first.cancelled(), if !self.delivery.first.is_cancelled() => {}
            }
            // What comes through channels has to be looked for.
            registry.look_for_output(&self.runner, &self.name, self.generation);
            let now = Instant::now();
            if !registry.is_there(&self.route, now) {
                self.pass_until(now);
            } else {
                let is_silent = self.there.at() < looked;
                if is_silent && self.delivery.first.is_cancelled() && self.is_well(runners).await {
                    self.there.note(now);
                }
                self.owe_until(self.there.at());
            }
            looked = now;
            let charged = self.book_or_set_aside(cashier).await;
            wait = self.until_next(period);
            match charged {
                Ok(Charged::Booked(_)) => failures = 0,
                Ok(Charged::Short { fee, balance }) => {
                    let session = ids::shown(&self.name);
                    tracing::warn!(session, fee_wei = %fee, balance_wei = %balance, "insufficient balance");
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

    /// Books what is owed once something was delivered; the rest of what has passed has to be there.
    async fn book_or_set_aside(&mut self, cashier: &Cashier) -> Result<Charged, MoneyError> {
        if self.delivery.first.is_cancelled() && self.owed > 0 {
            match self.charges.book(cashier, &self.purse.hold, self.owed).await? {
                Charged::Booked(units) => note_booked(&self.units, &mut self.owed, units),
                short @ Charged::Short { .. } => return Ok(short),
            }
        }
        let hold = &self.purse.hold;
        let fee = fee(self.unbooked(), &hold.price);
        // The account is this session's alone: what was left of it is there, or more by now.
        if self.charges.left().is_some_and(|left| fee <= *left) || !fee.is_positive() {
            return Ok(Charged::Booked(0));
        }
        Ok(match hold.set(fee.clone(), fee.clone()).await? {
            Held::Aside => Charged::Booked(0),
            Held::Short(free) => Charged::Short { fee, balance: free.unwrap_or(Rational::ZERO) },
        })
    }

    /// An interval, or less where what is left does not last so long: nobody is served beyond it.
    fn until_next(&self, period: Duration) -> Duration {
        let left = self.charges.left();
        let price = &self.purse.hold.price;
        let lasts = left.map(|left| lasts(left, price, self.unbooked(), self.per_second));
        lasts.map_or(period, |lasts| period.min(lasts))
    }

    /// Units of the time until then that were not counted before.
    fn pass_until(&mut self, then: Instant) -> u64 {
        self.meter.tick(self.since_begin(then)).unwrap_or(0)
    }

    /// That time is owed.
    fn owe_until(&mut self, then: Instant) {
        let passed = self.pass_until(then);
        self.owed = self.owed.saturating_add(passed);
    }

    /// Units of all the time that has passed and is not in the books.
    fn unbooked(&self) -> u64 {
        let passed = self.meter.clone().tick(self.since_begin(Instant::now())).unwrap_or(0);
        self.owed.saturating_add(passed)
    }

    fn since_begin(&self, then: Instant) -> u64 {
        let elapsed = then.saturating_duration_since(self.begun);
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether its runner is there, which has not said so.
    async fn is_well(&self, runners: &LiveRunners) -> bool {
        self.probe.is_well(&runners.health).await
    }

    /// At the end: what is owed since the last charge, as far as the balance goes.
    async fn settle(&mut self) {
        let node = Arc::clone(&self.node);
        let (Ok(runners), Some(cashier)) = (node.runners(), &node.cashier) else { return };
        let ended = Instant::now();
        if self.delivery.is_void().await {
            metrics::counter!("orchestrator_runner_calls_voided_total").increment(1);
            return;
        }
        let why = self.delivery.why();
        let is_fault = why.is_some_and(Reason::is_runners_fault);
        // Whose client has ended it may be dead for longer than anybody has noticed. One that ends it itself is there.
        let is_there = why == Some(Reason::RunnerStopped)
            || !is_fault
                && runners.registry.is_there(&self.route, ended)
                && self.is_well(runners).await;
        self.owe_until(if is_there { ended } else { self.there.at().min(ended) });
        // Else whoever is quick would have everything for nothing, as often as he likes.
        let was_there = is_there || !is_fault && self.delivery.first.is_cancelled();
        let is_used = self.visited.load(Relaxed) && was_there;
        if is_used && self.units.load(Relaxed) == 0 {
            self.owed = self.owed.max(1);
        }
        let Self { charges, purse, units, owed, .. } = self;
        let all = *owed;
        let booked = charges.settle(cashier, &purse.hold, all, |now| note_booked(units, owed, now));
        if let Err(error) = booked.await {
            self.complain(&error);
        }
        if !is_there && !self.delivery.first.is_cancelled() {
            // Nothing was booked before anything came: what is in the books all the same should not be.
            let units = self.units.load(Relaxed).saturating_sub(self.known_units());
            let paid = penstock_payments::fee(units, &self.purse.hold.price);
            delivery::undelivered(Kind::LiveRunner, &paid);
        }
    }

    /// Units of the time in which the runner was known to be there.
    fn known_units(&self) -> u64 {
        let known = LiveMeter::new(self.per_second, 0, 0).tick(self.since_begin(self.there.at()));
        known.unwrap_or(0)
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
