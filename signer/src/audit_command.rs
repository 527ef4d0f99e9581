//! `penstock-signer audit verify`: is the audit whole, and does it agree with the payments?
//!
//! The ledger's own reading finds gaps, edits, cut tails and missing chains. Here the heads that an
//! operator kept elsewhere are compared too, and every ticket of the audit with the stored payments,
//! both ways: a payment whose tickets nobody recorded, and a recorded ticket whose payment is gone.

use penstock_domain::{B256, StateId};
use penstock_ledger::signer::{
    AuditChain, AuditKind, AuditRecord, AuditReport, LedgerError, SignerLedger,
    audit::verify_ledger,
};
use penstock_payments::{ExpirationParams, Ticket};
use penstock_wire::{PaymentFields, header, json::LivePaymentAnswer};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use thiserror::Error;

/// Records read at a time.
const PAGE: u32 = 1_000;
/// Faults listed; one is enough to be alarmed.
const MAX_FAULTS: usize = 100;
/// A reservation younger than this may still become a payment.
const MAY_BE_OPEN_MS: i64 = 600_000;
/// Payments looked through for those without records, once it is known that there are some.
const NEWEST_PAYMENTS: u32 = 100_000;

/// The head of a chain, kept outside of the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    chain: String,
    seq: u64,
    hash: B256,
}

/// There is no head in a heads file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("holds no audit head: expected CHAIN SEQ HASH, or the signer's log lines")]
pub struct NoHeads;

/// Reads kept heads: `CHAIN SEQ HASH`, or whole log lines, text or JSON. Other lines are passed over.
pub fn parse_heads(text: &str) -> Result<Vec<Head>, NoHeads> {
    let heads: Vec<Head> = text.lines().filter_map(parse_head).collect();
    if heads.is_empty() { Err(NoHeads) } else { Ok(heads) }
}

fn parse_head(line: &str) -> Option<Head> {
    if let Ok(Value::Object(map)) = serde_json::from_str(line) {
        let fields = map.get("fields").and_then(Value::as_object).unwrap_or(&map);
        let text = |key| fields.get(key).and_then(Value::as_str);
        let seq = fields.get("seq")?;
        let seq = seq.as_u64().or_else(|| seq.as_str()?.parse().ok())?;
        return head(text("chain")?, seq, text("hash")?);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if let [chain, seq, hash] = words.as_slice() {
        return head(chain, seq.parse().ok()?, hash);
    }
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    head(value("chain=")?, value("seq=")?.parse().ok()?, value("hash=")?)
}

fn head(chain: &str, seq: u64, hash: &str) -> Option<Head> {
    let hash = penstock_domain::parse_b256(hash)?;
    Some(Head { chain: chain.to_owned(), seq, hash })
}

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
    /// What is wrong, in words.
    pub faults: Vec<String>,
}

impl Findings {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

/// Place of a payment.
type Place = (StateId, u64);

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
    let mut reading = Reading { ledger, newest: None, lost: HashMap::new(), voids: HashMap::new() };
    for chain in &until.chains {
        reading.chain(chain, now_ms, &mut findings).await?;
    }
    reading.lost(&mut findings);
    if findings.handed_out < tickets_before {
        let missing = tickets_before.saturating_sub(findings.handed_out);
        findings.fault(format!("{missing} tickets of stored payments are in no record"));
        unrecorded(ledger, &mut findings).await?;
    }
    let tickets_after = ledger.summary().await?.tickets;
    if findings.handed_out > tickets_after {
        findings.fault(format!(
            "{} tickets are recorded as handed out, {tickets_after} are in payments: some twice",
            findings.handed_out
        ));
    }
    Ok(findings)
}

struct Reading<'a> {
    ledger: &'a dyn SignerLedger,
    /// The payment looked at last: its tickets' records follow each other.
    newest: Option<(Place, Option<HashSet<B256>>)>,
    /// Tickets of payments that are not there.
    lost: HashMap<Place, Vec<Noted>>,
    voids: HashMap<Place, Vec<Noted>>,
}

/// Where and when something was recorded of some nonces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Noted {
    nonces: (u32, u32),
    chain: String,
    seq: u64,
    at_ms: i64,
}

impl Noted {
    fn new(record: &AuditRecord, nonces: (u32, u32)) -> Self {
        let AuditRecord { chain, seq, at_ms, .. } = record;
        Self { nonces, chain: chain.clone(), seq: *seq, at_ms: *at_ms }
    }

