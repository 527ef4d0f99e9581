//! A session's fees: time in which media came, at the price of the session's begin (payments.md
//! section 12, live metering). The reference charges when a segment begins, so one segment without an
//! end costs nothing there; here the clock runs as long as anything comes, empty segments and the runner's
//! output included.

use super::channels::Channels;
use crate::service::{
    cashier::{Cashier, MoneyError},
    charges::{Charged, Charges},
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
    charges: Charges,
}

impl<'a> Bill<'a> {
    /// From now on. `name` makes the charges of one session one another's.
    pub fn new(name: &'a str, channels: &'a Channels, units: &'a Units) -> Self {
        // Without an interval of its own: a stretch is as long as the caller makes it.
        let meter = LiveMeter::new(LV2V_PIXELS_PER_SECOND, 0, 0);
        let (begun, seen) = (Instant::now(), Arrived::default());
        // An account may have seen another session, of which nobody heard.
        let charges = Charges::new(format!("live/{name}/{}", uuid::Uuid::new_v4().simple()));
        Self { name, channels, units, begun, meter, seen, owed: 0, charges }
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
            match self.charges.book(cashier, hold, self.owed).await {
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
