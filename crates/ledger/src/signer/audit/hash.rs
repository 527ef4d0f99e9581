//! What a record's hash covers.

use super::AuditEntry;
use penstock_domain::B256;
use sha2::{Digest, Sha256};

/// What the first record of a chain has for the hash before it.
pub const GENESIS: B256 = B256::ZERO;

/// `SHA-256(previous ‖ chain ‖ seq ‖ at_ms ‖ kind ‖ digest ‖ account ‖ auth_id ‖ reference)`.
/// Numbers are 8 bytes big-endian; every text is preceded by its length, 8 bytes big-endian, so
/// that no two records have the same bytes.
pub fn record_hash(previous: &B256, chain: &str, seq: u64, at_ms: i64, entry: &AuditEntry) -> B256 {
    let mut hash = Sha256::new();
    hash.update(previous);
    text(&mut hash, chain);
    hash.update(seq.to_be_bytes());
    hash.update(at_ms.to_be_bytes());
    text(&mut hash, entry.kind.as_str());
    hash.update(entry.digest);
    text(&mut hash, &entry.account);
    text(&mut hash, entry.auth_id.as_ref().map_or("", |id| id.as_str()));
    text(&mut hash, &entry.reference);
    B256::from(<[u8; 32]>::from(hash.finalize()))
}

fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}
