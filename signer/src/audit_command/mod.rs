//! `penstock-signer audit verify`: is the audit whole, and does it agree with the payments and with
//! what was charged for them?
//!
//! The ledger's own reading finds gaps, edits, cut tails and missing chains. Here the heads that an
//! operator kept elsewhere are compared too, and every ticket of the audit with the stored payments,
//! both ways: a payment whose tickets nobody recorded, and a recorded ticket whose payment is gone.
//! Everything is read a page at a time.

mod charges;
mod heads;
mod pruning;
mod tickets;

pub use heads::{Head, NoHeads, parse_heads};
pub use pruning::announcement;
pub use tickets::digests;

use penstock_ledger::signer::{
    AuditChain, AuditReport, LedgerError, SignerLedger, audit::verify_ledger,
};

/// Rows read at a time.
const PAGE: u32 = 1_000;
/// Faults listed; one is enough to be alarmed.
const MAX_FAULTS: usize = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// The chains themselves.
    pub audit: AuditReport,
    /// Recorded tickets that a stored payment holds.
    pub handed_out: u64,
    /// Recorded tickets that nobody was given: the signing failed, took too long, or another
    /// process was faster.
    pub withheld: u64,
    /// Tickets of reservations whose time is over and which nobody has ended: the next replica that
    /// runs does.
    pub waiting: u64,
    /// Tickets of payments that were pruned: there are so many records, and more is not known.
    pub pruned: u64,
    /// Recorded tickets without a payment from before the oldest payment that must be there: those
    /// that were pruned and those that nobody was given.
    old: u64,
    /// Counters that were added up again.
    pub counters: u64,
    /// Counters that moved meanwhile and were not compared.
    pub counters_in_use: u64,
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

impl Findings {
    fn fault(&mut self, fault: String) {
        if self.has_room() {
            self.faults.push(fault);
        }
    }

    fn has_room(&self) -> bool {
        self.faults.len() < MAX_FAULTS
    }
}

/// Where a reading ends: a ledger in use grows while it is read.
#[derive(Debug)]
pub struct Until {
    tickets: u64,
    chains: Vec<AuditChain>,
}

impl Until {
    /// As the books are now.
    pub async fn now(ledger: &dyn SignerLedger) -> Result<Self, LedgerError> {
        // In this order: every ticket counted has its record before the heads.
        let tickets = ledger.summary().await?.tickets;
        Ok(Self { tickets, chains: ledger.audit_chains().await? })
    }
}

/// Reads everything that is there now. The ledger may be in use.
pub async fn verify(
    ledger: &dyn SignerLedger,
    heads: &[Head],
    now_ms: i64,
) -> Result<Findings, LedgerError> {
    verify_until(ledger, &Until::now(ledger).await?, heads, now_ms).await
}

/// Reads everything up to these heads.
pub async fn verify_until(
    ledger: &dyn SignerLedger,
    until: &Until,
    heads: &[Head],
    now_ms: i64,
) -> Result<Findings, LedgerError> {
    let tickets_before = until.tickets;
    // Payments may be pruned while this reads: so many are for certain, later perhaps some more.
    let pruned_before = ledger.pruned().await?.tickets;
    let mut findings = Findings { audit: verify_ledger(ledger).await?, ..Findings::default() };
    for fault in findings.audit.faults.clone() {
        findings.fault(fault.to_string());
    }
    if until.chains.is_empty() {
        let fault = "there is no chain, so nothing was ever signed here: is this the right ledger?";
        findings.fault(fault.to_owned());
    }
    for head in heads {
        let Head { chain, seq, hash } = head;
        let found = ledger.audit_records(chain, *seq, 1).await?;
        match found.first().filter(|record| record.seq == *seq) {
            None => {
                findings.fault(format!("chain {chain}: record {seq} of the kept head is missing"))
            }
            Some(record) if record.hash != *hash => {
                findings
                    .fault(format!("chain {chain}: record {seq} is not the one of the kept head"));
            }
            Some(_) => {}
        }
    }
    tickets::read(ledger, &until.chains, now_ms, &mut findings).await?;
    let pruned = ledger.pruned().await?.tickets;
    findings.pruned = pruned.min(findings.old);
    findings.withheld = findings.withheld.saturating_add(findings.old.saturating_sub(pruned));
    if findings.old < pruned_before {
        let missing = pruned_before.saturating_sub(findings.old);
        findings.fault(format!("{missing} tickets of pruned payments are in no record"));
    }
    let found = findings.handed_out.saturating_add(findings.pruned);
    if found < tickets_before {
        let missing = tickets_before.saturating_sub(found);
        findings.fault(format!("{missing} tickets of stored payments are in no record"));
        tickets::unrecorded(ledger, &mut findings).await?;
    }
    let tickets_after = ledger.summary().await?.tickets;
    let found = findings.handed_out.saturating_add(pruned_before);
    if found > tickets_after {
        findings.fault(format!(
            "{found} tickets are recorded as handed out, {tickets_after} are in payments: some twice"
        ));
    }
    charges::compare(ledger, &mut findings).await?;
    Ok(findings)
}
