//! The books after the storm. What clients hold is compared with the ledger, with what the
//! orchestrators credited, with the audit and with the events that arrived.

use super::{Held, Settings};
use crate::rig::Rig;
use penstock_domain::{B256, Rational};
use penstock_ledger::signer::{self, AuditKind, SignerLedger, UsageQuery, audit::verify_ledger};
use penstock_testkit::until_ok;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

/// Audit records read at a time.
const PAGE: u32 = 1_000;

/// What the books say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Payments that clients hold.
    pub payments: u64,
    /// Tickets in them.
    pub tickets: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Their worth, exact wei.
    pub ev_wei: String,
    /// The same according to the ledger.
    pub ledger_ev_wei: String,
    /// The same according to the orchestrators.
    pub credited_ev_wei: String,
    /// Payments in the ledger.
    pub ledger_payments: u64,
    /// Nonces that two payments have in common.
    pub duplicate_nonces: u64,
    /// Requests repeated because there was no answer.
    pub retries: u64,
    /// Answered requests repeated on purpose, all answered with the same bytes.
    pub repeats: u64,
    /// Requests sent to two replicas at one moment.
    pub twins: u64,
    /// Answers 480.
    pub refreshes: u64,
    /// Tickets that the audit says were allowed to be signed.
    pub audit_tickets: u64,
    /// Of them: of attempts that died, lost a race or expired, so that nobody was given them.
    pub audit_tickets_of_no_payment: u64,
    /// Chains of the audit, all whole.
    pub audit_chains: u64,
    /// Events that arrived, each counted once.
    pub events: u64,
    /// Deliveries, repetitions included.
    pub event_deliveries: u64,
}

/// Compares everything; what does not agree is noted in `held`.
pub async fn judge(rig: &Rig, held: &Held, settings: &Settings) -> Counts {
    let ledger = signer::open(&rig.ledger, "verdict").await.expect("the ledger opens");
    let mut counts = Counts {
        payments: held.payments(),
        tickets: held.tickets(),
        sessions: held.sessions.load(Ordering::SeqCst),
        ev_wei: held.ev().to_string(),
        retries: held.retries.load(Ordering::SeqCst),
        repeats: held.repeats.load(Ordering::SeqCst),
        twins: held.twins.load(Ordering::SeqCst),
        refreshes: held.refreshes.load(Ordering::SeqCst),
        ..Counts::default()
    };
    payments(ledger.as_ref(), held, &mut counts).await;
    orchestrators(rig, held, &mut counts);
    audit(ledger.as_ref(), held, &mut counts).await;
    if settings.events {
        events(rig, ledger.as_ref(), held, &mut counts).await;
    }
    ledger.close().await;
    counts
}

fn equal<T: PartialEq + std::fmt::Display>(held: &Held, what: &str, one: &T, other: &T) {
    if one != other {
        held.violation(format!("{what}: {one} and {other}"));
    }
}

