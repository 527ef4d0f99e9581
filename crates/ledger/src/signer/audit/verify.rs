//! Reading the audit back: is every chain whole, and is every chain that another one saw still
//! there?
//!
//! What this cannot see: somebody who can write to the database, knows this code, and rewrites a
//! chain to its end together with its head and every later anchor of it. Heads are therefore also
//! logged whenever they are anchored; compare with the logs.

use super::{AuditChain, AuditKind, AuditRecord, GENESIS, record_hash};
use crate::signer::{LedgerError, SignerLedger};
use core::fmt;
use penstock_domain::B256;
use std::collections::BTreeMap;
use thiserror::Error;

/// Records read at a time.
const PAGE: u32 = 1_000;
/// Faults reported at most; one is enough to be alarmed.
const MAX_FAULTS: usize = 100;

/// What is wrong with the audit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuditFault {
    /// Records are missing in the middle, or are out of order.
    #[error("chain {chain}: record {expected} is missing (found {found})")]
    Gap {
        /// Which chain.
        chain: String,
        /// The number that should have come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// A record does not have the hash that its content gives.
    #[error("chain {chain}: record {seq} was edited, or one before it")]
    Edited {
        /// Which chain.
        chain: String,
        /// Which record.
        seq: u64,
    },
    /// The records end before the head that is kept beside them.
    #[error("chain {chain}: records after {last} are missing, the head is {head}")]
    Truncated {
        /// Which chain.
        chain: String,
        /// The last record there is.
        last: u64,
        /// The head's number.
        head: u64,
    },
    /// The newest record is not the head.
    #[error("chain {chain}: record {seq} is not the kept head")]
    HeadMismatch {
        /// Which chain.
        chain: String,
        /// Number of both.
        seq: u64,
    },
    /// Another chain saw this one, and it is gone.
    #[error("chain {chain} is missing; {seen_in} saw it at record {seq}")]
    MissingChain {
        /// Which chain.
        chain: String,
        /// The number that was seen.
        seq: u64,
        /// By whom.
        seen_in: String,
    },
    /// Another chain saw this one with other content, or longer.
    #[error("chain {chain}: record {seq} is not what {seen_in} saw")]
    AnchorMismatch {
        /// Which chain.
        chain: String,
        /// The number that was seen.
        seq: u64,
        /// By whom.
        seen_in: String,
    },
    /// A chain that was ended goes on.
    #[error("chain {chain}: record {seq} follows the one that ends the chain")]
    AfterClose {
        /// Which chain.
        chain: String,
        /// Which record.
        seq: u64,
    },
    /// An anchor that says nothing readable.
    #[error("chain {chain}: record {seq} is an anchor of nothing")]
    BadAnchor {
        /// Which chain.
        chain: String,
        /// Which record.
        seq: u64,
    },
}

/// The head of another chain, as an `anchor` record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The other chain.
    pub chain: String,
    /// Its newest record then.
    pub seq: u64,
    /// That record's hash.
    pub hash: B256,
    /// The chain that has the anchor.
    pub seen_in: String,
}

/// `NAME/SEQ`: the reference of an `anchor` record.
pub(in crate::signer) struct AnchorReference<'a> {
    pub chain: &'a str,
    pub seq: u64,
}

impl fmt::Display for AnchorReference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.chain, self.seq)
    }
}

/// Chain and number out of such a reference.
pub(super) fn read_anchor(reference: &str) -> Option<(&str, u64)> {
    let (chain, seq) = reference.rsplit_once('/')?;
    Some((chain, seq.parse().ok()?))
}

fn anchor_of(record: &AuditRecord) -> Option<Anchor> {
    let (chain, seq) = read_anchor(&record.entry.reference)?;
    let (chain, seen_in) = (chain.to_owned(), record.chain.clone());
    Some(Anchor { chain, seq, hash: record.entry.digest, seen_in })
}

/// Checks one chain, record after record.
#[derive(Debug)]
pub struct ChainVerifier<'a> {
    chain: &'a AuditChain,
    seq: u64,
    hash: B256,
    closed: bool,
    anchors: Vec<Anchor>,
}

impl<'a> ChainVerifier<'a> {
    /// Starts before the first record.
    pub fn new(chain: &'a AuditChain) -> Self {
        Self { chain, seq: 0, hash: GENESIS, closed: false, anchors: Vec::new() }
    }

    /// The next record.
    pub fn push(&mut self, record: &AuditRecord) -> Result<(), AuditFault> {
        let chain = || self.chain.name.clone();
        let expected = self.seq.saturating_add(1);
        if record.chain != self.chain.name || record.seq != expected {
            return Err(AuditFault::Gap { chain: chain(), expected, found: record.seq });
        }
        let name = &self.chain.name;
        let hash = record_hash(&self.hash, name, record.seq, record.at_ms, &record.entry);
        if hash != record.hash {
            return Err(AuditFault::Edited { chain: chain(), seq: record.seq });
        }
        if self.closed {
            return Err(AuditFault::AfterClose { chain: chain(), seq: record.seq });
        }
        self.closed = record.entry.kind == AuditKind::Close;
        if record.entry.kind == AuditKind::Anchor {
            let bad = AuditFault::BadAnchor { chain: chain(), seq: record.seq };
            self.anchors.push(anchor_of(record).ok_or(bad)?);
        }
        (self.seq, self.hash) = (record.seq, hash);
        Ok(())
    }