    /// Whether this void is one of that ticket: written behind it. Another process voids what is
    /// two minutes old, which is more than clocks may differ.
    fn voids(&self, ticket: &Self) -> bool {
        let (first, last) = self.nonces;
        let behind = if self.chain == ticket.chain {
            self.seq > ticket.seq
        } else {
            self.at_ms >= ticket.at_ms
        };
        behind && (first..=last).contains(&ticket.nonces.0)
    }
}

impl Reading<'_> {
    async fn chain(
        &mut self,
        chain: &AuditChain,
        now_ms: i64,
        findings: &mut Findings,
    ) -> Result<(), LedgerError> {
        let mut next = 1;
        while next <= chain.seq {
            let page = self.ledger.audit_records(&chain.name, next, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            next = last.seq.saturating_add(1);
            for record in page.iter().filter(|record| record.seq <= chain.seq) {
                self.record(record, now_ms, findings).await?;
            }
        }
        Ok(())
    }

    async fn record(
        &mut self,
        record: &AuditRecord,
        now_ms: i64,
        findings: &mut Findings,
    ) -> Result<(), LedgerError> {
        let kind = record.entry.kind;
        if !matches!(kind, AuditKind::Ticket | AuditKind::Void) {
            return Ok(());
        }
        if kind == AuditKind::Void && record.entry.digest != B256::ZERO {
            // Of one signature outside of payments, that the key did not make.
            return Ok(());
        }
        let Some((place, nonces)) = parse_reference(&record.entry.reference) else {
            let AuditRecord { chain, seq, .. } = record;
            findings.fault(format!("chain {chain}: record {seq} is of no payment"));
            return Ok(());
        };
        if kind == AuditKind::Void {
            self.voids.entry(place).or_default().push(Noted::new(record, nonces));
            return Ok(());
        }
        match self.payment(&place).await? {
            Some(digests) if digests.contains(&record.entry.digest) => {
                findings.handed_out = findings.handed_out.saturating_add(1);
            }
            Some(_) => findings.withheld = findings.withheld.saturating_add(1),
            None if record.at_ms > now_ms.saturating_sub(MAY_BE_OPEN_MS) => {
                findings.withheld = findings.withheld.saturating_add(1);
            }
            None => self.lost.entry(place).or_default().push(Noted::new(record, nonces)),
        }
        Ok(())
    }

    /// The digests of a payment's tickets; `None` if there is no such payment.
    async fn payment(&mut self, place: &Place) -> Result<Option<&HashSet<B256>>, LedgerError> {
        if self.newest.as_ref().is_none_or(|(known, _)| known != place) {
            let stored = self.ledger.payment(&place.0, place.1).await?;
            let digests = stored.map(|p| digests(&p.answer).unwrap_or_default());
            self.newest = Some((place.clone(), digests));
        }
        Ok(self.newest.as_ref().and_then(|(_, digests)| digests.as_ref()))
    }

    /// Tickets without a payment are explained by a void record, or not at all.
    fn lost(&mut self, findings: &mut Findings) {
        let mut lost: Vec<(Place, Vec<Noted>)> = self.lost.drain().collect();
        lost.sort();
        for ((state_id, sequence), tickets) in lost {
            let voids = self.voids.get(&(state_id.clone(), sequence));
            for ticket in tickets {
                let nonce = ticket.nonces.0;
                if voids.is_some_and(|voids| voids.iter().any(|void| void.voids(&ticket))) {
                    findings.withheld = findings.withheld.saturating_add(1);
                } else {
                    findings.fault(format!(
                        "ticket {state_id}/{sequence}/{nonce} is recorded, and its payment is not in the books"
                    ));
                }
            }
        }
    }
}

/// Which payments are not in the audit.
async fn unrecorded(ledger: &dyn SignerLedger, findings: &mut Findings) -> Result<(), LedgerError> {
    let mut recorded: HashSet<B256> = HashSet::new();
    // In this order: the records of each of these payments are before the heads.
    let payments = ledger.payments(NEWEST_PAYMENTS).await?;
    for chain in ledger.audit_chains().await? {
        let mut next = 1;
        while next <= chain.seq {
            let page = ledger.audit_records(&chain.name, next, PAGE).await?;
            let Some(last) = page.last() else { break };
            next = last.seq.saturating_add(1);
            recorded.extend(page.iter().map(|record| record.entry.digest));
        }
    }
    for row in payments {
        let Some(stored) = ledger.payment(&row.state_id, row.sequence).await? else { continue };
        let whole = digests(&stored.answer).is_some_and(|d| d.iter().all(|d| recorded.contains(d)));
        if !whole {
            findings.fault(format!("payment {}/{} is in no record", row.state_id, row.sequence));
        }
    }
    Ok(())
}

