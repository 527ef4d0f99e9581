//! The books after the storm: what the signers signed, what orchestrators credited and debited.

use super::Tally;
use crate::fleet::Fleet;
use penstock_domain::Rational;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the books say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Payments in the signers' ledger.
    pub payments: u64,
    /// Tickets in them.
    pub tickets: u64,
    /// Their worth, exact wei.
    pub signed_ev_wei: String,
    /// The same according to the orchestrators.
    pub credited_ev_wei: String,
    /// Worth of tickets that were signed and that no orchestrator was shown.
    pub undelivered_wei: String,
    /// What orchestrators debited for work.
    pub debited_wei: String,
    /// AI jobs that orchestrators did; more than were asked for were done twice.
    pub ai_jobs_done: u64,
    /// Segments that simulated orchestrators were asked for more than once.
    pub segments_done_twice: u64,
    /// Payments that orchestrators refused because they had them: repeated after a death.
    pub repeated_payments: u64,
}

/// Compares everything; what does not agree is noted in `tally`.
pub async fn judge(fleet: &Fleet, tally: &Tally) -> Books {
    let summary: Value = fleet.rig.admin(0, "/v1/summary").await;
    let wei = |name: &str| -> Rational { summary[name].as_str().unwrap().parse().unwrap() };
    let signed = wei("ticket_ev_total_wei");
    let (mut credited, mut debited) = match &fleet.transcoder {
        Some(transcoder) => transcoder.totals().await,
        None => (Rational::ZERO, Rational::ZERO),
    };
    let mut books = Books {
        payments: summary["payments"].as_u64().unwrap_or(0),
        tickets: summary["tickets"].as_u64().unwrap_or(0),
        ..Books::default()
    };
    for orchestrator in &fleet.rig.orchestrators {
        let totals = orchestrator.totals();
        credited = &credited + &totals.credited;
        debited = &debited + &totals.debited;
        for refusal in orchestrator.refusals() {
            if refusal.contains("already seen") {
                books.repeated_payments += 1;
            } else {
                tally.violation(format!("an orchestrator refused a payment: {refusal}"));
            }
        }
        books.ai_jobs_done += orchestrator.seen.lock().unwrap().audio.len() as u64;
        let mut segments = orchestrator.seen.lock().unwrap().segments.clone();
        let asked = segments.len();
        segments.sort();
        segments.dedup();
        books.segments_done_twice += (asked - segments.len()) as u64;
    }
    if credited > signed {
        tally.violation(format!("orchestrators credited {credited}, signers signed {signed}"));
    }
    // Whatever died on the way: the tickets that were signed are with those whom they are for.
    if credited < signed {
        tally.violation(format!("tickets worth {} never arrived", &signed - &credited));
    }
    if debited > credited {
        tally.violation(format!("orchestrators debited {debited} of {credited}"));
    }
    books.undelivered_wei = (&signed - &credited).to_string();
    books.signed_ev_wei = signed.to_string();
    books.credited_ev_wei = credited.to_string();
    books.debited_wei = debited.to_string();
    books
}
