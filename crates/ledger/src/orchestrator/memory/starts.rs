//! Accounts that were paid for sessions, and in whose hands they are, in memory.

use super::{Rows, most};
use crate::orchestrator::{
    AccountKey, CreditLine, PaymentReceipt, Start,
    plan::{self, Left, MOST_CARRIED, MOST_STARTS},
    sqlite::holds::Holds,
};
use penstock_domain::{Address, Rational};
use uuid::Uuid;

/// A process, and its attempt.
type Hands = (u64, Uuid);

impl Rows {
    /// An account is paid for a start; one that is in other hands by now stays there. Whether it is in these.
    pub(super) fn open(&mut self, receipt: &PaymentReceipt, hands: Hands) -> bool {
        let new = (receipt.now_ms, None);
        let (_, whose) = self.starts.entry(receipt.account.clone()).or_insert(new);
        let is_free =
            whose.is_none_or(|(process, attempt)| attempt == hands.1 || process != hands.0);
        if is_free {
            *whose = Some(hands);
        }
        is_free
    }

    /// Accounts for sessions of a sender's that nobody runs, the most left first. Those that are spent since a while
    /// are forgotten.
    fn left(&mut self, sender: Address, process: u64, spent_before_ms: i64) -> Vec<AccountKey> {
        let Self { starts, accounts, .. } = self;
        let free = starts.iter().filter_map(|(key, (_, whose))| {
            let account = accounts.get(key)?;
            let is_free = whose.is_none_or(|(whose, _)| whose != process);
            let counts =
                account.updated_ms < spent_before_ms || account.credited != account.debited;
            (key.sender() == sender && is_free && counts).then(|| account.clone())
        });
        let mut free: Vec<_> = free.collect();
        free.sort_by_cached_key(|account| (account.updated_ms, account.key.clone()));
        free.truncate(most(MOST_STARTS));
        let left = Left::of(free, spent_before_ms);
        left.spent.iter().for_each(|key| _ = starts.remove(key));
        left.free
    }

    /// The one of them with the most left is in these hands.
    pub(super) fn adopt(
        &mut self,
        sender: Address,
        hands: Hands,
        spent_before_ms: i64,
    ) -> Option<AccountKey> {
        let key = self.left(sender, hands.0, spent_before_ms).into_iter().next()?;
        if let Some((_, whose)) = self.starts.get_mut(&key) {
            *whose = Some(hands);
        }
        Some(key)
    }

    /// What is left of them goes to another account.
    pub(super) fn carry(
        &mut self,
        to: &AccountKey,
        process: u64,
        holds: &Holds,
        spent_before_ms: i64,
        now_ms: i64,
    ) -> Rational {
        let Some(into) = self.accounts.get(to).cloned() else { return Rational::ZERO };
        let left = self.left(to.sender(), process, spent_before_ms).into_iter();
        let left = left.filter(|key| key != to).take(MOST_CARRIED);
        let found = left.filter_map(|key| {
            let held = holds.all(&key);
            Some((self.accounts.get(&key)?.clone(), held))
        });
        let carried = plan::carry(into, found.collect(), now_ms);
        let gone = carried.from.into_iter().map(|(account, amount)| (account, -amount));
        let came = (carried.to, carried.amount.clone());
        for (account, amount) in gone.chain([came]).filter(|(_, amount)| !amount.is_zero()) {
            self.credits.push((account.key.clone(), CreditLine::carried(amount, now_ms)));
            self.accounts.insert(account.key.clone(), account);
        }
        carried.amount
    }

    /// It is in nobody's hands if it was in this attempt's.
    pub(super) fn end(&mut self, start: &Start, process: u64) {
        let mine = Some((process, start.attempt));
        if let Some((_, whose)) = self.starts.get_mut(&start.account)
            && *whose == mine
        {
            *whose = None;
        }
    }
}
