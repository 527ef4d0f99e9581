//! A session's fees: time of which something came, at the price of the session's begin (payments.md
//! section 12, live metering). The reference charges when a segment of the gateway's begins, whatever becomes of it.
//! Here time is booked when the runner has brought something after it: what a runner fails to deliver was never
//! charged. Until then the balance only has to be enough for it.

use super::{
    channels::Channels,
    flow::{Flow, Moved},
};
use crate::service::{
    cashier::{Cashier, MoneyError},
    charges::{Charged, Charges},
    holds::Hold,
};
use penstock_domain::Rational;
use penstock_payments::{LV2V_PIXELS_PER_SECOND, LiveMeter, fee};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Charges in a row that the books could not take. What they were for is not lost: the next one is
/// for it, too.
const MOST_FAILURES: u32 = 12;

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The balance does not cover the time that has passed.
    OutOfFunds {
        /// Wei asked for.
        fee: Rational,
        /// Wei that are there.
        balance: Rational,
    },
    /// The books are away.
    NoBooks,
}

/// Units that a session was charged for.
#[derive(Debug, Default)]
pub struct Units(AtomicU64);

impl Units {
    /// So far.
    pub fn charged(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one session owes.
pub struct Bill<'a> {
    name: &'a str,
    channels: &'a Channels,
    units: &'a Units,
    begun: Instant,
    meter: LiveMeter,
    flow: Flow,
    owed: u64,
    charges: Charges,
}

impl<'a> Bill<'a> {
    /// From now on. `name` makes the charges of one session one another's.
    pub fn new(name: &'a str, channels: &'a Channels, units: &'a Units) -> Self {
        // Without an interval of its own: a stretch is as long as the caller makes it.
        let meter = LiveMeter::new(LV2V_PIXELS_PER_SECOND, 0, 0);
        let (begun, flow) = (Instant::now(), Flow::new(channels.shape));
        // An account may have seen another session, of which nobody heard.
        let charges = Charges::new(format!("live/{name}/{}", uuid::Uuid::new_v4().simple()));
        Self { name, channels, units, begun, meter, flow, owed: 0, charges }
    }

    /// Charges until something stops it.
    pub async fn charge(&mut self, cashier: &Cashier, hold: &Hold, interval_ms: u64) -> Stop {
        let period = Duration::from_millis(interval_ms);
        let mut ticks = interval_at(self.begun + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        while failures < MOST_FAILURES {
            ticks.tick().await;
            let moved = self.note();
            let charged = match moved {
                // What passes is charged for when something comes again.
                Moved::Nothing => continue,
                Moved::Input => self.covered(cashier, hold).await,
                Moved::Output => self.charges.book(cashier, hold, self.owed).await,
            };
            match charged {
                Ok(Charged::Booked(units)) => {
                    self.booked(units);
                    failures = 0;
                }
                Ok(Charged::Short { fee, balance }) => return Stop::OutOfFunds { fee, balance },
                Err(error) => {
                    failures += 1;
                    complain(self.name, &error);
                }
            }
        }
        Stop::NoBooks
    }

    /// At the end: what is owed since the last charge, as far as the balance goes.
    pub async fn settle(&mut self, cashier: &Cashier, hold: &Hold) {
        self.note();
        let Self { charges, units, owed, .. } = self;
        let all = *owed;
        let booked = charges.settle(cashier, hold, all, |now| note_booked(units, owed, now));
        if let Err(error) = booked.await {
            complain(self.name, &error);
        }
    }

    /// What has moved since the last time; if the runner has brought something, the time that it took is owed.
    fn note(&mut self) -> Moved {
        let moved = self.flow.look(self.channels.passed());
        if moved == Moved::Output {
            let elapsed_ns = self.elapsed_ns();
            self.owed = self.owed.saturating_add(self.meter.tick(elapsed_ns).unwrap_or(0));
        }
        moved
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the balance is enough for what would be owed if the runner brought something now. Nothing is booked.
    async fn covered(&self, cashier: &Cashier, hold: &Hold) -> Result<Charged, MoneyError> {
        let unanswered = self.meter.clone().tick(self.elapsed_ns()).unwrap_or(0);
        let fee = fee(self.owed.saturating_add(unanswered), &hold.price);
        if fee.is_zero() {
            return Ok(Charged::Booked(0));
        }
        let balance = cashier.balance(&hold.account).await?;
        let is_short = balance < fee;
        Ok(if is_short { Charged::Short { fee, balance } } else { Charged::Booked(0) })
    }

    fn booked(&mut self, units: u64) {
        note_booked(self.units, &mut self.owed, units);
    }
}

fn note_booked(charged: &Units, owed: &mut u64, units: u64) {
    charged.0.fetch_add(units, Relaxed);
    metrics::counter!("orchestrator_live_units_charged_total").increment(units);
    *owed = owed.saturating_sub(units);
}

fn complain(name: &str, error: &MoneyError) {
    tracing::warn!(session = super::shown(name), %error, "live video could not be charged; trying again");
}
