//! What jobs under way hold, in memory: the file has one process, and they end with it. Whoever decides by
//! them has the one connection that writes in hand, so that no two jobs begin on the same balance, and a fee
//! is in the books before its hold is gone.

use crate::orchestrator::{AccountKey, HoldId, HoldRequest, HoldSpent};
use penstock_domain::Rational;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Default)]
struct Kept {
    sums: HashMap<AccountKey, (usize, Rational)>,
    by_id: HashMap<HoldId, (AccountKey, Rational)>,
}

impl Kept {
    /// What it was before, if it was.
    fn remove(&mut self, id: HoldId) -> Option<(AccountKey, Rational)> {
        let (account, amount) = self.by_id.remove(&id)?;
        if let Some((jobs, sum)) = self.sums.get_mut(&account) {
            *jobs = jobs.saturating_sub(1);
            *sum -= &amount;
            if *jobs == 0 {
                self.sums.remove(&account);
            }
        }
        Some((account, amount))
    }

    fn insert(&mut self, id: HoldId, account: AccountKey, amount: Rational) {
        let (jobs, sum) = self.sums.entry(account.clone()).or_default();
        *jobs = jobs.saturating_add(1);
        *sum += &amount;
        self.by_id.insert(id, (account, amount));
    }
}

/// All holds of this process.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<Kept>>);

impl Holds {
    /// What a job holds, if it does.
    pub fn own(&self, id: HoldId) -> Option<Rational> {
        self.lock().by_id.get(&id).map(|(_, amount)| amount.clone())
    }

    /// What all jobs of an account hold.
    pub fn all(&self, account: &AccountKey) -> Rational {
        self.lock().sums.get(account).map_or(Rational::ZERO, |(_, sum)| sum.clone())
    }

    /// What all other jobs of an account hold.
    pub fn others(&self, id: HoldId, account: &AccountKey) -> Rational {
        let kept = self.lock();
        let mut sum = kept.sums.get(account).map_or(Rational::ZERO, |(_, sum)| sum.clone());
        if let Some((_, own)) = kept.by_id.get(&id).filter(|(whose, _)| whose == account) {
            sum -= own;
        }
        sum
    }

    /// Sets it aside, or this much instead.
    pub fn set(&self, ask: &HoldRequest) {
        let mut kept = self.lock();
        kept.remove(ask.id);
        kept.insert(ask.id, ask.account.clone(), ask.amount.clone());
    }

    /// A fee comes out of one, if it is there.
    pub fn spend(&self, spent: &HoldSpent, fee: &Rational) {
        let mut kept = self.lock();
        if let Some((account, held)) = kept.remove(spent.id)
            && let Some(left) = spent.left(&held, fee)
        {
            kept.insert(spent.id, account, left);
        }
    }

    /// Gives one back.
    pub fn remove(&self, id: HoldId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
