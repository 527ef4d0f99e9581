//! Who used how much, day by day, exactly.

use super::counters::Day;
use penstock_domain::{AuthId, Rational, Wei};

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
}
