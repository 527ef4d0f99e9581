//! Appending to the process's own audit chain.

use crate::signer::audit::{AuditEntry, record_hash};
use penstock_domain::B256;

/// The newest record of the own chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The chain's row.
    pub chain_id: i64,
    /// The chain's name.
    pub name: String,
    /// Number of its newest record, 0 before the first.
    pub seq: u64,
    /// That record's hash.
    pub hash: B256,
}

/// A record to be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub seq: u64,
    pub at_ms: i64,
    pub entry: AuditEntry,
    pub hash: B256,
}

impl Head {
    /// Moves the head one record on and returns that record.
    pub fn append(&mut self, at_ms: i64, entry: AuditEntry) -> AuditRow {
        let seq = self.seq.saturating_add(1);
        let hash = record_hash(&self.hash, &self.name, seq, at_ms, &entry);
        (self.seq, self.hash) = (seq, hash);
        AuditRow { seq, at_ms, entry, hash }
    }
}
