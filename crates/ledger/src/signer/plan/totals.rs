//! Totals that are kept, so that asking for them does not read every payment.
//!
//! Sums of fractions over unlike denominators grow without bound, so fees are added up per
//! denominator, each as an integer: a session's fees are all multiples of 1 / its price's pixels
//! per unit. Expected values are multiples of 1 / (2^256 − 1), all of them. The sum over all
//! denominators is bounded ([`BoundedSum`]).

use crate::signer::{LedgerError, Summary, bounded_sum::BoundedSum};
use penstock_domain::{Rational, U256};
use std::collections::BTreeMap;

/// Sums of one denominator. The denominator itself is the key beside it: decimal text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub payments: u64,
    pub tickets: u64,
    /// Σ tickets × EV × (2^256 − 1): an integer.
    pub ticket_ev_parts: Rational,
    /// Σ fees × denominator: an integer.
    pub fee_parts: Rational,
}

impl Totals {
    /// Adds those of other payments with the same denominator.
    pub fn add(&mut self, other: &Self) {
        self.payments = self.payments.saturating_add(other.payments);
        self.tickets = self.tickets.saturating_add(other.tickets);
        self.ticket_ev_parts += &other.ticket_ev_parts;
        self.fee_parts += &other.fee_parts;
    }
}

/// Of all expected values.
pub fn ev_denominator() -> Rational {
    Rational::from(U256::MAX)
}

/// Adds one payment. `credit` is tickets × EV; `pixels_per_unit` is that of the session's price.
pub fn add_totals(
    totals: &mut BTreeMap<String, Totals>,
    tickets: u32,
    credit: &Rational,
    fee: &Rational,
    pixels_per_unit: i64,
) -> Result<(), LedgerError> {
    let ticket_ev_parts = credit
        .whole_multiple(U256::MAX)
        .ok_or(LedgerError::Misuse("an expected value that no ticket has"))?;
    let mut denominator = U256::from(pixels_per_unit.unsigned_abs());
    let mut fee_parts = fee.whole_multiple(denominator);
    if fee_parts.is_none() {
        // Not units × price; no payment is made so, but a sum must not lose it.
        denominator = U256::try_from_be_slice(&fee.denominator_be()).unwrap_or_default();
        fee_parts = fee.whole_multiple(denominator).filter(|_| !denominator.is_zero());
    }
    let fee_parts = fee_parts.ok_or(LedgerError::Misuse("fee out of range"))?;
    let total = totals.entry(denominator.to_string()).or_default();
    total.payments = total.payments.saturating_add(1);
    total.tickets = total.tickets.saturating_add(tickets.into());
    total.ticket_ev_parts += &ticket_ev_parts;
    total.fee_parts += &fee_parts;
    Ok(())
}

/// The sums over all denominators.
pub fn summary_of(rows: &[(String, Totals)]) -> Result<Summary, LedgerError> {
    let unreadable = LedgerError::Corrupt("total");
    let mut by_denominator: BTreeMap<&str, Rational> = BTreeMap::new();
    let mut summary = Summary::default();
    let mut ev_parts = Rational::ZERO;
    for (denominator, total) in rows {
        summary.payments = summary.payments.saturating_add(total.payments);
        summary.tickets = summary.tickets.saturating_add(total.tickets);
        ev_parts += &total.ticket_ev_parts;
        *by_denominator.entry(denominator).or_default() += &total.fee_parts;
    }
    summary.ticket_ev_total_wei =
        ev_parts.checked_div(&ev_denominator()).ok_or(unreadable.clone())?;
    let mut fees = BoundedSum::default();
    for (denominator, parts) in by_denominator {
        let denominator: Rational = denominator.parse().map_err(|_| unreadable.clone())?;
        fees.add(&parts.checked_div(&denominator).ok_or(unreadable.clone())?);
    }
    summary.fee_total_wei = fees.value().clone();
    summary.fee_rounding_wei = fees.rounding_wei();
    summary.balance_total_wei = &summary.ticket_ev_total_wei - &summary.fee_total_wei;
    Ok(summary)
}
