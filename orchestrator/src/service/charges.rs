//! Charges of work that is paid while it lasts, one after the other from one account. One that failed, or
//! was dropped half-way, may be in the books all the same: it is tried again as it was, number and units,
//! before there is another, so that each is booked once.

use super::{
    cashier::{Cashier, MoneyError},
    holds::Hold,
};
use penstock_domain::Rational;
use penstock_ledger::orchestrator::Booked;
use penstock_payments::fee;
use std::time::Duration;

/// Work without money in which nothing happens is looked at again after so long: once something does, it ends.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const NS_PER_SECOND: u128 = 1_000_000_000;

/// The charges of one stretch of work.
#[derive(Debug)]
pub struct Charges {
    name: String,
    number: u64,
    tried: Option<u64>,
    draws: bool,
    left: Option<Rational>,
}

/// What became of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// It is in the books, for so many units.
    Booked(u64),
    /// What is there is below the fee: nothing was booked.
    Short {
        /// Wei asked for.
        fee: Rational,
        /// Wei of the balance that are there for this work.
        balance: Rational,
    },
}

impl Charges {
    /// None yet. No other work may have this name.
    pub fn new(name: String) -> Self {
        Self { name, number: 0, tried: None, draws: false, left: None }
    }

    /// The same, and each comes out of what is set aside.
    pub fn of_hold(name: String) -> Self {
        Self { draws: true, ..Self::new(name) }
    }

    /// Books so many units, if the balance covers all of them (payments.md section 12: live accounting is
    /// stricter), or those that were tried before.
    pub async fn book(
        &mut self,
        cashier: &Cashier,
        hold: &Hold,
        units: u64,
    ) -> Result<Charged, MoneyError> {
        let (job, units) = self.begin(units);
        let fee = fee(units, &hold.price);
        let spent = if self.draws { hold.spent(false) } else { None };
        self.left = None;
        match cashier.charge(hold, job, units, spent).await? {
            Booked::Short { balance } => {
                // Nor was it booked when it was tried before.
                self.tried = None;
                return Ok(Charged::Short { fee, balance });
            }
            Booked::Now(account) => self.left = Some(account.balance()),
            Booked::Before => {}
        }
        self.done();
        Ok(Charged::Booked(units))
    }

    /// The balance after the last charge, wei, if it was booked just then.
    pub fn left(&self) -> Option<&Rational> {
        self.left.as_ref()
    }

    /// At the end: what may be in the books, then of `owed` what the balance covers. Units booked.
    pub async fn settle(
        &mut self,
        cashier: &Cashier,
        hold: &Hold,
        owed: u64,
        mut booked: impl FnMut(u64),
    ) -> Result<(), MoneyError> {
        let mut owed = owed;
        if self.tried.is_some()
            && let Charged::Booked(units) = self.book(cashier, hold, owed).await?
        {
            booked(units);
            owed = owed.saturating_sub(units);
        }
        while owed > 0 {
            match self.book(cashier, hold, owed).await? {
                Charged::Booked(units) => {
                    booked(units);
                    return Ok(());
                }
                // Always fewer: what is short does not cover all of them.
                Charged::Short { balance, .. } => {
                    owed = affordable(&balance, &hold.price, owed.saturating_sub(1));
                }
            }
        }
        Ok(())
    }

    /// The job id, in the books, of the charge under this name that comes after so many.
    pub fn job(name: &str, charges: u64) -> String {
        numbered(name, charges)
    }

    /// How many there were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// There were so many in another process, or in an earlier life.
    pub fn go_on(&mut self, charges: u64) {
        self.number = charges;
    }

    fn begin(&mut self, units: u64) -> (String, u64) {
        let units = *self.tried.get_or_insert(units);
        (numbered(&self.name, self.number), units)
    }

    fn done(&mut self) {
        self.tried = None;
        self.number = self.number.saturating_add(1);
    }
}

fn numbered(name: &str, number: u64) -> String {
    format!("{name}/{number}")
}

/// How many of the units owed a balance covers.
pub fn affordable(balance: &Rational, price: &Rational, owed: u64) -> u64 {
    if balance.is_negative() {
        return 0;
    }
    match balance.checked_div(price) {
        Some(most) => {
            most.floor_u256().and_then(|n| u64::try_from(n).ok()).unwrap_or(owed).min(owed)
        }
        None => owed,
    }
}

/// How long a balance lasts of which `passed` units are used up already; at least as long as it takes to look again.
pub fn lasts(balance: &Rational, price: &Rational, passed: u64, units_per_second: u64) -> Duration {
    let units = affordable(balance, price, u64::MAX).saturating_sub(passed);
    let ns = (u128::from(units) * NS_PER_SECOND).checked_div(u128::from(units_per_second));
    let ns = ns.and_then(|ns| u64::try_from(ns).ok());
    ns.map_or(Duration::MAX, Duration::from_nanos).max(LOOK_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_failed_is_tried_again_as_it_was() {
        let mut charges = Charges::new("x".into());
        assert_eq!(charges.begin(5), (Charges::job("x", 0), 5));
        // It failed, and more is owed by now.
        assert_eq!(charges.begin(7), ("x/0".to_owned(), 5));
        charges.done();
        assert_eq!(charges.begin(2), ("x/1".to_owned(), 2));
    }

    #[test]
    fn a_balance_covers_whole_units() {
        let of = |balance, price, owed| {
            affordable(&Rational::from_int(balance), &Rational::from_int(price), owed)
        };
        assert_eq!([of(10, 3, 9), of(10, 3, 2), of(2, 3, 9), of(-1, 3, 9)], [3, 2, 0, 0]);
        assert_eq!([of(i128::MAX, 1, 9), of(0, 0, 9)], [9, 9]);
    }

    #[test]
    fn what_a_balance_lasts_for() {
        const RATE: u64 = 27_648_000;
        let of = |balance: &str, price: &str, passed| {
            lasts(&balance.parse().unwrap(), &price.parse().unwrap(), passed, RATE).as_millis()
        };
        // 276.48 wei a second.
        let price = "1/100000";
        assert_eq!([of("6912/5", price, 0), of("6912/5", price, RATE)], [5_000, 4_000]);
        assert_eq!([of("1", price, RATE), of("-1", price, 0)], [500, 500], "used up");
        assert!(of("1", "0", 0) > 86_400_000, "free");
        let seconds = lasts(&Rational::from_int(2_999), &Rational::from_int(1_000), 0, 1);
        assert_eq!(seconds.as_millis(), 2_000);
    }
}
