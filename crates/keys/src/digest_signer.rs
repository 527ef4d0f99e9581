//! The port behind which keys live: a file, a token, a vault, a cloud.

use crate::KeyError;
use async_trait::async_trait;
use penstock_domain::{Address, B256};
use penstock_payments::Signature;

/// A digest that this crate built from something typed. Only this crate can make one, so holding a
/// [`DigestSigner`] is not enough to have bytes of one's own choice signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypedDigest(B256);

impl TypedDigest {
    pub(crate) const fn new(digest: B256) -> Self {
        Self(digest)
    }

    /// The 32 bytes that the curve signs: for implementations of [`DigestSigner`].
    pub const fn as_b256(&self) -> &B256 {
        &self.0
    }
}

/// One key. Implementations return 65 bytes `r ‖ s ‖ v` with a low `s` and `v` 27 or 28
/// (payments.md section 4), whatever their hardware makes; `conformance` checks them.
#[async_trait]
pub trait DigestSigner: Send + Sync {
    /// The key's account. Known from the start and never changing.
    fn address(&self) -> Address;

    /// Signs one digest.
    async fn sign_digest(&self, digest: TypedDigest) -> Result<Signature, KeyError>;
}
