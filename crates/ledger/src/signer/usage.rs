//! Who used how much, day by day, exactly.

use super::{LedgerError, bounded_sum::BoundedSum, counters::Day};
use penstock_domain::{AuthId, Rational, U256, Wei};
use std::collections::BTreeMap;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Which payments to add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Stored at or after, Unix milliseconds.
    pub from_ms: i64,
    /// Stored before, Unix milliseconds.
    pub to_ms: i64,
    /// Of this account only.
    pub account: Option<String>,
}

/// What one account spent for one subject in one day (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The account.
    pub account: String,
    /// The subject, if it named one.
    pub auth_id: Option<AuthId>,
    /// The day.
    pub day: Day,
    /// Payments.
    pub payments: u64,
    /// Tickets in them.
    pub tickets: u64,
    /// Charged to the budgets, wei.
    pub charged_wei: Wei,
    /// Σ tickets × EV, wei.
    pub ticket_ev_wei: Rational,
    /// Σ fees, wei.
    pub fee_wei: Rational,
    /// `fee_wei` is too large by less than this; 0: it is exact.
    pub fee_rounding_wei: u64,
}

/// Payments that are alike, added up by the database.
#[derive(Debug, Clone)]
pub(super) struct UsageRow {
    pub account: String,
    pub auth_id: Option<AuthId>,
    /// Days since 1970-01-01.
    pub day: i64,
    pub charged_wei: Wei,
    pub ticket_ev_wei: Rational,
    pub fee_wei: Rational,
    /// Tickets of each payment.
    pub num_tickets: u32,
    /// How many such payments.
    pub payments: u64,
}

/// Sums per account, subject and day.
pub(super) fn add_up(rows: Vec<UsageRow>) -> Result<Vec<Usage>, LedgerError> {
    let mut sums: BTreeMap<(String, Option<AuthId>, i64), (Usage, BoundedSum)> = BTreeMap::new();
    for row in rows {
        let day = Day::of_ms(row.day.saturating_mul(DAY_MS));
        let key = (row.account.clone(), row.auth_id.clone(), row.day);
        let blank = || Usage {
            account: row.account,
            auth_id: row.auth_id,
            day,
            payments: 0,
            tickets: 0,
            charged_wei: Wei::ZERO,
            ticket_ev_wei: Rational::ZERO,
            fee_wei: Rational::ZERO,
            fee_rounding_wei: 0,
        };
        let (sum, fees) = sums.entry(key).or_insert_with(|| (blank(), BoundedSum::default()));
        let times = Rational::from(row.payments);
        let tickets = u64::from(row.num_tickets).saturating_mul(row.payments);
        sum.payments = sum.payments.saturating_add(row.payments);
        sum.tickets = sum.tickets.saturating_add(tickets);
        let charged = row.charged_wei.0.checked_mul(U256::from(row.payments)).map(Wei);
        sum.charged_wei = charged
            .and_then(|charged| sum.charged_wei.checked_add(charged))
            .ok_or(LedgerError::Corrupt("sum of charges"))?;
        sum.ticket_ev_wei += &(Rational::from(tickets) * row.ticket_ev_wei);
        fees.add(&(times * row.fee_wei));
    }
    let finish = |(sum, fees): (Usage, BoundedSum)| Usage {
        fee_wei: fees.value().clone(),
        fee_rounding_wei: fees.rounding_wei(),
        ..sum
    };
    Ok(sums.into_values().map(finish).collect())
}
