//! Every recorded ticket against the stored payments, a page of records at a time: handed out,
//! withheld, waiting in an open reservation, or lost.
//!
//! Payments that were pruned are gone as rows: of their tickets only the number is compared.
//!
//! What is kept meanwhile is bounded: tickets whose payment is not there are explained by `void`
//! records in further readings, so many at a time.

use super::{Findings, PAGE, pruning::Mark};
use penstock_domain::{B256, StateId};
use penstock_ledger::signer::{
    AuditChain, AuditKind, AuditRecord, LedgerError, SignerLedger, digests_left,
};
use penstock_payments::{ExpirationParams, Ticket};
use penstock_wire::{PaymentFields, header, json::LivePaymentAnswer};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A reservation younger than this may still become a payment.
const MAY_BE_OPEN_MS: i64 = 600_000;
/// Tickets without a payment that are explained in one further reading.
const MOST_LOST: usize = 100_000;
/// Digests that are looked for in one reading.
const MOST_DIGESTS: usize = 500_000;

/// Place of a payment.
type Place = (StateId, u64);

/// Records of a chain up to this number of it, page by page.
struct Pages<'a> {
    ledger: &'a dyn SignerLedger,
    chain: &'a AuditChain,
    next: u64,
}

impl<'a> Pages<'a> {
    fn new(ledger: &'a dyn SignerLedger, chain: &'a AuditChain) -> Self {
        Self { ledger, chain, next: 1 }
    }

    async fn next(&mut self) -> Result<Option<Vec<AuditRecord>>, LedgerError> {
        if self.next > self.chain.seq {
            return Ok(None);
        }
        let mut page = self.ledger.audit_records(&self.chain.name, self.next, PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.next = last.seq.saturating_add(1);
        page.retain(|record| record.seq <= self.chain.seq);
        Ok(Some(page))
    }
}

/// Reads the tickets of these chains.
pub(super) async fn read(
    ledger: &dyn SignerLedger,
    chains: &[AuditChain],
    now_ms: i64,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    // After the heads: what was ended before this is voided before the heads that `explain` reads.
    let open = open_reservations(ledger).await?;
    let pruned = Mark::now(ledger).await?;
    let (lost, lost_tickets) = (BTreeMap::new(), 0);
    let mut reading = Reading { ledger, open, now_ms, pruned, lost, lost_tickets };
    for chain in chains {
        let mut pages = Pages::new(ledger, chain);
        while let Some(page) = pages.next().await? {
            reading.page(&page, findings).await?;
            if reading.lost_tickets >= MOST_LOST {
                reading.explain(findings).await?;
            }
        }
    }
    reading.explain(findings).await?;
    if let Some(fault) = reading.pruned.fault() {
        findings.fault(fault);
    }
    Ok(())
}

/// Nonces of open reservations by place.
async fn open_reservations(
    ledger: &dyn SignerLedger,
) -> Result<HashMap<Place, Vec<(u32, u32)>>, LedgerError> {
    let mut open: HashMap<Place, Vec<(u32, u32)>> = HashMap::new();
    let mut after = None;
    loop {
        let page = ledger.open_reservations(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(open) };
        after = Some(last.id);
        for held in page {
            let nonces = (held.nonces.first, held.nonces.last);
            open.entry((held.state_id, held.sequence)).or_default().push(nonces);
        }
    }
}

struct Reading<'a> {
    ledger: &'a dyn SignerLedger,
    open: HashMap<Place, Vec<(u32, u32)>>,
    now_ms: i64,
    /// Payments made before this may be gone.
    pruned: Mark,
    /// Tickets of payments that are not there.
    lost: BTreeMap<Place, Vec<Noted>>,
    lost_tickets: usize,
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
    async fn page(
        &mut self,
        page: &[AuditRecord],
        findings: &mut Findings,
    ) -> Result<(), LedgerError> {
        let mut tickets = Vec::new();
        for record in page.iter().filter(|record| record.entry.kind == AuditKind::Ticket) {
            match parse_reference(&record.entry.reference) {
                Some((place, nonces)) => tickets.push((record, place, nonces)),
                None => {
                    let AuditRecord { chain, seq, .. } = record;
                    findings.fault(format!("chain {chain}: record {seq} is of no payment"));
                }
            }
        }
        let places: BTreeSet<&Place> = tickets.iter().map(|(_, place, _)| place).collect();
        let places: Vec<Place> = places.into_iter().cloned().collect();
        if places.is_empty() {
            return Ok(());
        }
        let stored = self.ledger.payments_at(&places).await?;
        let stored: HashMap<Place, HashSet<B256>> =
            stored.into_iter().map(|p| ((p.state_id, p.sequence), signed_in(&p.answer))).collect();
        for (record, place, nonces) in tickets {
            match stored.get(&place) {
                Some(digests) if digests.contains(&record.entry.digest) => {
                    findings.handed_out = findings.handed_out.saturating_add(1);
                }
                // Ids of sessions that are gone are drawn again: it may be a ticket of the one before.
                Some(_) if record.at_ms < self.pruned.before_ms => {
                    findings.old = findings.old.saturating_add(1);
                }
                Some(_) => findings.withheld = findings.withheld.saturating_add(1),
                None => self.without_payment(record, place, nonces, findings),
            }
        }
        Ok(())
    }