    /// After the last record: is it the head? Returns the heads that this chain saw of others.
    pub fn finish(self) -> Result<Vec<Anchor>, AuditFault> {
        let chain = self.chain.name.clone();
        if self.seq < self.chain.seq {
            return Err(AuditFault::Truncated { chain, last: self.seq, head: self.chain.seq });
        }
        if self.seq > self.chain.seq || self.hash != self.chain.hash {
            return Err(AuditFault::HeadMismatch { chain, seq: self.seq });
        }
        Ok(self.anchors)
    }
}

/// Whether `records` are the whole of `chain`: none missing, none edited, none cut off. Returns the
/// heads of other chains that it saw.
pub fn verify_chain(
    chain: &AuditChain,
    records: &[AuditRecord],
) -> Result<Vec<Anchor>, AuditFault> {
    let mut verifier = ChainVerifier::new(chain);
    records.iter().try_for_each(|record| verifier.push(record))?;
    verifier.finish()
}

/// What a reading of the whole audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Chains read.
    pub chains: u64,
    /// Records read.
    pub records: u64,
    /// Records that stand for a signature.
    pub signatures: u64,
    /// Reservations that were voided.
    pub voids: u64,
    /// What is wrong; at most the first hundred.
    pub faults: Vec<AuditFault>,
}

impl AuditReport {
    fn fault(&mut self, fault: AuditFault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}

/// Reads every chain up to the head that it has now, and checks every anchor. Memory is bounded by
/// the number of chains and anchors, not of records; a ledger in use may be verified.
pub async fn verify_ledger(ledger: &dyn SignerLedger) -> Result<AuditReport, LedgerError> {
    let mut report = AuditReport::default();
    // The newest anchor of a chain covers the older ones of the same chain in the same place.
    let mut seen: BTreeMap<(String, String), Anchor> = BTreeMap::new();
    let chains = ledger.audit_chains().await?;
    for chain in &chains {
        report.chains = report.chains.saturating_add(1);
        match read_chain(ledger, chain, &mut report).await? {
            Ok(anchors) => {
                for anchor in anchors {
                    seen.insert((anchor.chain.clone(), anchor.seen_in.clone()), anchor);
                }
            }
            Err(fault) => report.fault(fault),
        }
    }
    for anchor in seen.into_values() {
        let Anchor { chain, seq, hash, seen_in } = anchor;
        // A chain that began after the list was read cannot be missing from it: it would have been
        // anchored by a record that was not read either.
        if !chains.iter().any(|known| known.name == chain) {
            report.fault(AuditFault::MissingChain { chain, seq, seen_in });
            continue;
        }
        let found = ledger.audit_records(&chain, seq, 1).await?;
        if found.first().is_none_or(|record| record.seq != seq || record.hash != hash) {
            report.fault(AuditFault::AnchorMismatch { chain, seq, seen_in });
        }
    }
    Ok(report)
}

async fn read_chain(
    ledger: &dyn SignerLedger,
    chain: &AuditChain,
    report: &mut AuditReport,
) -> Result<Result<Vec<Anchor>, AuditFault>, LedgerError> {
    let mut verifier = ChainVerifier::new(chain);
    let mut next = 1;
    // Records beyond the head that was read first are newer than this reading.
    while next <= chain.seq {
        let page = ledger.audit_records(&chain.name, next, PAGE).await?;
        let mut last = None;
        for record in page.iter().filter(|record| record.seq <= chain.seq) {
            if let Err(fault) = verifier.push(record) {
                return Ok(Err(fault));
            }
            report.records = report.records.saturating_add(1);
            let signature = u64::from(record.entry.kind.is_signature());
            report.signatures = report.signatures.saturating_add(signature);
            let void = u64::from(record.entry.kind == AuditKind::Void);
            report.voids = report.voids.saturating_add(void);
            last = Some(record.seq);
        }
        match last {
            Some(last) => next = last.saturating_add(1),
            None => break,
        }
    }
    Ok(verifier.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::AuditEntry;

    fn chain(kinds: &[AuditKind]) -> (AuditChain, Vec<AuditRecord>) {
        let (name, mut hash, mut records) = ("a-1-00".to_owned(), GENESIS, Vec::new());
        for (seq, kind) in (1..).zip(kinds) {
            let account = String::new();
            let reference = format!("{seq}");
            let entry =
                AuditEntry { kind: *kind, digest: B256::ZERO, account, auth_id: None, reference };
            hash = record_hash(&hash, &name, seq, 7, &entry);
            records.push(AuditRecord { chain: name.clone(), seq, at_ms: 7, entry, hash });
        }
        let seq = u64::try_from(kinds.len()).unwrap();
        (AuditChain { name, started_at_ms: 7, seq, hash }, records)
    }

    #[test]
    fn nothing_follows_the_end_of_a_chain() {
        let (whole, records) = chain(&[AuditKind::Open, AuditKind::Ticket, AuditKind::Close]);
        assert_eq!(verify_chain(&whole, &records), Ok(vec![]));
        for after in [AuditKind::Ticket, AuditKind::Void, AuditKind::Close] {
            let (more, records) = chain(&[AuditKind::Open, AuditKind::Close, after]);
            let fault = AuditFault::AfterClose { chain: more.name.clone(), seq: 3 };
            assert_eq!(verify_chain(&more, &records), Err(fault));
        }
    }
}
