//! API keys: `psk_`, 8 hex digits that are its public name, `_`, 64 hex digits of 256 random bits.
//!
//! The books hold the SHA-256 of the whole text and nothing else: 256 random bits need no slow
//! hash, and who reads the books cannot call.

use rand::RngCore;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

const SCHEME: &str = "psk_";
/// Scheme, public part, `_`, secret part.
const LENGTH: usize = 4 + 8 + 1 + 64;

/// A key that was just made. Shown once, to who asked for it.
pub struct NewKey {
    text: Zeroizing<String>,
}

impl NewKey {
    /// A random one.
    pub fn random() -> Self {
        let (mut id, mut secret) = ([0; 4], Zeroizing::new([0; 32]));
        rand::rng().fill_bytes(&mut id);
        rand::rng().fill_bytes(secret.as_mut());
        let secret = Zeroizing::new(hex::encode(secret.as_ref()));
        Self { text: Zeroizing::new(format!("{SCHEME}{}_{}", hex::encode(id), secret.as_str())) }
    }

    /// The key itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Its public name, `psk_` and 8 hex digits.
    pub fn id(&self) -> &str {
        self.text.get(..12).unwrap_or_default()
    }

    /// What the books hold.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Whether a bearer token is meant to be a key of ours.
pub fn looks_like_key(token: &str) -> bool {
    token.starts_with(SCHEME)
}

/// The hash of a token that has the shape of a key; others cost no hashing.
pub fn hash_of(token: &str) -> Option<[u8; 32]> {
    (token.len() == LENGTH && looks_like_key(token))
        .then(|| Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_public_and_a_secret_part() {
        let key = NewKey::random();
        assert_eq!(key.expose().len(), LENGTH);
        assert_eq!(key.id().len(), 12);
        assert_eq!(hash_of(key.expose()), Some(key.hash()));
        assert!(!format!("{key:?}").contains(&key.expose()[13..]));
        assert_ne!(NewKey::random().hash(), key.hash());
        for other in ["", "psk_", &key.expose()[1..], &format!("{}0", key.expose()), "t1"] {
            assert_eq!(hash_of(other), None, "{other}");
        }
    }
}
