//! What work costs as its time passes. The seconds that have begun are booked every five, and the next
//! five are set aside before they begin: work ends with the last second that its balance covers.

use super::registry::Slot;
use crate::{
    delivery::Due,
    node::Node,
    release::Reason,
    service::{
        cashier::{Cashier, MoneyError},
        charges::{Charged, Charges, affordable},
        holds::Hold,
    },
};
use penstock_domain::Rational;
use penstock_ledger::orchestrator::Held;
use penstock_payments::fee;
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Seconds between two charges.
const EVERY: u64 = 5;
/// Charges in a row that the books could not take. What they were for is not lost: the next one is for
/// it, too.
const MOST_FAILURES: u32 = 12;
/// Tries to book what is owed at the end, before whoever waits is told that it cannot be.
const LAST_TRIES: u32 = 2;

impl Cut {
    /// The same, as releases call it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Time => Reason::TimedOut,
            Self::Funds => Reason::OutOfFunds,
            Self::NoBooks => Reason::LedgerUnavailable,
        }
    }
}

/// Why work is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its time is over.
    Time,
    /// The balance covers no further second.
    Funds,
    /// The books are away.
    NoBooks,
}

/// What has to be booked for one piece of work.
pub struct Meter {
    /// Its room, held to the end.
    slot: Slot,
    is_delivered: bool,
    node: Arc<Node>,
    hold: Option<Hold>,
    charges: Charges,
    begun: Instant,
    /// Seconds in the books, for others to see.
    seconds: Arc<AtomicU64>,
    /// Seconds, from the begin, that are in the books or set aside.
    secured: u64,
    /// When the next charge is due.
    next: Instant,
    failures: u32,
}

impl Meter {
    /// From now on. `hold` has what the balance has to cover before work begins.
    pub fn new(node: Arc<Node>, slot: Slot, hold: Option<Hold>) -> Self {
        let charges = Charges::of_hold(format!("byoc/{}", uuid::Uuid::new_v4().simple()));
        let (begun, secured) = (Instant::now(), node.byoc_least_seconds);
        let next = begun + Duration::from_secs(EVERY.min(secured));
        let seconds = Arc::default();
        Self {
            slot,
            is_delivered: false,
            node,
            hold,
            charges,
            begun,
            seconds,
            secured,
            next,
            failures: 0,
        }
    }

    /// Should it end now, this is why.
    pub fn because(&mut self, why: Reason) {
        self.slot.because(why);
    }

    /// What was booked has been delivered, or will be watched by somebody else. Otherwise it counts as not
    /// delivered once this is dropped.
    pub fn delivered(&mut self) {
        self.is_delivered = true;
    }

    /// What was booked, on its way.
    fn due(&self) -> Due {
        let paid = self.price().map(|price| fee(self.booked(), &price));
        Due::new(self.slot.kind(), paid.unwrap_or(Rational::ZERO))
    }

    /// Seconds in the books.
    pub fn seconds(&self) -> &Arc<AtomicU64> {
        &self.seconds
    }

    fn booked(&self) -> u64 {
        self.seconds.load(Relaxed)
    }

    /// What is done while time passes and is paid for, until `until` at most. What is cut off is dropped.
    pub async fn during<T>(
        &mut self,
        until: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Result<T, Cut> {
        let mut work = pin!(work);
        loop {
            let over = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut work => return Ok(done),
                () = over => return Err(Cut::Time),
                () = sleep_until(self.next) => {}
            }
            // Not in the select: a charge is finished.
            self.charge().await?;
        }
    }

    /// Books what has begun, and sets the next seconds aside.
    async fn charge(&mut self) -> Result<(), Cut> {
        let every = Duration::from_secs(EVERY);
        let node = Arc::clone(&self.node);
        let (Some(cashier), Some(price)) = (&node.cashier, self.price()) else {
            self.next = Instant::now() + every;
            return Ok(());
        };
        match self.try_charge(cashier, &price).await {
            Ok(true) => {
                self.failures = 0;
                let end = self.begun + Duration::from_secs(self.secured);
                self.next = end.min(Instant::now() + every);
                Ok(())
            }
            Ok(false) => Err(Cut::Funds),
            Err(error) => {
                complain(&error);
                self.failures += 1;
                self.next = Instant::now() + every;
                if self.failures < MOST_FAILURES { Ok(()) } else { Err(Cut::NoBooks) }
            }
        }
    }

    /// False: nothing is left for the next second.
    async fn try_charge(
        &mut self,
        cashier: &Cashier,
        price: &Rational,
    ) -> Result<bool, MoneyError> {
        self.secure(price, begun_seconds(self.begun.elapsed()).saturating_add(EVERY)).await?;
        let elapsed = self.begun.elapsed();
        if elapsed >= Duration::from_secs(self.secured) {
            return Ok(false);
        }
        let passed = begun_seconds(elapsed).saturating_sub(self.booked());
        let Some(hold) = &self.hold else { return Ok(true) };
        if passed > 0 {
            let Charged::Booked(seconds) = self.charges.book(cashier, hold, passed).await? else {
                return Ok(false);
            };
            self.seconds.fetch_add(seconds, Relaxed);
        }
        Ok(true)
    }

