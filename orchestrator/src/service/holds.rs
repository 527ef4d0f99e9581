//! What jobs under way are going to cost, by account. Fees are booked when work is done, so without
//! this every request that arrives in the meantime would begin on the same balance. In memory: the
//! jobs end with the process, too.

use crate::clock;
use penstock_domain::Rational;
use penstock_ledger::orchestrator::AccountKey;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

type Sums = Arc<Mutex<HashMap<AccountKey, (usize, Rational)>>>;

/// All holds of a process.
#[derive(Debug, Clone, Default)]
pub struct Holds(Sums);

/// One job's share of its account, and the price that was agreed when it began. Released when
/// dropped: after the fee was booked.
#[derive(Debug)]
pub struct Hold {
    sums: Sums,
    /// Whose balance.
    pub account: AccountKey,
    /// Wei per unit.
    pub price: Rational,
    amount: Rational,
    /// Unix ms up to which its work is in the books.
    booked_to_ms: AtomicI64,
}

impl Holds {
    /// Sets `amount` wei aside; also what the account's other jobs held at that moment.
    pub fn add(&self, account: &AccountKey, price: Rational, amount: Rational) -> (Hold, Rational) {
        let mut sums = lock(&self.0);
        let (jobs, sum) = sums.entry(account.clone()).or_default();
        let others = sum.clone();
        *jobs += 1;
        *sum += &amount;
        let sums = Arc::clone(&self.0);
        let booked_to_ms = AtomicI64::new(clock::now_ms());
        (Hold { sums, account: account.clone(), price, amount, booked_to_ms }, others)
    }
}

impl Hold {
    /// Unix ms at which the work began that the next fee is for: for the operator's invoices.
    pub fn unbooked_since_ms(&self) -> i64 {
        self.booked_to_ms.load(Relaxed)
    }

    /// A fee for the time until then is in the books.
    pub fn booked_to(&self, now_ms: i64) {
        self.booked_to_ms.store(now_ms, Relaxed);
    }

    /// Sets aside this much instead.
    pub fn set(&mut self, amount: Rational) {
        let mut sums = lock(&self.sums);
        if let Some((_, sum)) = sums.get_mut(&self.account) {
            *sum -= &self.amount;
            *sum += &amount;
        }
        self.amount = amount;
    }

    /// What the account's other jobs hold now.
    pub fn others(&self) -> Rational {
        let sums = lock(&self.sums);
        sums.get(&self.account).map_or(Rational::ZERO, |(_, sum)| sum - &self.amount)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut sums = lock(&self.sums);
        if let Some((jobs, sum)) = sums.get_mut(&self.account) {
            *jobs -= 1;
            *sum -= &self.amount;
            if *jobs == 0 {
                sums.remove(&self.account);
            }
        }
    }
}

fn lock(sums: &Sums) -> MutexGuard<'_, HashMap<AccountKey, (usize, Rational)>> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Address;

    #[test]
    fn holds_add_up_and_are_given_back() {
        let int = |n: i128| Rational::from_int(n);
        let key = |n: u8| AccountKey::new(Address::repeat_byte(n), "s").unwrap();
        let holds = Holds::default();
        let (first, others) = holds.add(&key(1), int(1), int(5));
        assert_eq!(others, int(0));
        let (second, others) = holds.add(&key(1), int(1), int(7));
        assert_eq!(others, int(5));
        assert_eq!((first.others(), second.others()), (int(7), int(5)));
        assert_eq!(holds.add(&key(2), int(1), int(1)).1, int(0), "another account");
        drop(first);
        assert_eq!(second.others(), int(0));
        let (mut second, third) = (second, holds.add(&key(1), int(1), int(1)).0);
        second.set(int(3));
        assert_eq!((second.others(), third.others()), (int(1), int(3)));
        drop((second, third));
        assert!(lock(&holds.0).is_empty());
    }
}
