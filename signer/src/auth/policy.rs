//! What an account may do. Everything here is a limit; absent means that there is none.

use super::Budget;
use penstock_domain::Rational;
use std::num::{NonZeroU32, NonZeroU64};

/// What an account may do, with its tier's rules filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The tier that rules were taken from; empty for none.
    pub tier: String,
    /// Spend of the account in a UTC day.
    pub budget_day: Option<Budget>,
    /// Spend of the account in a UTC calendar month.
    pub budget_month: Option<Budget>,
    /// Spend of each subject in a UTC day, unless the subject has its own.
    pub subject_day: Option<Budget>,
    /// Spend of each subject in a UTC calendar month, unless the subject has its own.
    pub subject_month: Option<Budget>,
    /// What may be paid for: `pipeline/model`, `pipeline/*`, or the name of an application.
    pub allowed_capabilities: Option<Vec<String>>,
    /// Highest price, wei per unit.
    pub max_price: Option<Rational>,
    /// Highest expected value of one ticket, wei.
    pub max_ticket_ev_wei: Option<Rational>,
    /// Requests a second that this process takes; short bursts of as many again pass.
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests in 24 hours that gateways take of each of the account's callers. The signer counts none.
    pub requests_per_day: Option<NonZeroU64>,
    /// Whether `Signer-Auth-Id` is believed. For gateways that authenticate their callers.
    pub may_name_subjects: bool,
}

impl Policy {
    /// No limit at all, and trusted to name subjects.
    pub fn unlimited() -> Self {
        Self { may_name_subjects: true, ..Self::default() }
    }

    /// Whether the name of a capability (`pipeline/model` or an application) may be paid for.
    pub fn allows(&self, name: &str) -> bool {
        let Some(allowed) = &self.allowed_capabilities else { return true };
        allowed.iter().any(|pattern| match pattern.strip_suffix("/*") {
            Some(pipeline) => name.split_once('/').is_some_and(|(p, _)| p == pipeline),
            None => pattern == name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_exactly_or_by_pipeline() {
        let allowed = ["text-to-image/*", "audio-to-text/a/b", "scope"].map(str::to_owned);
        let policy = Policy { allowed_capabilities: Some(allowed.to_vec()), ..Policy::unlimited() };
        for (name, allows) in [
            ("text-to-image/x", true),
            ("text-to-image/x/y", true),
            ("text-to-image", false),
            ("text-to-images/x", false),
            ("audio-to-text/a/b", true),
            ("audio-to-text/a", false),
            ("scope", true),
            ("scope/x", false),
            ("", false),
        ] {
            assert_eq!(policy.allows(name), allows, "{name}");
        }
        assert!(Policy::unlimited().allows("anything"));
        let nothing = Policy { allowed_capabilities: Some(Vec::new()), ..Policy::default() };
        assert!(!nothing.allows("x/y"));
    }
}