/// Every payment that a client holds is stored, once, and nothing else is: no client gave up.
async fn payments(ledger: &dyn SignerLedger, held: &Held, counts: &mut Counts) {
    let rows = ledger.payments(u32::MAX).await.expect("payments are listed");
    let mut stored = HashSet::new();
    let mut nonces: HashMap<B256, HashSet<u32>> = HashMap::new();
    for row in &rows {
        stored.insert((row.recipient_rand_hash, row.first_nonce, row.last_nonce));
        let of_hash = nonces.entry(row.recipient_rand_hash).or_default();
        for nonce in row.first_nonce..=row.last_nonce {
            if !of_hash.insert(nonce) {
                counts.duplicate_nonces += 1;
            }
        }
    }
    equal(held, "nonces stored twice", &counts.duplicate_nonces, &0);
    counts.ledger_payments = rows.len() as u64;
    let held_payments = held.nonces();
    let lost = held_payments.difference(&stored).count();
    let unknown = stored.difference(&held_payments).count();
    equal(held, "payments that a client holds and the ledger does not", &lost, &0);
    equal(held, "payments in the ledger that no client was given", &unknown, &0);

    let summary = ledger.summary().await.expect("a summary");
    counts.ledger_ev_wei = summary.ticket_ev_total_wei.to_string();
    equal(held, "worth at the clients and in the ledger", &held.ev(), &summary.ticket_ev_total_wei);
    equal(held, "tickets at the clients and in the ledger", &held.tickets(), &summary.tickets);
    equal(held, "payments summed and listed", &summary.payments, &counts.ledger_payments);

    // Charges are whole wei of each payment, rounded up.
    let all = UsageQuery { from_ms: 0, to_ms: i64::MAX, account: None };
    let usage = ledger.usage_at_once(all).await.expect("usage");
    let charged = usage.iter().fold(Rational::ZERO, |sum, u| &sum + &Rational::from(u.charged_wei));
    let owed = rows.iter().fold(Rational::ZERO, |sum, row| {
        let worth = &row.ticket_ev_wei * &Rational::from(u64::from(row.num_tickets));
        let whole = worth.ceil_u256().expect("not negative");
        &sum + &Rational::from(penstock_domain::Wei(whole))
    });
    equal(held, "wei charged and owed", &charged, &owed);
}

/// Orchestrators credited every ticket and refused none.
fn orchestrators(rig: &Rig, held: &Held, counts: &mut Counts) {
    let mut credited = Rational::ZERO;
    for orchestrator in &rig.orchestrators {
        credited = &credited + &orchestrator.totals().credited;
        for refusal in orchestrator.refusals() {
            held.violation(format!("an orchestrator refused: {refusal}"));
        }
    }
    counts.credited_ev_wei = credited.to_string();
    equal(held, "worth at the clients and at the orchestrators", &held.ev(), &credited);
}

/// Every ticket in a client's hands was recorded before it was signed, once.
async fn audit(ledger: &dyn SignerLedger, held: &Held, counts: &mut Counts) {
    let report = verify_ledger(ledger).await.expect("the audit is read");
    for fault in &report.faults {
        held.violation(format!("audit: {fault}"));
    }
    let mut recorded = HashSet::new();
    for chain in ledger.audit_chains().await.expect("chains are listed") {
        counts.audit_chains += 1;
        let mut from = 0;
        loop {
            let records =
                ledger.audit_records(&chain.name, from, PAGE).await.expect("records are read");
            let Some(last) = records.last() else { break };
            from = last.seq + 1;
            for record in records.iter().filter(|record| record.entry.kind == AuditKind::Ticket) {
                counts.audit_tickets += 1;
                if !recorded.insert(record.entry.digest) {
                    held.violation(format!("audit: ticket {} twice", record.entry.digest));
                }
            }
        }
    }
    let digests = held.digests();
    let unrecorded = digests.difference(&recorded).count();
    equal(held, "tickets that no audit record stands for", &unrecorded, &0);
    counts.audit_tickets_of_no_payment = recorded.difference(&digests).count() as u64;
}

/// Every payment's event arrived, in the order of its session.
async fn events(rig: &Rig, ledger: &dyn SignerLedger, held: &Held, counts: &mut Counts) {
    until_ok("every event is delivered", || async {
        let backlog = ledger.backlog().await.map_err(|error| error.to_string())?;
        if backlog.events == 0 { Ok(()) } else { Err(format!("{} wait", backlog.events)) }
    })
    .await;
    counts.events = rig.sink.count() as u64;
    counts.event_deliveries = rig.sink.deliveries();
    equal(held, "events and payments", &counts.events, &held.payments());
    equal(held, "events that were none", &rig.sink.malformed(), &0);
    let mut tickets = 0;
    for event in rig.sink.events() {
        tickets += event["data"]["num_tickets"].as_u64().unwrap_or(0);
    }
    equal(held, "tickets in events", &tickets, &held.tickets());
    for (session, numbers) in rig.sink.sequences() {
        let wanted: Vec<u64> = (0..numbers.len() as u64).collect();
        if numbers != wanted {
            held.violation(format!("events of {session} out of order: {numbers:?}"));
        }
    }
}
