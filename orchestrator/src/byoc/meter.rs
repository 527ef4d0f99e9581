//! What work costs as its time passes. The next five seconds are set aside before they begin: work ends with
//! the last second that its balance covers. Seconds that have begun are owed, and booked, once something came
//! of them: until then they are only set aside, and a worker that fails costs nothing.

use super::{registry::Slot, worker};
use crate::{
    delivery::Due,
    error::JobError,
    limits::Limits,
    node::Node,
    release::Reason,
    service::{
        cashier::{Cashier, MoneyError},
        charges::{Charged, Charges, affordable},
        holds::Hold,
    },
};
use http::StatusCode;
use penstock_domain::Rational;
use penstock_ledger::orchestrator::Held;
use penstock_payments::fee;
use std::{
    fmt,
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

/// What is left of a balance, in wei; nothing where the books could not be read: then nobody is told a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left(Option<Rational>);

impl Left {
    /// So many wei.
    #[cfg(test)]
    pub fn of(wei: Rational) -> Self {
        Self(Some(wei))
    }

    /// With so many decimals.
    pub fn told(&self, decimals: usize) -> Option<String> {
        self.0.as_ref().map(|wei| wei.to_fixed(decimals))
    }

    /// Whole wei, for `Livepeer-Balance`.
    pub fn whole(&self) -> Option<String> {
        self.told(0)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(wei) => write!(f, "{wei}"),
            None => f.write_str("unknown"),
        }
    }
}

/// When the worker gave its last sign of life.
type LastSign = Box<dyn Fn() -> Instant + Send + Sync>;

/// What of the time that has passed is owed.
enum Owed {
    /// Nothing: the worker has brought nothing yet.
    Nothing,
    /// What had passed by then.
    Until(Instant),
    /// What had passed at the worker's last sign of life.
    Shown(LastSign),
    /// Each second that begins.
    All,
}

impl Owed {
    /// Until when, of the time up to `now`.
    fn end(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Nothing => None,
            Self::Until(then) => Some((*then).min(now)),
            Self::Shown(last) => Some(last().min(now)),
            Self::All => Some(now),
        }
    }
}

/// What is in the books of named work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// How many charges.
    pub charges: u64,
    /// Seconds, of all of them.
    pub seconds: u64,
}

/// What has to be booked for one piece of work.
pub struct Meter {
    /// Its room, held to the end.
    slot: Slot,
    is_delivered: bool,
    /// Seconds, from the begin, that were delivered at least.
    delivered: u64,
    node: Arc<Node>,
    hold: Option<Hold>,
    charges: Charges,
    begun: Instant,
    owed: Owed,
    /// Seconds in the books, for others to see.
    seconds: Arc<AtomicU64>,
    /// Of these, what another process, or an earlier life, has handed on.
    before: u64,
    /// Seconds, from the begin, that are in the books or set aside.
    secured: u64,
    /// When the next charge is due.
    next: Instant,
    failures: u32,
}

impl Meter {
    /// From now on. `hold` has what the balance has to cover before work begins.
    pub fn new(node: Arc<Node>, slot: Slot, hold: Option<Hold>) -> Self {
        Self::named(node, slot, hold, &uuid::Uuid::new_v4().simple().to_string())
    }

    /// The same for work whose charges are to be found again: no other work may have this name.
    pub fn named(node: Arc<Node>, slot: Slot, hold: Option<Hold>, name: &str) -> Self {
        let charges = Charges::of_hold(charges_of(name));
        let (begun, secured) = (Instant::now(), node.byoc_least_seconds);
        let next = begun + Duration::from_secs(EVERY.min(secured));
        let seconds = Arc::default();
        Self {
            slot,
            is_delivered: false,
            delivered: 0,
            node,
            hold,
            charges,
            begun,
            owed: Owed::Nothing,
            seconds,
            before: 0,
            secured,
            next,
            failures: 0,
        }
    }

    /// Work that was watched for so long by another process, or in another life, which has booked some of it: the rest
    /// is set aside anew, as far as others have not begun on it.
    pub async fn resumed(
        node: Arc<Node>,
        slot: Slot,
        hold: Option<Hold>,
        name: &str,
        passed: Duration,
        paid: Paid,
    ) -> Self {
        let mut meter = Self::named(node, slot, hold, name);
        meter.charges.go_on(paid.charges);
        meter.seconds.store(paid.seconds, Relaxed);
        meter.before = paid.seconds;
        let now = Instant::now();
        meter.begun = now.checked_sub(passed).unwrap_or(now);
        meter.next = now + Duration::from_secs(EVERY);
        if let Some(price) = meter.price() {
            meter.secured = paid.seconds;
            let wanted = begun_seconds(passed).saturating_add(EVERY);
            if let Err(error) = meter.secure(&price, wanted).await {
                complain(&error);
                meter.failures = 1;
            }
        }
        meter
    }

