//! The audit: an append-only record of every signature that was authorised, and of every change by
//! an operator, before it is made.
//!
//! Each process writes a hash chain of its own, `hash = SHA-256(previous ‖ fields)`, so that
//! replicas do not wait for each other. The newest hash of a chain (its head) is kept beside it
//! and is written into the other chains as `anchor` records: an edited record, a gap, a tail cut
//! off and a chain taken away all show (see [`verify`]).

mod hash;
#[cfg(test)]
mod tests;
pub mod verify;

pub use hash::{GENESIS, record_hash};
pub use verify::{AuditFault, AuditReport, verify_chain, verify_ledger};

use core::{fmt, str::FromStr};
use penstock_domain::{AuthId, B256};

/// Longest reference of a record, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 512;
/// Longest account in a record, in bytes.
pub const MAX_ACCOUNT_BYTES: usize = 512;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuditKind {
    /// A ticket; its digest is the one that is signed.
    Ticket,
    /// A segment credential.
    Segment,
    /// A BYOC job.
    Byoc,
    /// A request for orchestrator information.
    OrchestratorInfo,
    /// An operator changes who may spend what, or fences; its digest is that of the whole change.
    Operator,
    /// A reservation was given back or expired: its tickets were never handed out.
    Void,
    /// The head of another chain; its digest is that head's hash.
    Anchor,
    /// A chain begins.
    Open,
    /// A process ended in good order.
    Close,
}

impl AuditKind {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Ticket, "ticket"),
        (Self::Segment, "segment"),
        (Self::Byoc, "byoc"),
        (Self::OrchestratorInfo, "orchestrator_info"),
        (Self::Operator, "operator"),
        (Self::Void, "void"),
        (Self::Anchor, "anchor"),
        (Self::Open, "open"),
        (Self::Close, "close"),
    ];

    /// As written in the books.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, text)| text)
    }

    /// Whether the record stands for a signature.
    pub fn is_signature(self) -> bool {
        matches!(self, Self::Ticket | Self::Segment | Self::Byoc | Self::OrchestratorInfo)
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuditKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().find(|(_, known)| *known == text).map(|(kind, _)| *kind).ok_or(())
    }
}

/// What is to be recorded; chain, number, time and hash are the ledger's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// About what.
    pub kind: AuditKind,
    /// What is signed (the 32 bytes that go to the key); zero where nothing is.
    pub digest: B256,
    /// For which account; at most [`MAX_ACCOUNT_BYTES`].
    pub account: String,
    /// For which subject.
    pub auth_id: Option<AuthId>,
    /// Of what: `state_id/sequence/nonce` for a ticket; at most [`MAX_REFERENCE_BYTES`].
    pub reference: String,
}

/// A record in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The chain's name.
    pub chain: String,
    /// 1 for the first.
    pub seq: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What was recorded.
    pub entry: AuditEntry,
    /// Over this record and, by the previous hash, all before it.
    pub hash: B256,
}

/// A chain and its head as the books keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditChain {
    /// `{replica}-{start ms}-{random}`
    pub name: String,
    /// Unix milliseconds.
    pub started_at_ms: i64,
    /// Number of its newest record.
    pub seq: u64,
    /// Hash of its newest record.
    pub hash: B256,
}
