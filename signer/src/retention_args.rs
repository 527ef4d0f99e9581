//! How long the books keep what may go. Without these flags they keep everything.

use crate::service::retention::Retention;
use clap::builder::RangedU64ValueParser;
use penstock_config::ConfigError;

/// Days until which a payment's row stays at least: budgets of a month, forecasts and the audit's sums
/// are then of rows that are there.
const MIN_PAYMENT_DAYS: u64 = 35;
/// A century is for ever.
const MAX_DAYS: u64 = 36_500;

/// The command line's part.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RetentionArgs {
    /// Days that a stored answer can be repeated byte for byte. An older one shrinks to the digests of
    /// its tickets, and a repeated request gets 409. Default: for ever.
    #[arg(
        long,
        env = "PENSTOCK_RETAIN_ANSWERS_DAYS",
        value_name = "DAYS",
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_DAYS)
    )]
    pub retain_answers_days: Option<u32>,

    /// Days that payments and sessions stay in the ledger, 35 or more. Older payments are added up by
    /// day, account and subject, sessions not used since end. Nonces, the audit and events that wait
    /// are kept whatever this says. Default: for ever.
    #[arg(
        long,
        env = "PENSTOCK_RETAIN_PAYMENTS_DAYS",
        value_name = "DAYS",
        value_parser = RangedU64ValueParser::<u32>::new().range(MIN_PAYMENT_DAYS..=MAX_DAYS)
    )]
    pub retain_payments_days: Option<u32>,
}

impl RetentionArgs {
    /// Checked.
    pub fn settings(&self) -> Result<Retention, ConfigError> {
        let (answers, payments) = (self.retain_answers_days, self.retain_payments_days);
        if let (Some(answers), Some(payments)) = (answers, payments)
            && answers > payments
        {
            return Err(ConfigError::value(
                "--retain-answers-days",
                format!("answers go with their payments, after {payments} days at the latest"),
            ));
        }
        Ok(Retention { answers_days: answers, payments_days: payments })
    }
}