    /// Should it end now, this is why.
    pub fn because(&mut self, why: Reason) {
        self.slot.because(why);
    }

    /// Something came of the time until now: it is owed. So it is where the worker is not to blame for getting no
    /// further.
    pub fn owe(&mut self) {
        self.owed = Owed::Until(Instant::now());
    }

    /// Something came of the time until then, and no more.
    pub fn owe_until(&mut self, then: Instant) {
        self.owed = Owed::Until(then);
    }

    /// What passes until the worker's last sign of life, which this tells, is owed; the rest is only set aside, until
    /// something else is said.
    pub fn owe_while_shown(&mut self, last: impl Fn() -> Instant + Send + Sync + 'static) {
        self.owed = Owed::Shown(Box::new(last));
    }

    /// Each second is owed from the begin on, those that come included, until something else is said.
    pub fn owe_all(&mut self) {
        self.owed = Owed::All;
    }

    /// The worker has brought nothing and is to blame: nothing more is owed, and whoever asks for its work again
    /// may be refused for a while ([`crate::standing`]).
    pub fn worker_failed(&mut self, why: Reason) {
        self.slot.failed();
        self.because(why);
    }

    /// The worker has said all.
    pub fn went_well(&mut self) {
        self.owe();
        self.slot.went_well();
    }

    /// The time is over that the work may take, and nothing has come of it: that is the worker's fault, and not owed.
    /// Where the client set that time itself it is owed: who asks for an answer sooner than there can be one would
    /// have work done for nothing, time and again.
    pub fn timed_out(&mut self, is_clients_time: bool) {
        self.slot.failed();
        if is_clients_time {
            self.owe();
        }
        self.because(Reason::TimedOut);
    }

    /// A request that could not be read: its time is owed unless we could not take it.
    pub async fn unread(&mut self, error: &JobError) {
        let why = error.reason();
        if why != Reason::Busy {
            self.owe();
        }
        self.because(why);
        self.settle().await;
    }

    /// Its time, or its money, ended before all of the request was there: that is the client's doing.
    pub fn late_body(&mut self, cut: Cut) {
        if cut == Cut::Time {
            self.owe();
        }
    }

    /// The worker has answered with this status: what that says of it, and whether it is owed
    /// ([`worker::is_answer`]).
    pub fn answered(&mut self, status: StatusCode) {
        if worker::is_answer(status) {
            self.owe();
            if status.is_success() {
                self.slot.went_well();
            } else {
                self.because(Reason::WorkerRefused);
            }
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            // It takes no more, and has not failed.
            self.because(Reason::WorkerRefused);
        } else {
            self.worker_failed(Reason::WorkerRefused);
        }
    }

    /// Cut off: books what is owed; what is left. A balance that is used up pays for the time that used it up:
    /// it was the client's to have more there.
    pub async fn cut_off(&mut self, cut: Cut) -> Left {
        if cut == Cut::Funds {
            self.owe();
        }
        self.because(cut.reason());
        self.settle().await
    }

    /// What was booked has been delivered, or will be watched by somebody else. Otherwise it counts as not
    /// delivered once this is dropped.
    pub fn delivered(&mut self) {
        self.is_delivered = true;
    }

    /// The same of the time until then, and no more: what is booked beyond counts.
    pub fn delivered_until(&mut self, then: Instant) {
        self.delivered = begun_seconds(then.saturating_duration_since(self.begun));
    }

    /// Bounds of what its worker may send.
    pub fn limits(&self) -> &Limits {
        &self.node.limits
    }

    /// What was booked, on its way.
    fn due(&self) -> Due {
        let seconds = self.booked().saturating_sub(self.before.max(self.delivered));
        let paid = self.price().map(|price| fee(seconds, &price));
        Due::new(self.slot.kind(), paid.unwrap_or(Rational::ZERO))
    }

    /// When its time began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Seconds in the books, as they come.
    pub fn seconds(&self) -> &Arc<AtomicU64> {
        &self.seconds
    }

    /// Seconds in the books.
    pub fn booked(&self) -> u64 {
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
        let owed = self.owed_at(self.begun + elapsed).saturating_sub(self.booked());
        let Some(hold) = &self.hold else { return Ok(true) };
        if owed > 0 {
            let Charged::Booked(seconds) = self.charges.book(cashier, hold, owed).await? else {
                return Ok(false);
            };
            self.seconds.fetch_add(seconds, Relaxed);
        }
        Ok(true)
    }

