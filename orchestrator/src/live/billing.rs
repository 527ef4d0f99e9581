//! A session's fees: time in which media came, at the price of the session's begin (payments.md
//! section 12, live metering). The reference charges when a segment begins, so one segment without an
//! end costs nothing there; here the clock runs as long as anything comes, empty segments and the runner's
//! output included.

use super::channels::Channels;
use crate::service::{
    cashier::{Cashier, Charged, MoneyError},
    holds::Hold,
};
use penstock_domain::Rational;
use penstock_payments::{LV2V_PIXELS_PER_SECOND, LiveMeter};
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

/// What has arrived so far: segments and bytes of the gateway, bytes of the runner.
type Arrived = [u64; 3];

/// What one session owes.
pub struct Bill<'a> {
    name: &'a str,
    channels: &'a Channels,
    units: &'a Units,
    begun: Instant,
    meter: LiveMeter,
    seen: Arrived,
    owed: u64,
    /// Of the next charge. A charge that is dropped half-way may be in the books: the one after it
    /// bears its number and is then not booked a second time.
    number: u64,
}

impl<'a> Bill<'a> {
    /// From now on. `name` makes the charges of one session one another's.
    pub fn new(name: &'a str, channels: &'a Channels, units: &'a Units) -> Self {
        // Without an interval of its own: a stretch is as long as the caller makes it.
        let meter = LiveMeter::new(LV2V_PIXELS_PER_SECOND, 0, 0);
        let (begun, seen) = (Instant::now(), Arrived::default());
        Self { name, channels, units, begun, meter, seen, owed: 0, number: 0 }
    }

    /// Charges until something stops it.
    pub async fn charge(&mut self, cashier: &Cashier, hold: &Hold, interval_ms: u64) -> Stop {
        let period = Duration::from_millis(interval_ms);
        let mut ticks = interval_at(self.begun + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        while failures < MOST_FAILURES {
            ticks.tick().await;
            if !self.note() {
                // Nobody sends. What passes is charged for when somebody does again.
                continue;
            }
            match self.book(cashier, hold, self.owed).await {
                Ok(Charged::Booked) => failures = 0,
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
        let booked = async {
            let balance = cashier.balance(&hold.account).await?;
            let units = affordable(&balance, &hold.price, self.owed);
            if units > 0 {
                self.book(cashier, hold, units).await?;
            }
            Ok(())
        };
        if let Err(error) = booked.await {
            complain(self.name, &error);
        }
    }

    /// Whether anything has moved since the last time; if so, the time since then is owed.
    fn note(&mut self) -> bool {
        let Channels { ingest, output, .. } = self.channels;
        let now = [ingest.segments_begun(), ingest.received_bytes(), output.received_bytes()];
        if std::mem::replace(&mut self.seen, now) == now {
            return false;
        }
        let elapsed_ns = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.owed = self.owed.saturating_add(self.meter.tick(elapsed_ns).unwrap_or(0));
        true
    }

    async fn book(
        &mut self,
        cashier: &Cashier,
        hold: &Hold,
        units: u64,
    ) -> Result<Charged, MoneyError> {
        let id = format!("live/{}/{}", self.name, self.number);
        let charged = cashier.charge(hold, id, units).await;
        self.number += 1;
        if matches!(charged, Ok(Charged::Booked)) {
            self.units.0.fetch_add(units, Relaxed);
            metrics::counter!("orchestrator_live_units_charged_total").increment(units);
            self.owed = self.owed.saturating_sub(units);
        }
        charged
    }
}

/// How many of the units owed a balance covers.
pub fn affordable(balance: &Rational, price: &Rational, owed: u64) -> u64 {
    if balance.is_negative() {
        return 0;
    }
    match balance.checked_div(price) {
        Some(most) => {
            most.floor_u256().and_then(|n| u64::try_from(n).ok()).unwrap_or(owed).min(owed)
        }
        None => owed,
    }
}

fn complain(name: &str, error: &MoneyError) {
    tracing::warn!(session = super::shown(name), %error, "live video could not be charged; trying again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_covers_whole_units() {
        let of = |balance, price, owed| {
            affordable(&Rational::from_int(balance), &Rational::from_int(price), owed)
        };
        assert_eq!([of(10, 3, 9), of(10, 3, 2), of(2, 3, 9), of(-1, 3, 9)], [3, 2, 0, 0]);
        assert_eq!([of(i128::MAX, 1, 9), of(0, 0, 9)], [9, 9]);
    }
}
