//! A client's own books: what it paid into which account, which of its tickets have won, and what was
//! done for it.

use penstock_domain::{Address, B256, Rational};
use std::collections::{BTreeMap, BTreeSet};

/// Whose balance, and for what.
pub type Account = (Address, String);

/// The books of one client, or of all together.
#[derive(Debug, Default)]
pub struct Held {
    /// By account.
    pub accounts: BTreeMap<Account, Paid>,
    /// Jobs of brought capabilities, in their order, by account.
    pub brought: BTreeMap<Account, Vec<BroughtJob>>,
    /// Sessions of live runners, at each process where they were, by account.
    pub stints: BTreeMap<Account, Vec<Stint>>,
    /// Tickets that were taken, by offer.
    pub offers: BTreeMap<B256, u64>,
    /// Tickets that have won, by their hash.
    pub winners: BTreeSet<B256>,
    /// Tickets that were taken.
    pub tickets: u64,
}

/// One account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paid {
    /// Worth of the tickets that were taken, wei.
    pub credited: Rational,
    /// How many.
    pub tickets: u64,
    /// Units of each job that was answered; no two jobs of an account have as many.
    pub answered: BTreeSet<u64>,
    /// The same of jobs of which it is not known whether they were done.
    pub unanswered: BTreeSet<u64>,
}

/// A job of a brought capability. Those of one account never overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtJob {
    /// Unix ms at which it was sent.
    pub from_ms: i64,
    /// At which its answer was there; `None` if none came.
    pub to_ms: Option<i64>,
    /// How long its worker takes, milliseconds.
    pub work_ms: u64,
}

/// A session of a live runner at one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stint {
    /// Where.
    pub process: usize,
    /// Unix ms before it was asked for.
    pub from_ms: i64,
    /// Unix ms at which the process had said that it has begun; `None` if it never did.
    pub begun_ms: Option<i64>,
    /// Unix ms at which it was there for certain: before the last request that was answered in it, or its begin.
    pub seen_ms: i64,
    /// Unix ms at which the process had said that there is no such session any more; 0 until then.
    pub to_ms: i64,
    /// Whether the application was called in it.
    pub used: bool,
    /// Whether it was there until it was told to end.
    pub lasted: bool,
}

impl Held {
    /// A payment was taken: so many tickets of that offer, with those winners among them.
    pub fn paid(&mut self, account: &Account, offer: B256, ev: &Rational, won: &[Option<B256>]) {
        let tickets = won.len() as u64;
        let paid = self.accounts.entry(account.clone()).or_default();
        paid.credited = &paid.credited + &ev.times(tickets);
        paid.tickets += tickets;
        *self.offers.entry(offer).or_default() += tickets;
        self.winners.extend(won.iter().flatten());
        self.tickets += tickets;
    }

    /// A job of so many units begins.
    pub fn asked(&mut self, account: &Account, units: u64) {
        self.accounts.entry(account.clone()).or_default().unanswered.insert(units);
    }

    /// It was answered.
    pub fn answered(&mut self, account: &Account, units: u64) {
        let paid = self.accounts.entry(account.clone()).or_default();
        paid.unanswered.remove(&units);
        paid.answered.insert(units);
    }

    /// Those of another client too. No two clients share an account or an offer.
    pub fn merge(&mut self, other: Self) {
        self.accounts.extend(other.accounts);
        self.brought.extend(other.brought);
        self.stints.extend(other.stints);
        self.offers.extend(other.offers);
        self.winners.extend(other.winners);
        self.tickets += other.tickets;
    }

    /// Worth of all tickets, exact wei.
    pub fn credited(&self) -> Rational {
        self.accounts.values().fold(Rational::ZERO, |sum, paid| &sum + &paid.credited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paid_and_done_adds_up() {
        let account = (Address::repeat_byte(1), "s".to_owned());
        let (offer, won) = (B256::repeat_byte(2), B256::repeat_byte(3));
        let ev = Rational::new(7, 2).unwrap();
        let mut held = Held::default();
        held.paid(&account, offer, &ev, &[None, Some(won), None]);
        held.asked(&account, 10);
        held.asked(&account, 11);
        held.answered(&account, 11);
        let mut other = Held::default();
        let elsewhere = (Address::repeat_byte(9), "s".to_owned());
        other.paid(&elsewhere, B256::repeat_byte(8), &ev, &[None]);
        held.merge(other);
        assert_eq!(held.credited(), Rational::from_int(14));
        assert_eq!((held.tickets, held.offers[&offer], held.winners.len()), (4, 3, 1));
        let paid = &held.accounts[&account];
        assert_eq!((&paid.answered, &paid.unanswered), (&[11].into(), &[10].into()));
    }
}
