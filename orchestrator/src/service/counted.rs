//! What is counted of payments and jobs under our names and the Go node's.

use super::cashier::MoneyError;
use penstock_ledger::orchestrator::PaymentTaken;
use penstock_payments::{PaymentError, TicketError};
use penstock_telemetry::{
    Names,
    go::{self, Whole},
};
use std::time::Duration;

/// Expected value of the tickets.
static RECEIVED: Whole = Whole::gwei();
/// Pixels of renditions.
static PIXELS: Whole = Whole::millions();
static MODELS: Names = Names::at_most(300);

/// Shows the counters before there is anything to count: Prometheus sees no increase in one that begins with 1.
pub fn show() {
    tickets(0, 0);
    metrics::counter!("orchestrator_price_list_errors_total").increment(0);
}

/// A payment is in the books.
pub fn payment_taken(taken: &PaymentTaken) {
    tickets(taken.credited_tickets, taken.new_winners as u64);
    let credited_wei = taken.credited.floor_u256().and_then(|wei| u128::try_from(wei).ok());
    metrics::counter!("livepeer_ticket_value_recv", go::labels([]))
        .increment(RECEIVED.add(credited_wei.unwrap_or(0)));
}

fn tickets(credited: u64, winners: u64) {
    metrics::counter!("orchestrator_tickets_credited_total").increment(credited);
    metrics::counter!("orchestrator_winners_stored_total").increment(winners);
    metrics::counter!("livepeer_tickets_recv", go::labels([])).increment(credited);
    metrics::counter!("livepeer_winning_tickets_recv", go::labels([])).increment(winners);
}

/// A payment was not taken, or not all of it.
pub fn payment_refused(error: &MoneyError) {
    let by = go::labels([("error_code", code(error).to_owned())]);
    metrics::counter!("livepeer_payment_recv_errors", by).increment(1);
}

/// As the Go node calls it.
fn code(error: &MoneyError) -> &'static str {
    match error {
        MoneyError::Payment(PaymentError::ExpectedPrice(_)) => "InvalidPrice",
        MoneyError::Payment(PaymentError::Ticket(TicketError::RecipientRand)) => {
            "InvalidRecipientRand"
        }
        _ => "PaymentError",
    }
}

/// A worker made the renditions of a segment.
pub fn segment_done(took: Duration, media_ms: u32, pixels: u64) {
    let took_s = took.as_secs_f64();
    metrics::counter!("livepeer_segment_transcoded_total", go::labels([])).increment(1);
    metrics::histogram!("livepeer_transcode_time_seconds", go::labels([])).record(took_s);
    metrics::histogram!("livepeer_transcode_score", go::labels([]))
        .record(f64::from(media_ms) / 1_000.0 / took_s.max(f64::MIN_POSITIVE));
    metrics::counter!("livepeer_mil_pixels_processed", go::labels([]))
        .increment(PIXELS.add(pixels.into()));
}

/// A worker did an AI job.
pub fn ai_job_done(pipeline: &str, model: &str) {
    let by = [("pipeline", pipeline.to_owned()), ("model_name", MODELS.label(model))];
    metrics::counter!("livepeer_ai_models_requested", go::labels(by)).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_go_nodes_codes() {
        let refused = PaymentError::Ticket(TicketError::RecipientRand).into();
        assert_eq!(code(&refused), "InvalidRecipientRand");
        assert_eq!(code(&PaymentError::Ticket(TicketError::Sender).into()), "PaymentError");
        assert_eq!(code(&MoneyError::Lost), "PaymentError");
    }
}
