//! One job's share of its account: what it is going to cost is set aside in the books, so that whatever
//! begins in the meantime, here or at another process, does not begin on the same balance.

use crate::clock;
use penstock_domain::Rational;
use penstock_ledger::orchestrator::{
    AccountKey, Held, HoldId, HoldRequest, HoldSpent, LedgerError, OrchestratorLedger,
};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering::Relaxed},
};
use uuid::Uuid;

/// One job's share, and the price that was agreed when it began. Let go when dropped: after the fee
/// was booked.
pub struct Hold {
    ledger: Arc<dyn OrchestratorLedger>,
    id: HoldId,
    /// Whose balance.
    pub account: AccountKey,
    /// Wei per unit.
    pub price: Rational,
    /// What had to be there for what may be set aside; `None` if nothing ever was, or is any more.
    least: Mutex<Option<Rational>>,
    /// Unix ms up to which its work is in the books.
    booked_to_ms: AtomicI64,
}

impl Hold {
    /// Nothing is set aside yet.
    pub fn new(ledger: Arc<dyn OrchestratorLedger>, account: AccountKey, price: Rational) -> Self {
        let (id, booked_to_ms) = (HoldId(Uuid::new_v4()), AtomicI64::new(clock::now_ms()));
        Self { ledger, id, account, price, least: Mutex::default(), booked_to_ms }
    }

    /// Unix ms at which the work began that the next fee is for: for the operator's invoices.
    pub fn unbooked_since_ms(&self) -> i64 {
        self.booked_to_ms.load(Relaxed)
    }

    /// A fee for the time until then is in the books, and the hold has ended with it or not.
    pub fn booked_to(&self, now_ms: i64, has_ended: bool) {
        self.booked_to_ms.store(now_ms, Relaxed);
        if has_ended {
            self.set_least(None);
        }
    }

    /// Sets this much aside, or this much instead, if `least` is there beside what others hold. If not,
    /// it is as it was.
    pub async fn set(&self, amount: Rational, least: Rational) -> Result<Held, LedgerError> {
        let before = self.least();
        // From here on there may be something to let go.
        self.set_least(Some(least.clone()));
        let ask = HoldRequest { id: self.id, account: self.account.clone(), amount, least };
        let held = self.ledger.hold(&ask).await;
        if let Ok(Held::Short(_)) = held {
            self.set_least(before);
        }
        held
    }

    /// It ends with a fee, or the fee comes out of it.
    pub fn spent(&self, ends: bool) -> Option<HoldSpent> {
        self.least().map(|least| HoldSpent { id: self.id, ends, least })
    }

    fn least(&self) -> Option<Rational> {
        self.least.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_least(&self, least: Option<Rational>) {
        *self.least.lock().unwrap_or_else(PoisonError::into_inner) = least;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.least().is_some() {
            self.ledger.let_go(self.id);
        }
    }
}
