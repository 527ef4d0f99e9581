//! Public-key recovery on secp256k1, twice: libsecp256k1 for the hot paths and k256 as the
//! reference; and many signatures by one key at once. Nothing here signs; keys live in another crate.

pub(crate) mod batch;

use alloy_primitives::keccak256;
use penstock_domain::{Address, B256};

/// The account of an uncompressed public key (without its leading 04 byte).
fn address_of(public_key: &[u8]) -> Option<Address> {
    let hash = keccak256(public_key);
    hash.get(12..).map(Address::from_slice)
}

/// libsecp256k1: five times faster at recovery than the reference.
pub(crate) mod fast {
    use super::{Address, B256, address_of};
    use secp256k1::{
        Message, Secp256k1, VerifyOnly,
        ecdsa::{RecoverableSignature, RecoveryId},
    };
    use std::sync::LazyLock;

    static CONTEXT: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

    /// The account whose key signed `digest`, if these numbers are a signature at all, and that key (uncompressed).
    pub(crate) fn recover_key(
        digest: &B256,
        rs: &[u8; 64],
        odd: bool,
    ) -> Option<(Address, [u8; 65])> {
        let id = if odd { RecoveryId::One } else { RecoveryId::Zero };
        let signature = RecoverableSignature::from_compact(rs, id).ok()?;
        let key = CONTEXT.recover_ecdsa(Message::from_digest(digest.0), &signature).ok()?;
        let key = key.serialize_uncompressed();
        Some((address_of(key.get(1..)?)?, key))
    }

    /// The account alone.
    pub(crate) fn recover(digest: &B256, rs: &[u8; 64], odd: bool) -> Option<Address> {
        recover_key(digest, rs, odd).map(|(account, _)| account)
    }
}

/// k256: pure Rust, independent of the C library.
pub(crate) mod reference {
    use super::{Address, B256, address_of};
    use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};

    /// The account whose key signed `digest`, if these numbers are a signature at all.
    pub(crate) fn recover(digest: &B256, rs: &[u8; 64], odd: bool) -> Option<Address> {
        let signature = Signature::from_slice(rs).ok()?;
        let id = RecoveryId::new(odd, false);
        let key = VerifyingKey::recover_from_prehash(digest.as_slice(), &signature, id).ok()?;
        address_of(key.to_encoded_point(false).as_bytes().get(1..)?)
    }
}
