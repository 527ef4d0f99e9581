//! Which spend counters a payment is charged to, with which caps, and what it means when one of
//! them is full. Pure: the books compare and add, all caps together or none.

use super::limits::{Limit, Limits};
use crate::auth::{Account, Budget, Payer, Policy};
use penstock_domain::{Address, AuthId, Rational, Wei};
use penstock_ledger::signer::{Charge, CounterKey, Day, Hour, Month};
use std::sync::Arc;
use thiserror::Error;

const DAY_MS: i64 = 24 * 3600 * 1000;
const HOUR_MS: i64 = 3600 * 1000;

/// How full a counter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// What it may hold.
    pub cap_wei: Wei,
    /// What it holds.
    pub charged_wei: Wei,
    /// What this payment would add.
    pub amount_wei: Wei,
}

/// A counter has not enough room. Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{whose} may spend {} wei {period}{set_by}: {} wei are charged, {} more were asked for",
    .full.cap_wei, .full.charged_wei, .full.amount_wei
)]
pub struct OverSpend {
    whose: String,
    period: &'static str,
    set_by: String,
    /// The operator's limit; `None` for an account's budget.
    pub limit: Option<Limit>,
    /// How full it is.
    pub full: Full,
    /// Seconds until the next period begins.
    pub retry_after_s: u64,
}

/// A budget in dollars cannot be compared: the price of ether is unknown or too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoEthPrice;

/// What a payment is charged to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Charges {
    charges: Vec<Charge>,
    meanings: Vec<(Whose, Period)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Account(Arc<Account>),
    Subject(Arc<Account>, AuthId),
    Signer(Limit, Address),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Hour,
    Day,
    Month,
}

impl Charges {
    /// Whether the price of ether has to be known to compare this payer's budgets.
    pub fn in_dollars(payer: &Payer) -> bool {
        let Policy { budget_day, budget_month, subject_day, subject_month, .. } = &payer.policy;
        let budgets = [budget_day, budget_month, subject_day, subject_month];
        budgets.into_iter().any(|b| matches!(b, Some(Budget::MicroUsd(_))))
    }

    /// The counters of one payment at `now_ms`. An account's own are always counted, so that a
    /// budget given at noon knows the morning; a subject's only while it has a budget.
    /// `micro_usd_per_eth` is the price of an ether in millionths of a dollar.
    pub fn of(
        payers: &[Payer],
        recipient: Address,
        limits: &Limits,
        now_ms: i64,
        micro_usd_per_eth: Option<&Rational>,
    ) -> Result<Self, NoEthPrice> {
        let mut charges = Self::default();
        let (day, month) = (Day::of_ms(now_ms), Month::of_ms(now_ms));
        let cap = |budget: &Option<Budget>| match budget {
            None => Ok(None),
            Some(budget) => budget.in_wei(micro_usd_per_eth).map(Some).ok_or(NoEthPrice),
        };
        for Payer { account, subject, policy } in payers {
            let (name, whose) = (account.name(), || Whose::Account(Arc::clone(account)));
            let key = CounterKey::account_day(name, day);
            charges.add(key, cap(&policy.budget_day)?, whose(), Period::Day);
            let key = CounterKey::account_month(name, month);
            charges.add(key, cap(&policy.budget_month)?, whose(), Period::Month);
            let Some(subject) = subject else { continue };
            let whose = || Whose::Subject(Arc::clone(account), subject.clone());
            if let Some(cap) = cap(&policy.subject_day)? {
                let key = CounterKey::subject_day(name, subject, day);
                charges.add(key, Some(cap), whose(), Period::Day);
            }
            if let Some(cap) = cap(&policy.subject_month)? {
                let key = CounterKey::subject_month(name, subject, month);
                charges.add(key, Some(cap), whose(), Period::Month);
            }
        }
        let hour = Hour::of_ms(now_ms);
        if let Some(cap) = limits.spend_per_orchestrator_hour {
            let whose = Whose::Signer(Limit::OrchestratorHour, recipient);
            let key = CounterKey::orchestrator_hour(&recipient, hour);
            charges.add(key, Some(cap), whose, Period::Hour);
        }
        if let Some(cap) = limits.spend_per_hour {
            let whose = Whose::Signer(Limit::Hour, recipient);
            charges.add(CounterKey::global_hour(hour), Some(cap), whose, Period::Hour);
        }
        Ok(charges)
    }

    fn add(&mut self, counter: CounterKey, cap_wei: Option<Wei>, whose: Whose, period: Period) {
        self.charges.push(Charge { counter, cap_wei });
        self.meanings.push((whose, period));
    }

