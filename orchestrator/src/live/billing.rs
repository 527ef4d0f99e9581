//! A session's fees: time of which something came, at the price of the session's begin (payments.md
//! section 12, live metering). The reference charges when a segment of the gateway's begins, whatever becomes of it.
//! Here time is booked when the runner has brought something after it: what a runner fails to deliver was never
//! charged. Until then the balance only has to be enough for it. A session that it is no longer enough for ends, and
//! what the runner has brought by then is charged as far as it goes.

use super::{
    channels::Channels,
    flow::{Flow, Moved},
};
use crate::service::{
    cashier::{Cashier, MoneyError},
    charges::{Charged, Charges, lasts},
    holds::Hold,
};
use penstock_domain::Rational;
use penstock_payments::{LV2V_PIXELS_PER_SECOND, LiveMeter, fee};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Charges in a row that the books could not take. What they were for is not lost: the next one is
/// for it, too.
const MOST_FAILURES: u32 = 12;

/// Units of so many milliseconds of live video, rounded up.
pub fn units_of(ms: u64) -> u64 {
    let units = u128::from(LV2V_PIXELS_PER_SECOND) * u128::from(ms);
    u64::try_from(units.div_ceil(1_000)).unwrap_or(u64::MAX)
}

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
    /// The balance, when it was looked at last.
    left: Option<Rational>,
}

impl<'a> Bill<'a> {
    /// From now on. `name` makes the charges of one session one another's.
    pub fn new(name: &'a str, channels: &'a Channels, units: &'a Units) -> Self {
        // Without an interval of its own: a stretch is as long as the caller makes it.
        let meter = LiveMeter::new(LV2V_PIXELS_PER_SECOND, 0, 0);
        let (begun, flow) = (Instant::now(), Flow::new(channels.shape));
        // An account may have seen another session, of which nobody heard.
        let charges = Charges::new(format!("live/{name}/{}", uuid::Uuid::new_v4().simple()));
        Self { name, channels, units, begun, meter, flow, owed: 0, charges, left: None }
    }

    /// Charges until something stops it.
    pub async fn charge(&mut self, cashier: &Cashier, hold: &Hold, interval_ms: u64) -> Stop {
        let period = Duration::from_millis(interval_ms);
        let (mut failures, mut wait) = (0, period);
        while failures < MOST_FAILURES {
            sleep(wait).await;
            // Sooner where what is left does not last so long: nobody is served an interval beyond it.
            wait = period.min(self.lasts(hold));
            let moved = self.note();
            let charged = match moved {
                // What passes is charged for when something comes again.
                Moved::Nothing => continue,
                Moved::Input => self.covered(cashier, hold).await,
                Moved::Output => {
                    let booked = self.charges.book(cashier, hold, self.owed).await;
                    self.left = self.charges.left().cloned();
                    booked
                }
            };
            match charged {
                Ok(Charged::Booked(units)) => {
                    self.booked(units);
                    failures = 0;
                    wait = period.min(self.lasts(hold));
                }
                Ok(Charged::Short { fee, balance }) => return Stop::OutOfFunds { fee, balance },
                Err(error) => {
                    failures += 1;
                    wait = period;
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

    /// How long the balance lasts from now on, as far as it is known.
    fn lasts(&self, hold: &Hold) -> Duration {
        let unbilled = self.meter.clone().tick(self.elapsed_ns()).unwrap_or(0);
        let passed = self.owed.saturating_add(unbilled);
        self.left
            .as_ref()
            .map_or(Duration::MAX, |left| lasts(left, &hold.price, passed, LV2V_PIXELS_PER_SECOND))
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the balance is enough for what would be owed if the runner brought something now. Nothing is booked.
    async fn covered(&mut self, cashier: &Cashier, hold: &Hold) -> Result<Charged, MoneyError> {
        let unanswered = self.meter.clone().tick(self.elapsed_ns()).unwrap_or(0);
        let fee = fee(self.owed.saturating_add(unanswered), &hold.price);
        if fee.is_zero() {
            return Ok(Charged::Booked(0));
        }
        let balance = cashier.balance(&hold.account).await?;
        self.left = Some(balance.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interval_is_rounded_up() {
        assert_eq!([units_of(5_000), units_of(1), units_of(0)], [138_240_000, 27_648, 0]);
        assert_eq!(units_of(u64::MAX), u64::MAX);
    }
}
