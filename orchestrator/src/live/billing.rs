//! A session's fees: time in which media came, at the price of the session's begin (payments.md
//! section 12, live metering). The reference charges when a segment begins, so one segment without an
//! end costs nothing there; here the clock runs as long as bytes come.

use crate::service::{
    cashier::{Cashier, Charged, MoneyError},
    holds::Hold,
};
use penstock_domain::Rational;
use penstock_payments::{LV2V_PIXELS_PER_SECOND, LiveMeter};
use penstock_trickle::ChannelWatch;
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

/// Charges until something stops it. `name` makes the charges of one session one another's.
pub async fn charge(
    cashier: &Cashier,
    hold: &Hold,
    name: &str,
    ingest: &ChannelWatch,
    interval_ms: u64,
    units: &Units,
) -> Stop {
    let period = Duration::from_millis(interval_ms);
    let begun = Instant::now();
    let elapsed_ns = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut meter = LiveMeter::new(LV2V_PIXELS_PER_SECOND, interval_ms, 0);
    let mut ticks = interval_at(begun + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut owed, mut failures) = (0, 0u64, 0);
    for number in 0u64.. {
        ticks.tick().await;
        let received = ingest.received_bytes();
        if std::mem::replace(&mut seen, received) == received {
            // Nobody sends. What passes is charged for when somebody does again.
            continue;
        }
        let Some(passed) = meter.tick(elapsed_ns()) else { continue };
        owed = owed.saturating_add(passed);
        match cashier.charge(hold, format!("live/{name}/{number}"), owed).await {
            Ok(Charged::Booked) => {
                units.0.fetch_add(owed, Relaxed);
                metrics::counter!("orchestrator_live_units_charged_total").increment(owed);
                (owed, failures) = (0, 0);
            }
            Ok(Charged::Short { fee, balance }) => return Stop::OutOfFunds { fee, balance },
            Err(error) => {
                failures += 1;
                complain(name, &error);
                if failures >= MOST_FAILURES {
                    return Stop::NoBooks;
                }
            }
        }
    }
    Stop::NoBooks
}

fn complain(name: &str, error: &MoneyError) {
    tracing::warn!(session = super::shown(name), %error, "live video could not be charged; trying again");
}