    /// For the books.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// What a full counter means. `None` if it is not one of these.
    pub fn over(&self, counter: &CounterKey, full: Full, now_ms: i64) -> Option<OverSpend> {
        let place = self.charges.iter().position(|c| c.counter == *counter)?;
        let (whose, period) = self.meanings.get(place)?;
        let (limit, whose) = match whose {
            Whose::Account(account) => (None, format!("account {}", account.name())),
            Whose::Subject(account, subject) => {
                (None, format!("subject {subject} of account {}", account.name()))
            }
            Whose::Signer(Limit::OrchestratorHour, recipient) => {
                (Some(Limit::OrchestratorHour), format!("this signer, for recipient {recipient},"))
            }
            Whose::Signer(limit, _) => (Some(*limit), "this signer".to_owned()),
        };
        Some(OverSpend {
            whose,
            period: period.text(),
            set_by: limit.map(|l| format!(" ({})", l.setting())).unwrap_or_default(),
            limit,
            full,
            retry_after_s: period.seconds_left(now_ms),
        })
    }
}

impl Period {
    fn text(self) -> &'static str {
        match self {
            Self::Hour => "an hour",
            Self::Day => "a day",
            Self::Month => "a month",
        }
    }

    /// For a month: until the next day, since the caller may be given a larger budget meanwhile.
    fn seconds_left(self, now_ms: i64) -> u64 {
        let length = match self {
            Self::Hour => HOUR_MS,
            Self::Day | Self::Month => DAY_MS,
        };
        let left_ms = length.saturating_sub(now_ms.rem_euclid(length));
        u64::try_from(left_ms).unwrap_or(0).div_ceil(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_795_262_400_000;

    fn wei(n: u64) -> Wei {
        Wei::from_u64(n)
    }

    fn names(charges: &Charges) -> Vec<(&str, Option<Wei>)> {
        charges.charges().iter().map(|c| (c.counter.as_str(), c.cap_wei)).collect()
    }

    #[test]
    fn every_counter_of_a_payment() {
        let recipient = Address::repeat_byte(1);
        let account = Arc::new(Account::for_tests("acme"));
        let subject = Some(AuthId::new("client:7").unwrap());
        let policy = Policy::unlimited();
        let payer = Payer { account, subject, policy };
        let limits = Limits::default();
        let of = |payer: &Payer, limits: &Limits, price| {
            Charges::of(std::slice::from_ref(payer), recipient, limits, NOON_MS, price)
        };
        let bare = of(&payer, &limits, None).unwrap();
        let day = "a/acme/d/2026-11-21";
        assert_eq!(names(&bare), [(day, None), ("a/acme/m/2026-11", None)]);

        let policy = Policy {
            budget_day: Some(Budget::Wei(wei(100))),
            subject_month: Some(Budget::MicroUsd(2_000_000)),
            ..Policy::unlimited()
        };
        assert!(!Charges::in_dollars(&payer));
        let payer = Payer { policy, ..payer };
        assert!(Charges::in_dollars(&payer));
        let limits = Limits {
            spend_per_hour: Some(wei(9)),
            spend_per_orchestrator_hour: Some(wei(8)),
            ..limits
        };
        assert_eq!(of(&payer, &limits, None), Err(NoEthPrice));
        let price = Rational::from(2_000_000_000_u64);
        let all = of(&payer, &limits, Some(&price)).unwrap();
        assert_eq!(
            names(&all),
            [
                (day, Some(wei(100))),
                ("a/acme/m/2026-11", None),
                ("s/acme/client:7/m/2026-11", Some(wei(1_000_000_000_000_000))),
                ("o/0x0101010101010101010101010101010101010101/h/2026-11-21T12", Some(wei(8))),
                ("g/h/2026-11-21T12", Some(wei(9))),
            ]
        );
        let full = Full { cap_wei: wei(9), charged_wei: wei(8), amount_wei: wei(2) };
        let over = |place: usize| {
            let counter = &all.charges()[place].counter;
            all.over(counter, full, NOON_MS + 1).unwrap()
        };
        assert_eq!(
            over(4).to_string(),
            "this signer may spend 9 wei an hour (--max-spend-per-hour): 8 wei are charged, 2 more were asked for"
        );
        assert_eq!((over(4).limit, over(4).retry_after_s), (Some(Limit::Hour), 3600));
        assert!(over(3).to_string().contains("for recipient 0x0101"));
        assert!(over(0).to_string().starts_with("account acme may spend 9 wei a day: "));
        assert_eq!((over(0).limit, over(0).retry_after_s), (None, 12 * 3600));
        assert!(over(2).to_string().starts_with("subject client:7 of account acme may"));
        let stranger = CounterKey::account_day("other", Day::of_ms(NOON_MS));
        assert_eq!(all.over(&stranger, full, 0), None);
    }
}
