//! A key in this process's memory: what a keystore file opens to.

use crate::{DigestSigner, KeyError, TypedDigest};
use async_trait::async_trait;
use core::fmt;
use penstock_domain::{Address, B256, keccak256};
use penstock_payments::Signature;
use rand::{TryRngCore, rngs::OsRng};
use secp256k1::{Message, Secp256k1, SecretKey, SignOnly};
use std::sync::LazyLock;
use zeroize::Zeroizing;

static CONTEXT: LazyLock<Secp256k1<SignOnly>> = LazyLock::new(Secp256k1::signing_only);

/// A private key and its account. Wiped when dropped, never printed, not serialisable.
#[derive(Clone)]
pub struct LocalKey {
    secret: Zeroizing<[u8; 32]>,
    address: Address,
}

impl LocalKey {
    /// From 32 bytes, which must be a number from 1 to the curve order − 1.
    pub fn from_bytes(secret: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let mut key = SecretKey::from_byte_array(*secret).map_err(|_| KeyError::InvalidKey)?;
        let public = key.public_key(&CONTEXT).serialize_uncompressed();
        key.non_secure_erase();
        let hash = keccak256(public.get(1..).unwrap_or_default());
        let address = Address::from_slice(hash.get(12..).unwrap_or_default());
        Ok(Self { secret, address })
    }

    /// A new key from the operating system's generator.
    pub fn random() -> Result<Self, KeyError> {
        loop {
            let mut secret = Zeroizing::new([0_u8; 32]);
            OsRng
                .try_fill_bytes(secret.as_mut())
                .map_err(|error| KeyError::Unavailable(error.to_string()))?;
            match Self::from_bytes(secret) {
                // One draw in 2^128 is not a key of the curve.
                Err(KeyError::InvalidKey) => {}
                other => return other,
            }
        }
    }

    /// The key's account.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The private key itself, for writing it into another home. Name the reason where you call this.
    pub fn expose_secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The public key: 65 bytes, uncompressed (SEC 1).
    pub fn public_point(&self) -> [u8; 65] {
        match SecretKey::from_byte_array(*self.secret) {
            Ok(mut key) => {
                let point = key.public_key(&CONTEXT).serialize_uncompressed();
                key.non_secure_erase();
                point
            }
            // `from_bytes` has let no such key in.
            Err(_) => [0; 65],
        }
    }

    /// The private key, for the keystore only.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// RFC 6979, so the same digest gives the same bytes.
    fn sign(&self, digest: &B256) -> Result<Signature, KeyError> {
        let mut key = SecretKey::from_byte_array(*self.secret).map_err(|_| KeyError::InvalidKey)?;
        let signature = CONTEXT.sign_ecdsa_recoverable(Message::from_digest(digest.0), &key);
        key.non_secure_erase();
        let (id, rs) = signature.serialize_compact();
        let v = 27 + u8::from(i32::from(id) & 1 == 1);
        let mut out = [v; 65];
        for (slot, byte) in out.iter_mut().zip(rs) {
            *slot = byte;
        }
        Ok(Signature::from_bytes(out))
    }
}

#[async_trait]
impl DigestSigner for LocalKey {
    fn address(&self) -> Address {
        self.address
    }

    async fn sign_digest(&self, digest: TypedDigest) -> Result<Signature, KeyError> {
        self.sign(digest.as_b256())
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn key(hex_text: &str) -> LocalKey {
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(hex_text, secret.as_mut()).unwrap();
        LocalKey::from_bytes(secret).unwrap()
    }

    #[tokio::test]
    async fn conforms() {
        crate::conformance::check(Arc::new(LocalKey::random().unwrap())).await;
    }

    #[test]
    fn address_of_a_known_key() {
        // The sender's key of the protocol vectors.
        let key = key("18222c4eb1dabe63c11f0ba348d0167f81d3c8e68ec71a4c0ff053823594cdb5");
        assert_eq!(key.address().to_string(), "0xD4148239446Dd07900D01F3D17513562b264BB65");
    }

    #[test]
    fn numbers_outside_the_curve_are_no_keys() {
        for secret in [[0; 32], [0xff; 32]] {
            let made = LocalKey::from_bytes(Zeroizing::new(secret));
            assert_eq!(made.unwrap_err(), KeyError::InvalidKey);
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        let key = key("18222c4eb1dabe63c11f0ba348d0167f81d3c8e68ec71a4c0ff053823594cdb5");
        let text = format!("{key:?} {key:#?}");
        assert!(!text.contains("18222c") && !text.contains("0x18") && !text.contains("24, 34"));
        assert!(text.contains("address"));
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(LocalKey::random().unwrap().secret(), LocalKey::random().unwrap().secret());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        // libsecp256k1 signs here; k256 must make the same bytes (RFC 6979, low s) and the same key.
        #[test]
        fn signs_like_the_reference(secret in any::<[u8; 32]>(), digest in any::<[u8; 32]>()) {
            let fast = LocalKey::from_bytes(Zeroizing::new(secret));
            let reference = k256::ecdsa::SigningKey::from_slice(&secret);
            prop_assert_eq!(fast.is_ok(), reference.is_ok());
            let (Ok(fast), Ok(reference)) = (fast, reference) else { return Ok(()) };
            let point = reference.verifying_key().to_encoded_point(false);
            let hash = keccak256(&point.as_bytes()[1..]);
            prop_assert_eq!(fast.address(), Address::from_slice(&hash[12..]));
            let (rs, id) = reference.sign_prehash_recoverable(&digest).unwrap();
            let mut expected = rs.to_vec();
            expected.push(27 + id.to_byte());
            let signature = fast.sign(&B256::from(digest)).unwrap();
            prop_assert_eq!(signature.as_bytes().as_slice(), expected.as_slice());
        }
    }
}
