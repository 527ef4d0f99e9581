//! Old payments become lines of usage: one for each day, account, subject and denominator.

use super::{Totals, add_totals};
use crate::signer::{LedgerError, usage::DAY_MS};
use penstock_domain::{Rational, StateId, Wei};
use std::collections::BTreeMap;

/// A payment as it is added up.
#[derive(Debug, Clone)]
pub struct OldPayment {
    pub id: i64,
    pub state_id: StateId,
    pub sequence: u64,
    pub account: String,
    /// Empty: none.
    pub auth_id: String,
    pub tickets: u32,
    pub ticket_ev_wei: Rational,
    pub fee_wei: Rational,
    pub charged_wei: Wei,
    /// Of the session's price.
    pub pixels_per_unit: i64,
    pub created_at_ms: i64,
}

/// Which line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// Since 1970-01-01.
    pub day: i64,
    pub account: String,
    pub auth_id: String,
    pub denominator: String,
}

/// What is added to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    pub totals: Totals,
    pub charged_wei: Wei,
}

/// The lines that these payments are added to.
pub fn fold(payments: &[OldPayment]) -> Result<BTreeMap<LineKey, Line>, LedgerError> {
    let mut lines: BTreeMap<LineKey, Line> = BTreeMap::new();
    for payment in payments {
        let credit = Rational::from_int(payment.tickets.into()) * payment.ticket_ev_wei.clone();
        let mut one = BTreeMap::new();
        let pixels = payment.pixels_per_unit;
        add_totals(&mut one, payment.tickets, &credit, &payment.fee_wei, pixels)?;
        for (denominator, totals) in one {
            let key = LineKey {
                day: payment.created_at_ms.div_euclid(DAY_MS),
                account: payment.account.clone(),
                auth_id: payment.auth_id.clone(),
                denominator,
            };
            let line = lines.entry(key).or_default();
            line.totals.add(&totals);
            line.charged_wei = line
                .charged_wei
                .checked_add(payment.charged_wei)
                .ok_or(LedgerError::Corrupt("sum of charges"))?;
        }
    }
    Ok(lines)
}
