//! Who used how much, day by day, exactly.

use super::{
    LedgerError,
    bounded_sum::BoundedSum,
    counters::Day,
    decode::{self, Fields},
};
use crate::postgres::silence::Watch;
use futures::{Stream, StreamExt};
use penstock_domain::{AuthId, Rational, Wei};
use tokio::sync::mpsc;

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

/// Payments of one account, subject and day, added up: some of a line.
#[derive(Debug, Clone)]
pub(super) struct UsageRow {
    pub account: String,
    pub auth_id: Option<AuthId>,
    /// Days since 1970-01-01.
    pub day: i64,
    pub payments: u64,
    pub tickets: u64,
    pub charged_wei: Wei,
    pub ticket_ev_wei: Rational,
    pub fee_wei: Rational,
}

/// A line that may grow.
struct Sum {
    day: i64,
    line: Usage,
    fees: BoundedSum,
}

impl Sum {
    fn of(row: &UsageRow) -> Self {
        let line = Usage {
            account: row.account.clone(),
            auth_id: row.auth_id.clone(),
            day: Day::of_ms(row.day.saturating_mul(DAY_MS)),
            payments: 0,
            tickets: 0,
            charged_wei: Wei::ZERO,
            ticket_ev_wei: Rational::ZERO,
            fee_wei: Rational::ZERO,
            fee_rounding_wei: 0,
        };
        Self { day: row.day, line, fees: BoundedSum::default() }
    }

    fn is_of(&self, row: &UsageRow) -> bool {
        self.day == row.day && self.line.account == row.account && self.line.auth_id == row.auth_id
    }

    fn add(&mut self, row: &UsageRow) -> Result<(), LedgerError> {
        let line = &mut self.line;
        line.payments = line.payments.saturating_add(row.payments);
        line.tickets = line.tickets.saturating_add(row.tickets);
        line.charged_wei = line
            .charged_wei
            .checked_add(row.charged_wei)
            .ok_or(LedgerError::Corrupt("sum of charges"))?;
        line.ticket_ev_wei += &row.ticket_ev_wei;
        self.fees.add(&row.fee_wei);
        Ok(())
    }

    fn finish(self) -> Usage {
        Usage {
            fee_wei: self.fees.value().clone(),
            fee_rounding_wei: self.fees.rounding_wei(),
            ..self.line
        }
    }
}

/// Makes lines of rows that come in the lines' order, and keeps one line in memory.
pub(super) async fn add_up(
    mut rows: mpsc::Receiver<UsageRow>,
    lines: mpsc::Sender<Usage>,
) -> Result<(), LedgerError> {
    let mut sum: Option<Sum> = None;
    while let Some(row) = rows.recv().await {
        if !sum.as_ref().is_some_and(|sum| sum.is_of(&row))
            && let Some(done) = sum.replace(Sum::of(&row))
            && lines.send(done.finish()).await.is_err()
        {
            // Whoever asked has gone; the reading ends with `rows`.
            return Ok(());
        }
        if let Some(sum) = &mut sum {
            sum.add(&row)?;
        }
    }
    if let Some(done) = sum {
        // The same.
        let _ = lines.send(done.finish()).await;
    }
    Ok(())
}

/// Sends rows on as they come, until nobody listens. A row, not the reading, has a limit of time:
/// whoever listens may be slow.
pub(super) async fn send_rows<R: Fields, E>(
    mut found: impl Stream<Item = Result<R, E>> + Unpin,
    rows: mpsc::Sender<UsageRow>,
    watch: Option<&Watch>,
) -> Result<(), LedgerError>
where
    LedgerError: From<E>,
{
    loop {
        let next = async { Result::<_, LedgerError>::Ok(found.next().await.transpose()?) };
        let row = match watch {
            Some(watch) => watch.report(next).await?,
            None => next.await?,
        };
        let Some(row) = row else { return Ok(()) };
        if rows.send(decode::usage(&row)?).await.is_err() {
            return Ok(());
        }
    }
}
