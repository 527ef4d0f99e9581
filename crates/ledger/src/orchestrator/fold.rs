//! What of the journals is the same in both databases when their old rows go.

use super::{Account, AccountKey, LedgerError};
use penstock_domain::{Rational, parse_address};
use std::collections::BTreeMap;

/// One of the journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// Of payments.
    Credits,
    /// Of fees.
    Debits,
}

impl Journal {
    /// Where its rows are.
    pub fn table(self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Debits => "debits",
        }
    }

    /// What names a row.
    pub fn key(self) -> &'static str {
        match self {
            Self::Credits => "id",
            Self::Debits => "job_id",
        }
    }

    /// Where its sum is, in the row of an account.
    pub fn column(self) -> &'static str {
        match self {
            Self::Credits => "folded_credits",
            Self::Debits => "folded_debits",
        }
    }

    /// The same in an account that was read.
    pub fn folded(self, account: &mut Account) -> &mut Rational {
        match self {
            Self::Credits => &mut account.folded_credits,
            Self::Debits => &mut account.folded_debits,
        }
    }
}

/// Sums of what goes, by account, in the order in which accounts are locked.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<(String, String), Rational>);

impl Sums {
    /// One row more.
    pub fn add(&mut self, sender: String, session: String, amount: &Rational) {
        *self.0.entry((sender, session)).or_default() += amount;
    }

    /// All of them.
    pub fn into_accounts(self) -> Result<Vec<(AccountKey, Rational)>, LedgerError> {
        let key = |(sender, session): (String, String)| {
            let sender = parse_address(&sender)?;
            AccountKey::new(sender, session).ok()
        };
        self.0
            .into_iter()
            .map(|(names, sum)| Some((key(names)?, sum)))
            .collect::<Option<Vec<_>>>()
            .ok_or(LedgerError::Corrupt { what: "balance key" })
    }
}