    /// Seconds, from the begin, that are owed of the time until then.
    fn owed_at(&self, now: Instant) -> u64 {
        let end = self.owed.end(now);
        end.map_or(0, |end| begun_seconds(end.saturating_duration_since(self.begun)))
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

    /// Books the seconds owed so far, as far as the balance goes and they were not cut off; what is left. The
    /// work may go on. Failures of the books are told to the operator: what was done has been delivered, or was of no
    /// use; if there is another charge, it is for that as well.
    pub async fn settle(&mut self) -> Left {
        if let Err(error) = self.book_until(Instant::now()).await {
            complain(&error);
        }
        self.left().await
    }

    /// [`Self::settle`] for what is only handed out when it is booked; what is left. `None`: the books
    /// cannot be reached.
    pub async fn paid_yet(&mut self) -> Option<Left> {
        let now = Instant::now();
        self.try_often(now).await
    }

    /// The same when the work is done; what is left, and what is to be delivered. Where nothing could be booked, be it
    /// that others have begun on what was set aside, only what is left: then the work is not handed out.
    pub async fn paid(mut self) -> Result<(Left, Due), Left> {
        self.owe();
        let is_paid = self.price().is_some();
        let (left, mut meter) = self.end(Reason::Completed, true).await.ok_or(Left::default())?;
        if is_paid && meter.booked() == 0 {
            meter.because(Reason::LedgerUnavailable);
            return Err(left);
        }
        Ok((left, meter.due()))
    }

    /// The same when the work is over for this reason; what is left. When the books cannot be reached, what is
    /// owed is tried on behind the answer's back, with the room held.
    pub async fn end(mut self, why: Reason, is_delivered: bool) -> Option<(Left, Self)> {
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

    async fn try_often(&mut self, until: Instant) -> Option<Left> {
        for _ in 0..LAST_TRIES {
            match self.book_until(until).await {
                Ok(()) => return Some(self.left().await),
                Err(error) => complain(&error),
            }
        }
        None
    }

    async fn book_until(&mut self, until: Instant) -> Result<(), MoneyError> {
        self.book(self.owed_by(until)).await
    }

    /// Seconds, from the begin, that are owed if it ends now.
    pub fn owed_now(&self) -> u64 {
        self.owed_by(Instant::now())
    }

    fn owed_by(&self, until: Instant) -> u64 {
        let begun = self.owed_at(until);
        // While the books were away it went on beyond what was set aside, and that is owed as well.
        if self.failures == 0 { begun.min(self.secured.max(1)) } else { begun }
    }

    /// Books what is not in the books yet of so many seconds from the begin, as far as the balance goes.
    pub async fn book(&mut self, seconds: u64) -> Result<(), MoneyError> {
        let node = Arc::clone(&self.node);
        let Some(cashier) = &node.cashier else { return Ok(()) };
        let owed = seconds.saturating_sub(self.booked());
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

    /// Another process, or an earlier life, has booked so many seconds more.
    pub fn was_booked(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Relaxed);
    }

    /// Books the time until then, which something came of, before others watch the work; whether the books have taken
    /// it, as far as the balance goes.
    pub async fn hand_on(&mut self, then: Instant) -> bool {
        self.owe_until(then);
        let is_booked = self.try_often(Instant::now()).await.is_some();
        if is_booked {
            self.delivered();
        }
        is_booked
    }

    /// What was booked so far.
    pub fn paid_so_far(&self) -> Paid {
        Paid { charges: self.charges.number(), seconds: self.booked() }
    }

    /// What is left of its balance.
    pub async fn left(&self) -> Left {
        match (&self.node.cashier, &self.hold) {
            (Some(cashier), Some(hold)) => Left(cashier.balance(&hold.account).await.ok()),
            _ => Left(Some(Rational::ZERO)),
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

/// What the charges of named work begin with.
fn charges_of(name: &str) -> String {
    format!("byoc/{name}")
}

/// The job id, in the books, of the charge of named work that comes after so many.
pub fn charge_after(name: &str, charges: u64) -> String {
    Charges::job(&charges_of(name), charges)
}

fn complain(error: &MoneyError) {
    tracing::warn!(%error, "work of a brought capability could not be charged; trying again");
}

/// Seconds that have begun; at least one.
pub fn begun_seconds(elapsed: Duration) -> u64 {
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

    #[test]
    fn time_is_owed_that_something_came_of() {
        let begun = Instant::now();
        let at = move |ms| begun + Duration::from_millis(ms);
        assert_eq!(Owed::Nothing.end(at(9)), None);
        assert_eq!(Owed::Until(at(5)).end(at(9)), Some(at(5)));
        assert_eq!(Owed::Until(at(5)).end(at(3)), Some(at(3)), "booked for the time until then");
        let shown = Owed::Shown(Box::new(move || at(6)));
        assert_eq!([shown.end(at(9)), shown.end(at(2))], [Some(at(6)), Some(at(2))]);
        assert_eq!(Owed::All.end(at(9)), Some(at(9)));
    }
}
