//! The last line: what the operator allows whatever account asks, and the setting that says so.

use penstock_domain::{Rational, Wei};
use penstock_payments::{MAX_TICKETS_PER_REQUEST, SenderError, SenderLimits};

/// A recipient takes 600 nonces of one hash (payments.md section 15) and counts those of lost and
/// discarded payments too. Whoever would pass this number is asked to refresh, whole batch
/// included, so that a session never dies of it.
pub const REFRESH_AT_NONCE: u32 = 500;

/// Everything that bounds a payment besides prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Worth of a ticket, of a batch, of a win; and how fresh an offer has to be.
    pub sender: SenderLimits,
    /// Most tickets in one answer (`--max-tickets`), at most [`MAX_TICKETS_PER_REQUEST`].
    pub max_tickets: u64,
    /// Most expected value signed for one recipient in an hour of the clock, wei.
    pub spend_per_orchestrator_hour: Option<Wei>,
    /// Most expected value signed in an hour of the clock, wei.
    pub spend_per_hour: Option<Wei>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sender: SenderLimits::default(),
            max_tickets: MAX_TICKETS_PER_REQUEST,
            spend_per_orchestrator_hour: None,
            spend_per_hour: None,
        }
    }
}

/// Which of them was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// One ticket is worth too much.
    TicketEv,
    /// The batch is worth too much.
    TotalEv,
    /// A win would take too much of the deposit.
    DepositMultiplier,
    /// Too many tickets.
    Tickets,
    /// Too much for one recipient in this hour.
    OrchestratorHour,
    /// Too much in this hour.
    Hour,
}

impl Limit {
    /// The setting, as the operator knows it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::TicketEv => "--max-ticket-ev",
            Self::TotalEv => "--max-total-ev",
            Self::DepositMultiplier => "--deposit-multiplier",
            Self::Tickets => "--max-tickets",
            Self::OrchestratorHour => "--max-spend-per-orchestrator-hour",
            Self::Hour => "--max-spend-per-hour",
        }
    }

    /// Label of `signer_limit_refusals_total`, and the error's `code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TicketEv => "max_ticket_ev",
            Self::TotalEv => "max_total_ev",
            Self::DepositMultiplier => "deposit_multiplier",
            Self::Tickets => "max_tickets",
            Self::OrchestratorHour => "max_spend_per_orchestrator_hour",
            Self::Hour => "max_spend_per_hour",
        }
    }

    /// The limit behind one of the sender's refusals, if it was one.
    pub fn of(error: &SenderError) -> Option<Self> {
        match error {
            SenderError::EvTooHigh { .. } => Some(Self::TicketEv),
            SenderError::TotalEvTooHigh { .. } => Some(Self::TotalEv),
            SenderError::FaceValueTooHigh { .. } => Some(Self::DepositMultiplier),
            _ => None,
        }
    }

    /// ` (--setting)` after a text that the protocol fixes.
    pub(crate) fn suffix(error: &SenderError) -> String {
        Self::of(error).map(|limit| format!(" ({})", limit.setting())).unwrap_or_default()
    }
}

/// More tickets than one answer may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooManyTickets {
    /// Needed with this offer.
    pub tickets: u64,
    /// Allowed.
    pub max: u64,
    /// Worth of one ticket of this offer, wei.
    pub ev: Rational,
    /// The lowest worth with which the same request would pass, whole wei.
    pub lowest_ev: Option<Rational>,
    /// `--max-ticket-ev`.
    pub max_ev: Rational,
}

impl std::fmt::Display for TooManyTickets {
    /// The reference's text, then what would help.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "numTickets {} exceeds maximum of {}", self.tickets, self.max)?;
        let Some(lowest) = &self.lowest_ev else { return Ok(()) };
        write!(
            f,
            ": a ticket EV of {} wei or more would work, this offer's is {}",
            lowest.to_fixed(0),
            self.ev.to_fixed(3)
        )?;
        if *lowest > self.max_ev {
            let max = self.max_ev.to_fixed(0);
            write!(f, " (but --max-ticket-ev is {max}: ask for fewer units at once)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_would_work() {
        let r = |n: u64| Rational::from(n);
        let mut refused = TooManyTickets {
            tickets: 250,
            max: 100,
            ev: r(4),
            lowest_ev: Some(r(10)),
            max_ev: r(20),
        };
        assert_eq!(
            refused.to_string(),
            "numTickets 250 exceeds maximum of 100: a ticket EV of 10 wei or more would work, this offer's is 4.000"
        );
        refused.max_ev = r(9);
        assert!(
            refused
                .to_string()
                .ends_with("is 4.000 (but --max-ticket-ev is 9: ask for fewer units at once)")
        );
        refused.lowest_ev = None;
        assert_eq!(refused.to_string(), "numTickets 250 exceeds maximum of 100");
    }
}