    /// Sets aside what lies between the booked and the wanted seconds, or as much of it as the balance
    /// covers beside what the account's other work holds. What was set aside before stays so.
    async fn secure(&mut self, price: &Rational, wanted: u64) -> Result<(), MoneyError> {
        let booked = self.booked();
        let Some(hold) = &self.hold else { return Ok(()) };
        if wanted <= self.secured {
            return Ok(());
        }
        let before = self.secured.saturating_sub(booked);
        let more = wanted.saturating_sub(booked);
        let set = async |seconds| hold.set(fee(seconds, price), fee(seconds, price)).await;
        let covered = match set(more).await? {
            Held::Aside => more,
            Held::Short(free) => {
                let most = free.map_or(0, |free| affordable(&free, price, more));
                if most > before && set(most).await? == Held::Aside { most } else { before }
            }
        };
        self.secured = booked.saturating_add(covered);
        Ok(())
    }

    /// Books the seconds begun so far, as far as the balance goes and they were not cut off; what is left, wei. The
    /// work may go on. Failures of the books are told to the operator: what was done has been delivered, or was of no
    /// use; if there is another charge, it is for that as well.
    pub async fn settle(&mut self) -> Rational {
        if let Err(error) = self.book_until(Instant::now()).await {
            complain(&error);
        }
        self.left().await
    }

    /// [`Self::settle`] for what is only handed out when it is booked; what is left, wei. `None`: the books
    /// cannot be reached.
    pub async fn paid_yet(&mut self) -> Option<Rational> {
        let now = Instant::now();
        self.try_often(now).await
    }

    /// The same when the work is done; what is left, wei, and what is to be delivered.
    pub async fn paid(self) -> Option<(Rational, Due)> {
        let (left, meter) = self.end(Reason::Completed, true).await?;
        Some((left, meter.due()))
    }

    /// The same when the work is over for this reason; what is left, wei. When the books cannot be reached, what is
    /// owed is tried on behind the answer's back, with the room held.
    pub async fn end(mut self, why: Reason, is_delivered: bool) -> Option<(Rational, Self)> {
        let ended = Instant::now();
        if let Some(left) = self.try_often(ended).await {
            self.because(why);
            if is_delivered {
                self.delivered();
            }
            return Some((left, self));
        }
        self.because(Reason::LedgerUnavailable);
        let jobs = self.node.jobs.clone();
        jobs.spawn(async move {
            for _ in 0..MOST_FAILURES {
                tokio::time::sleep(Duration::from_secs(EVERY)).await;
                match self.book_until(ended).await {
                    Ok(()) => return,
                    Err(error) => complain(&error),
                }
            }
            tracing::error!("a brought job was never charged, and the end of its answer withheld");
        });
        None
    }

    async fn try_often(&mut self, until: Instant) -> Option<Rational> {
        for _ in 0..LAST_TRIES {
            match self.book_until(until).await {
                Ok(()) => return Some(self.left().await),
                Err(error) => complain(&error),
            }
        }
        None
    }

    async fn book_until(&mut self, until: Instant) -> Result<(), MoneyError> {
        let node = Arc::clone(&self.node);
        let Some(cashier) = &node.cashier else { return Ok(()) };
        let mut begun = begun_seconds(until - self.begun);
        // While the books were away it went on beyond what was set aside, and that is owed as well.
        if self.failures == 0 {
            begun = begun.min(self.secured.max(1));
        }
        let owed = begun.saturating_sub(self.booked());
        let is_priced = self.price().is_some();
        let Self { hold, charges, seconds, .. } = self;
        let Some(hold) = hold else { return Ok(()) };
        if is_priced && owed > 0 {
            let note = |booked| {
                seconds.fetch_add(booked, Relaxed);
            };
            charges.settle(cashier, hold, owed, note).await?;
        }
        Ok(())
    }

    async fn left(&self) -> Rational {
        match (&self.node.cashier, &self.hold) {
            (Some(cashier), Some(hold)) => {
                cashier.balance(&hold.account).await.unwrap_or(Rational::ZERO)
            }
            _ => Rational::ZERO,
        }
    }

    /// Wei a second, if it costs anything.
    fn price(&self) -> Option<Rational> {
        self.hold.as_ref().map(|hold| hold.price.clone()).filter(Rational::is_positive)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let due = self.due();
        if self.is_delivered {
            due.delivered();
        }
    }
}

fn complain(error: &MoneyError) {
    tracing::warn!(%error, "work of a brought capability could not be charged; trying again");
}

/// Seconds that have begun; at least one.
fn begun_seconds(elapsed: Duration) -> u64 {
    let whole = elapsed.as_secs();
    if elapsed.subsec_nanos() > 0 { whole + 1 } else { whole.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begun_seconds_count() {
        let of = |ms| begun_seconds(Duration::from_millis(ms));
        assert_eq!([of(0), of(1), of(1000), of(1001), of(2500)], [1, 1, 1, 2, 3]);
    }
}
