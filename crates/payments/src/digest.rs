//! What is hashed for each kind of signature (payments.md section 4, orchestrator-wire.md
//! sections 3, 6 and 10). Building a digest grants nothing: only `penstock-keys` can sign one.

use alloy_primitives::Keccak256;
use penstock_domain::{Address, B256, U256, keccak256};

/// Keccak-256 of nothing: the data hash of credentials without a segment.
pub const EMPTY_DATA_HASH: B256 = alloy_primitives::KECCAK256_EMPTY;

/// EIP-191: `K("\x19Ethereum Signed Message:\n" ‖ decimal(len(m)) ‖ m)`, `m` of any length.
pub fn eip191_digest(message: &[u8]) -> B256 {
    let mut hash = Keccak256::new();
    hash.update(b"\x19Ethereum Signed Message:\n");
    hash.update(message.len().to_string().as_bytes());
    hash.update(message);
    hash.finalize()
}

/// What a node's own "sign" covers: one Keccak more, `eip191(K(message))`. Used for orchestrator
/// requests, segment credentials and pings, and *not* for tickets and transcode results.
pub fn node_digest(message: &[u8]) -> B256 {
    eip191_digest(keccak256(message).as_slice())
}

/// The bytes of a GetOrchestrator request: the requester's EIP-55 address in ASCII, with `0x`.
pub fn orchestrator_request_message(address: Address) -> String {
    address.to_checksum(None)
}

/// Digest of a GetOrchestrator request by `address` (orchestrator-wire.md section 3).
pub fn orchestrator_request_digest(address: Address) -> B256 {
    node_digest(orchestrator_request_message(address).as_bytes())
}

/// The flattened segment metadata: manifest id, `u256(|seq|)`, data hash, and eight hex digits of
/// each rendition's name hash, in order (orchestrator-wire.md section 6).
pub fn segment_preimage<N: AsRef<str>>(
    manifest_id: &[u8],
    sequence: i64,
    data_hash: &B256,
    rendition_names: &[N],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(manifest_id.len() + 64 + 8 * rendition_names.len());
    out.extend_from_slice(manifest_id);
    out.extend_from_slice(&U256::from(sequence.unsigned_abs()).to_be_bytes::<32>());
    out.extend_from_slice(data_hash.as_slice());
    for name in rendition_names {
        out.extend_from_slice(rendition_tag(name.as_ref()).as_bytes());
    }
    out
}

/// Eight lowercase hex digits: the first four bytes of the name's Keccak-256.
fn rendition_tag(name: &str) -> String {
    keccak256(name.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Digest of segment credentials, to be compared with `SegData.sig`.
pub fn segment_digest<N: AsRef<str>>(
    manifest_id: &[u8],
    sequence: i64,
    data_hash: &B256,
    rendition_names: &[N],
) -> B256 {
    node_digest(&segment_preimage(manifest_id, sequence, data_hash, rendition_names))
}

/// `K(K(r1) ‖ K(r2) ‖ …)` from the renditions' hashes in order (orchestrator-wire.md section 6).
pub fn transcode_result_hash(rendition_hashes: &[B256]) -> B256 {
    let mut hash = Keccak256::new();
    for rendition in rendition_hashes {
        hash.update(rendition);
    }
    hash.finalize()
}

/// Digest of transcoded results: the primitive straight over [`transcode_result_hash`].
pub fn transcode_result_digest(rendition_hashes: &[B256]) -> B256 {
    eip191_digest(transcode_result_hash(rendition_hashes).as_slice())
}

/// Digest of a ping's answer. The value may be of any length here, since peers may sign what they
/// like; our own keys sign only 32-byte values (orchestrator-wire.md section 10).
pub fn ping_digest(value: &[u8]) -> B256 {
    node_digest(value)
}

/// Digest of a transaction on the devnet: `K(0x19 ‖ 0x01 ‖ K("Penstock devnet transaction") ‖
/// K(payload))`. The second byte keeps it apart from every EIP-191 personal message, so that no
/// payload can be a ticket or a credential, and no ticket a transaction.
pub fn devnet_transaction_digest(payload: &[u8]) -> B256 {
    let mut hash = Keccak256::new();
    hash.update([0x19, 0x01]);
    hash.update(keccak256(b"Penstock devnet transaction"));
    hash.update(keccak256(payload));
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eip191_counts_bytes_in_decimal() {
        // ethers.js documentation, `hashMessage("Hello World")`.
        assert_eq!(
            eip191_digest(b"Hello World").to_string(),
            "0xa1de988600a42c4b4ab089b619297c17d53cffae5d5120d82d8a92d0bb3b78f2"
        );
        assert_ne!(eip191_digest(b""), eip191_digest(b"\0"));
        assert_eq!(EMPTY_DATA_HASH, keccak256(b""));
    }

    #[test]
    fn sequence_numbers_count_without_sign() {
        let bytes = |sequence| segment_preimage::<&str>(b"m", sequence, &B256::ZERO, &[]);
        assert_eq!(bytes(-7), bytes(7));
        assert_eq!(bytes(i64::MIN)[25], 0x80);
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn devnet_transactions_collide_with_no_message() {
        let payload = b"payload";
        let digest = devnet_transaction_digest(payload);
        assert_ne!(digest, eip191_digest(payload));
        assert_ne!(digest, node_digest(payload));
        assert_ne!(digest, devnet_transaction_digest(b"payloae"));
        // Stated once more, by hand.
        let mut whole = vec![0x19, 0x01];
        whole.extend_from_slice(keccak256("Penstock devnet transaction").as_slice());
        whole.extend_from_slice(keccak256(payload).as_slice());
        assert_eq!(digest, keccak256(whole));
    }
}
