//! One job's share of its account: what it is going to cost is set aside in the books, so that whatever
//! begins in the meantime, here or at another process, does not begin on the same balance.

use crate::clock;
use penstock_domain::Rational;
use penstock_ledger::orchestrator::{
    AccountKey, Held, HoldId, HoldLeft, HoldRequest, LedgerError, OrchestratorLedger,
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
    /// What may be set aside; `None` if nothing ever was, or is any more.
    amount: Mutex<Option<Rational>>,
    /// Unix ms up to which its work is in the books.
    booked_to_ms: AtomicI64,
}

impl Hold {
    /// Nothing is set aside yet.
    pub fn new(ledger: Arc<dyn OrchestratorLedger>, account: AccountKey, price: Rational) -> Self {
        let (id, booked_to_ms) = (HoldId(Uuid::new_v4()), AtomicI64::new(clock::now_ms()));
        Self { ledger, id, account, price, amount: Mutex::default(), booked_to_ms }
    }

    /// Unix ms at which the work began that the next fee is for: for the operator's invoices.
    pub fn unbooked_since_ms(&self) -> i64 {
        self.booked_to_ms.load(Relaxed)
    }

    /// A fee for the time until then is in the books, and of what was set aside so much is left.
    pub fn booked_to(&self, now_ms: i64, left: Option<HoldLeft>) {
        self.booked_to_ms.store(now_ms, Relaxed);
        if let Some(HoldLeft { left, .. }) = left {
            self.set_amount(Some(left).filter(|left| !left.is_zero()));
        }
    }

    /// Sets this much aside, or this much instead, if `least` is there beside what others hold. If not,
    /// it is as it was.
    pub async fn set(&self, amount: Rational, least: Rational) -> Result<Held, LedgerError> {
        let before = self.amount();
        // From here on there may be something to let go.
        self.set_amount(Some(amount.clone()));
        let ask = HoldRequest { id: self.id, account: self.account.clone(), amount, least };
        let held = self.ledger.hold(&ask).await;
        if let Ok(Held::Short(_)) = held {
            self.set_amount(before);
        }
        held
    }

    /// What is left of it when it ends with a fee.
    pub fn ended(&self) -> Option<HoldLeft> {
        self.amount().map(|_| HoldLeft { id: self.id, left: Rational::ZERO })
    }

    /// What is left of it when a fee comes out of it.
    pub fn without(&self, fee: &Rational) -> Option<HoldLeft> {
        let left = &self.amount()? - fee;
        Some(HoldLeft { id: self.id, left: left.max(Rational::ZERO) })
    }

    fn amount(&self) -> Option<Rational> {
        self.amount.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_amount(&self, amount: Option<Rational>) {
        *self.amount.lock().unwrap_or_else(PoisonError::into_inner) = amount;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.amount().is_some() {
            self.ledger.let_go(self.id);
        }
    }
}
