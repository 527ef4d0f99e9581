//! What jobs under way hold, in memory: the file has one process, and they end with it.

use crate::orchestrator::{AccountKey, HoldId, HoldLeft, HoldRequest};
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

    fn sum(&self, account: &AccountKey) -> Rational {
        self.sums.get(account).map_or(Rational::ZERO, |(_, sum)| sum.clone())
    }
}

/// All holds of this process.
#[derive(Debug, Clone, Default)]
pub struct Holds(Arc<Mutex<Kept>>);

/// A hold that is not decided on: dropped, it is as it was before.
pub struct Undecided<'a> {
    holds: &'a Holds,
    id: HoldId,
    before: Option<(AccountKey, Rational)>,
    is_decided: bool,
}

impl Holds {
    /// Sets it aside for now; also what the account's other jobs hold at this moment.
    pub fn add(&self, ask: &HoldRequest) -> (Undecided<'_>, Rational) {
        let mut kept = self.lock();
        let before = kept.remove(ask.id);
        let others = kept.sum(&ask.account);
        kept.insert(ask.id, ask.account.clone(), ask.amount.clone());
        (Undecided { holds: self, id: ask.id, before, is_decided: false }, others)
    }

    /// What the account's other jobs hold now.
    pub fn others(&self, ask: &HoldRequest) -> Rational {
        &self.lock().sum(&ask.account) - &ask.amount
    }

    /// Gives one back.
    pub fn remove(&self, id: HoldId) {
        self.lock().remove(id);
    }

    /// What is left of one, if it is there.
    pub fn change(&self, hold: &HoldLeft) {
        let mut kept = self.lock();
        if let Some((account, _)) = kept.remove(hold.id)
            && !hold.left.is_zero()
        {
            kept.insert(hold.id, account, hold.left.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Undecided<'_> {
    /// It stays until it is removed.
    pub fn keep(mut self) {
        self.is_decided = true;
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if self.is_decided {
            return;
        }
        let mut kept = self.holds.lock();
        kept.remove(self.id);
        if let Some((account, amount)) = self.before.take() {
            kept.insert(self.id, account, amount);
        }
    }
}
