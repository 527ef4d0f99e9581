//! Balances on both sides (payments.md section 12). Exact, and they may be negative.

use crate::price::fee;
use penstock_domain::{Rational, Wei};
use thiserror::Error;

/// One account, as two sums that only grow: their difference is the balance, exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Sum of all credits, wei.
    pub credited: Rational,
    /// Sum of all debits, wei.
    pub debited: Rational,
}

impl Account {
    /// Credits − debits.
    pub fn balance(&self) -> Rational {
        &self.credited - &self.debited
    }

    /// Adds a credit.
    pub fn credit(&mut self, amount: &Rational) {
        self.credited += amount;
    }

    /// Adds a debit. Never fails: work that was done is charged even into the negative.
    pub fn debit(&mut self, amount: &Rational) {
        self.debited += amount;
    }
}

/// What an orchestrator needs on the account before it starts: one **configured** ticket worth, not
/// the ticket's own. No account at all is insufficient.
pub fn is_sufficient(balance: Option<&Rational>, ticket_ev: Wei) -> bool {
    balance.is_some_and(|balance| *balance >= Rational::from(ticket_ev))
}

/// An interval of live work is not covered; the session ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "insufficient balance, mid={manifest_id}, fee={}, balance={}",
    .fee.to_fixed(0),
    .balance.as_ref().map_or_else(|| "nil".to_owned(), |b| b.to_fixed(0))
)]
pub struct InsufficientLiveBalance {
    /// The session.
    pub manifest_id: String,
    /// What the interval costs.
    pub fee: Rational,
    /// What the account holds; `None` without an account.
    pub balance: Option<Rational>,
}

/// The fee to debit for one interval of live work, if the account covers it. A free service is not
/// accounted at all: `None`.
pub fn live_interval_fee(
    manifest_id: &str,
    balance: Option<&Rational>,
    units: u64,
    price: &Rational,
) -> Result<Option<Rational>, InsufficientLiveBalance> {
    if !price.is_positive() {
        return Ok(None);
    }
    let fee = fee(units, price);
    match balance {
        Some(balance) if *balance >= fee => Ok(Some(fee)),
        _ => Err(InsufficientLiveBalance {
            manifest_id: manifest_id.to_owned(),
            fee,
            balance: balance.cloned(),
        }),
    }
}

/// A sender's balance update: credit reserved and tickets to add to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedUpdate {
    /// The whole balance, taken out while the payment is under way.
    pub existing: Rational,
    /// Tickets to send; may be 0. Saturates at 2^64 − 1, far above every limit.
    pub num_tickets: u64,
    /// Worth of those tickets.
    pub new_credit: Rational,
}

/// How a request ended, for its balance update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It was never sent.
    Staged,
    /// It was sent and failed: both amounts are lost.
    CreditSpent,
    /// It succeeded and cost this.
    ReceivedChange {
        /// Exact wei.
        debit: Rational,
    },
}

/// Plans a payment for `fee` out of the balance `existing` and tickets worth `ev` each. At least one
/// ticket's worth must stand, because orchestrators demand that. With an EV of 0 no tickets are
/// made.
pub fn stage_update(existing: Rational, fee: &Rational, ev: &Rational) -> StagedUpdate {
    let min_credit = fee.max(ev);
    let num_tickets =
        if existing >= *min_credit { 0 } else { tickets_for(&(min_credit - &existing), ev) };
    let new_credit = ev.times(num_tickets);
    StagedUpdate { existing, num_tickets, new_credit }
}

