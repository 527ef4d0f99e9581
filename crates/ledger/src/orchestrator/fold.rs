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
}

/// What goes of one account.
#[derive(Debug, Default)]
pub struct Gone {
    credits: Rational,
    debits: Rational,
}

impl Gone {
    /// Adds it to what has gone before.
    pub fn add_to(&self, account: &mut Account) {
        account.folded_credits += &self.credits;
        account.folded_debits += &self.debits;
    }
}

/// Sums of what goes of both journals, by account, in the order in which accounts are locked: each once, so
/// that two who fold at the same time do not wait for each other.
#[derive(Debug, Default)]
pub struct Sums(BTreeMap<(String, String), Gone>);

impl Sums {
    /// One row more.
    pub fn add(&mut self, journal: Journal, sender: String, session: String, amount: &Rational) {
        let gone = self.0.entry((sender, session)).or_default();
        match journal {
            Journal::Credits => gone.credits += amount,
            Journal::Debits => gone.debits += amount,
        }
    }

    /// All of them.
    pub fn into_accounts(self) -> Result<Vec<(AccountKey, Gone)>, LedgerError> {
        let key = |(sender, session): (String, String)| {
            let sender = parse_address(&sender)?;
            AccountKey::new(sender, session).ok()
        };
        self.0
            .into_iter()
            .map(|(names, gone)| Some((key(names)?, gone)))
            .collect::<Option<Vec<_>>>()
            .ok_or(LedgerError::Corrupt { what: "balance key" })
    }
}