/// `STATE/SEQUENCE/NONCE` or `STATE/SEQUENCE/FIRST-LAST`.
fn parse_reference(text: &str) -> Option<(Place, (u32, u32))> {
    let mut parts = text.splitn(3, '/');
    let state_id = StateId::new(parts.next()?).ok()?;
    let sequence = parts.next()?.parse().ok()?;
    let nonces = parts.next()?;
    let (first, last) = nonces.split_once('-').unwrap_or((nonces, nonces));
    Some(((state_id, sequence), (first.parse().ok()?, last.parse().ok()?)))
}

/// What was signed in an answer.
fn digests(answer: &[u8]) -> Option<HashSet<B256>> {
    let answer = LivePaymentAnswer::parse(answer).ok()?;
    let message = header::decode_payment(&answer.payment).ok()?;
    let payment = PaymentFields::try_from(&message).ok()?;
    let (sender, params) = (payment.sender?, payment.ticket_params?);
    let expiration_params = ExpirationParams {
        creation_round: payment.expiration_params.creation_round,
        creation_round_block_hash: payment.expiration_params.creation_round_block_hash,
    };
    let ticket = |sender_nonce| Ticket {
        recipient: params.recipient,
        sender,
        face_value: params.face_value,
        win_prob: params.win_prob,
        sender_nonce,
        recipient_rand_hash: params.recipient_rand_hash,
        expiration_params,
    };
    Some(payment.tickets.iter().map(|t| ticket(t.sender_nonce).digest()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_from_what_operators_keep() {
        let hash = format!("0x{}", "5a".repeat(32));
        let lines = [
            format!("signer-1-ab 7 {hash}"),
            format!("2026-11-21T08:22:06Z  INFO audit head chain=signer-1-ab seq=7 hash={hash}"),
            format!(
                r#"{{"level":"INFO","fields":{{"message":"audit head","chain":"signer-1-ab","seq":7,"hash":"{hash}"}}}}"#
            ),
            format!(r#"{{"chain":"signer-1-ab","seq":"7","hash":"{hash}"}}"#),
        ];
        for line in lines {
            let text = format!("something else\n{line}\n");
            let head = Head { chain: "signer-1-ab".into(), seq: 7, hash: B256::repeat_byte(0x5a) };
            assert_eq!(parse_heads(&text), Ok(vec![head]), "{line}");
        }
        for bad in ["", "x", "a 7", "a b c", "chain=a seq=7 hash=0x00", "{}"] {
            assert_eq!(parse_heads(bad), Err(NoHeads), "{bad}");
        }
    }

    #[test]
    fn a_void_counts_behind_its_tickets_only() {
        let noted = |nonces, chain: &str, seq, at_ms| {
            let chain = chain.to_owned();
            Noted { nonces, chain, seq, at_ms }
        };
        let ticket = noted((7, 7), "a", 10, 1_000);
        for (void, counts) in [
            (noted((5, 9), "a", 11, 1_000), true),
            (noted((5, 9), "a", 9, 2_000), false),
            (noted((8, 9), "a", 11, 1_000), false),
            (noted((7, 7), "b", 1, 1_000), true),
            (noted((7, 7), "b", 99, 999), false),
        ] {
            assert_eq!(void.voids(&ticket), counts, "{void:?}");
        }
    }

    #[test]
    fn references_name_a_place() {
        let place = |text: &str| parse_reference(text).map(|((s, n), r)| (s.to_string(), n, r));
        assert_eq!(place("a1b2c3d4/7/9"), Some(("a1b2c3d4".to_owned(), 7, (9, 9))));
        assert_eq!(place("a1b2c3d4/0/9-12"), Some(("a1b2c3d4".to_owned(), 0, (9, 12))));
        for bad in ["", "a1b2c3d4", "a1b2c3d4/x/1", "a1b2c3d4/1", "a1b2c3d4/1/-", "a1b2c3d4/1/1-"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