/// `ceil(gap / ev)`, 0 for an EV that is not positive.
fn tickets_for(gap: &Rational, ev: &Rational) -> u64 {
    if !ev.is_positive() {
        return 0;
    }
    if gap.is_positive() && gap <= ev {
        return 1;
    }
    match gap.checked_div(ev) {
        Some(size) if size.is_positive() => size.ceil_u64().unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// The lowest ticket EV, in whole wei, with which the same update takes at most `max_tickets`: what
/// to ask of an orchestrator whose tickets are too small. `None` if `max_tickets` is 0.
pub fn lowest_ev(existing: &Rational, fee: &Rational, max_tickets: u64) -> Option<Rational> {
    let tickets = Rational::from(max_tickets);
    let of_fee = (fee - existing).checked_div(&tickets)?;
    let lowest = if of_fee <= *fee {
        of_fee
    } else {
        // A debt so large that one ticket is worth more than the fee: the EV is the minimum credit
        // then, and pays for one of the tickets itself.
        let others = Rational::from(max_tickets.checked_sub(1).filter(|n| *n > 0)?);
        (&Rational::ZERO - existing).checked_div(&others)?
    };
    Some(lowest.ceil().max(Rational::from(1u64)))
}

impl StagedUpdate {
    /// What goes back onto the balance, which this update emptied. May be negative.
    pub fn settle(self, how: &Settlement) -> Rational {
        match how {
            Settlement::Staged => self.existing,
            Settlement::CreditSpent => Rational::ZERO,
            Settlement::ReceivedChange { debit } => &(self.existing + self.new_credit) - debit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_lowest_ev_works_and_the_next_lower_does_not(
            existing in -1_000_000i64..1_000_000, part in 1u64..20, fee in 1u64..1_000_000, max in 2u64..=100,
        ) {
            let existing = Rational::new(existing.into(), part.into()).unwrap();
            let fee = Rational::new(fee.into(), 7).unwrap();
            let ev = lowest_ev(&existing, &fee, max).unwrap();
            proptest::prop_assert!(stage_update(existing.clone(), &fee, &ev).num_tickets <= max);
            let lower = &ev - &Rational::from(1u64);
            if lower.is_positive() {
                let more = stage_update(existing, &fee, &lower).num_tickets;
                proptest::prop_assert!(more > max, "{more} tickets of {lower}");
            }
        }
    }

    fn after(existing: &str, fee: &str, ev: &str) -> (u64, String) {
        let update = stage_update(r(existing), &r(fee), &r(ev));
        let tickets = update.num_tickets;
        let left = update.settle(&Settlement::ReceivedChange { debit: r(fee) });
        (tickets, left.to_string())
    }

    #[test]
    fn tickets_needed() {
        assert_eq!(after("1", "5", "1"), (4, "0".to_owned()));
        assert_eq!(after("1/4", "2", "1"), (2, "1/4".to_owned()));
        assert_eq!(after("-5", "2", "1"), (7, "0".to_owned()));
        assert_eq!(after("5", "5", "1"), (0, "0".to_owned()));
        assert_eq!(after("0", "1", "35"), (1, "34".to_owned()));
        // An EV of 0 buys nothing, however large the fee.
        assert_eq!(after("0", "5", "0"), (0, "-5".to_owned()));
        // Cheap work still keeps one ticket's worth on the account.
        assert_eq!(after("34", "1", "35").0, 1);
        assert_eq!(after("35", "1", "35").0, 0);
    }

    /// The worked numbers of a signer (remote-signer.md section 14).
    #[test]
    fn a_signers_worked_numbers() {
        let fee = crate::price::fee(1_000, &r("150/175"));
        assert_eq!(fee, r("6000/7"));
        let expected = &r("875") - &fee;
        assert_eq!(after("0", "6000/7", "35"), (25, expected.to_string()));
        assert_eq!(after("0", "30", "35"), (1, "5".to_owned()));
        assert_eq!(after("5", "36", "35"), (1, "4".to_owned()));
        assert_eq!(after("0", "3", "3"), (1, "0".to_owned()));
        assert_eq!(after("1000", "1", "1").0, 0);
        assert_eq!(after("0", "101", "1").0, 101);
    }

    #[test]
    fn absurd_numbers_of_tickets_saturate() {
        let fee = Rational::from_decimal("1e60").unwrap();
        assert_eq!(stage_update(Rational::ZERO, &fee, &Rational::ONE).num_tickets, u64::MAX);
    }

    #[test]
    fn an_account_is_needed_and_one_configured_ticket_on_it() {
        let ev = Wei::from_u64(8);
        assert!(!is_sufficient(None, ev));
        assert!(!is_sufficient(Some(&r("79/10")), ev));
        assert!(is_sufficient(Some(&r("8")), ev));
    }

    #[test]
    fn live_intervals_must_be_covered() {
        let fee = |balance: Option<&str>, price: &str| {
            live_interval_fee("m1", balance.map(r).as_ref(), 10, &r(price))
                .map_err(|error| error.to_string())
        };
        assert_eq!(fee(Some("20"), "2"), Ok(Some(r("20"))));
        assert_eq!(
            fee(Some("199/10"), "2"),
            Err("insufficient balance, mid=m1, fee=20, balance=20".to_owned())
        );
        assert_eq!(
            fee(None, "2"),
            Err("insufficient balance, mid=m1, fee=20, balance=nil".to_owned())
        );
        assert_eq!(fee(None, "0"), Ok(None));
    }
}