    fn without_payment(
        &mut self,
        record: &AuditRecord,
        place: Place,
        nonces: (u32, u32),
        findings: &mut Findings,
    ) {
        let within = |(first, last): &(u32, u32)| (*first..=*last).contains(&nonces.0);
        if record.at_ms > self.now_ms.saturating_sub(MAY_BE_OPEN_MS) {
            findings.withheld = findings.withheld.saturating_add(1);
        } else if self.open.get(&place).is_some_and(|open| open.iter().any(within)) {
            findings.waiting = findings.waiting.saturating_add(1);
        } else if record.at_ms < self.pruned.before_ms {
            findings.old = findings.old.saturating_add(1);
        } else {
            self.lost.entry(place).or_default().push(Noted::new(record, nonces));
            self.lost_tickets = self.lost_tickets.saturating_add(1);
        }
    }

    /// Tickets without a payment are explained by a void record, or not at all.
    async fn explain(&mut self, findings: &mut Findings) -> Result<(), LedgerError> {
        // What was pruned while this reads is no loss.
        self.pruned.again(self.ledger).await?;
        let before_ms = self.pruned.before_ms;
        self.lost.retain(|_, tickets| {
            let all = tickets.len();
            tickets.retain(|ticket| ticket.at_ms >= before_ms);
            let old = u64::try_from(all.saturating_sub(tickets.len())).unwrap_or(u64::MAX);
            findings.old = findings.old.saturating_add(old);
            !tickets.is_empty()
        });
        self.lost_tickets = self.lost.values().map(Vec::len).sum();
        if self.lost.is_empty() {
            return Ok(());
        }
        for chain in self.ledger.audit_chains().await? {
            let mut pages = Pages::new(self.ledger, &chain);
            while let Some(page) = pages.next().await? {
                page.iter().for_each(|record| self.void(record, findings));
            }
        }
        self.lost_tickets = 0;
        for ((state_id, sequence), tickets) in std::mem::take(&mut self.lost) {
            for ticket in tickets {
                let nonce = ticket.nonces.0;
                findings.fault(format!(
                    "ticket {state_id}/{sequence}/{nonce} is recorded, and its payment is not in the books"
                ));
            }
        }
        Ok(())
    }

    fn void(&mut self, record: &AuditRecord, findings: &mut Findings) {
        // With a digest it is of one signature outside of payments, that the key did not make.
        if record.entry.kind != AuditKind::Void || record.entry.digest != B256::ZERO {
            return;
        }
        let Some((place, nonces)) = parse_reference(&record.entry.reference) else { return };
        let Some(tickets) = self.lost.get_mut(&place) else { return };
        let (void, before) = (Noted::new(record, nonces), tickets.len());
        tickets.retain(|ticket| !void.voids(ticket));
        let explained = before.saturating_sub(tickets.len());
        let explained = u64::try_from(explained).unwrap_or(u64::MAX);
        findings.withheld = findings.withheld.saturating_add(explained);
    }
}

/// Which payments have tickets that are in no record, newest payments last. Reads the whole audit
/// once for some hundred thousand tickets.
pub(super) async fn unrecorded(
    ledger: &dyn SignerLedger,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    // In this order: the records of each of these payments are before the heads.
    let newest = ledger.payments(1).await?;
    let chains = ledger.audit_chains().await?;
    let Some(newest) = newest.first() else { return Ok(()) };
    let newest = (newest.state_id.clone(), newest.sequence);
    let mut after = 0;
    let mut wanted: HashMap<B256, Place> = HashMap::new();
    let mut more = true;
    while more && findings.has_room() {
        let page = ledger.stored_after(after, PAGE).await?;
        more = page.last().is_some_and(|(n, p)| {
            after = *n;
            (&p.state_id, p.sequence) != (&newest.0, newest.1)
        });
        for (_, payment) in page {
            let place = (payment.state_id, payment.sequence);
            let digests = signed_in(&payment.answer);
            wanted.extend(digests.into_iter().map(|digest| (digest, place.clone())));
        }
        if wanted.len() >= MOST_DIGESTS || !more {
            look_for(ledger, &chains, std::mem::take(&mut wanted), findings).await?;
        }
    }
    Ok(())
}

async fn look_for(
    ledger: &dyn SignerLedger,
    chains: &[AuditChain],
    mut wanted: HashMap<B256, Place>,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    for chain in chains {
        let mut pages = Pages::new(ledger, chain);
        while let Some(page) = pages.next().await? {
            for record in page {
                wanted.remove(&record.entry.digest);
            }
        }
    }
    let places: BTreeSet<Place> = wanted.into_values().collect();
    for (state_id, sequence) in places {
        findings.fault(format!("payment {state_id}/{sequence} is in no record"));
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

/// What was signed in an answer, whole or shrunk.
fn signed_in(answer: &[u8]) -> HashSet<B256> {
    digests_left(answer).or_else(|| digests(answer)).unwrap_or_default().into_iter().collect()
}

/// What was signed in a whole answer.
pub fn digests(answer: &[u8]) -> Option<Vec<B256>> {
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
