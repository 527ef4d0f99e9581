//! The one signature form of the network: 65 bytes `r ‖ s ‖ v`, checked in the documented order.

use crate::curve::{self, batch::Claim};
use core::fmt;
use penstock_domain::{Address, B256};
use thiserror::Error;

/// Half of the curve order, rounded down: `s` above it is refused (payments.md section 4).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Why a signature is not one by the expected account. The variants are in the order in which they
/// are checked (payments.md section 4). Always the fault of whoever sent the signature; final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Not 65 bytes.
    #[error("signature must be 65 bytes, not {0}")]
    Length(usize),
    /// `s` is in the upper half, so a second signature over the same message would exist.
    #[error("signature has a high s value")]
    HighS,
    /// `v` is neither 27 nor 28; 0 and 1 are refused as well.
    #[error("signature has v {0}, not 27 or 28")]
    RecoveryId(u8),
    /// No public key belongs to these numbers.
    #[error("signature recovers to no key")]
    Unrecoverable,
    /// A good signature, by somebody else.
    #[error("signature is by another account")]
    WrongSigner,
}

/// 65 bytes `r ‖ s ‖ v`. A value of this type has the right length and nothing more: it may come
/// from a peer, so every use goes through [`Self::recover`] or [`Self::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature([u8; 65]);

impl Signature {
    /// Wraps 65 bytes without looking at them.
    pub const fn from_bytes(bytes: [u8; 65]) -> Self {
        Self(bytes)
    }

    /// Wraps bytes of any length, refusing all but 65.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, SignatureError> {
        <[u8; 65]>::try_from(bytes).map(Self).map_err(|_| SignatureError::Length(bytes.len()))
    }

    /// As sent: the win draw hashes exactly these bytes, `v` included (payments.md section 6).
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// The parts that a curve works on, after the checks that need none: `r ‖ s` and whether the
    /// point's y is odd.
    fn checked_parts(&self) -> Result<([u8; 64], bool), SignatureError> {
        let [rs @ .., v] = self.0;
        let (_, s) = rs.split_at(32);
        if s > HALF_ORDER.as_slice() {
            return Err(SignatureError::HighS);
        }
        match v {
            27 => Ok((rs, false)),
            28 => Ok((rs, true)),
            other => Err(SignatureError::RecoveryId(other)),
        }
    }

    /// The account that made this signature over `digest`.
    pub fn recover(&self, digest: &B256) -> Result<Address, SignatureError> {
        let (rs, odd) = self.checked_parts()?;
        curve::fast::recover(digest, &rs, odd).ok_or(SignatureError::Unrecoverable)
    }

    /// Same as [`Self::recover`] through the pure-Rust curve code. Five times slower; it exists so
    /// that tests (and a doubtful operator) can compare the two.
    pub fn recover_reference(&self, digest: &B256) -> Result<Address, SignatureError> {
        let (rs, odd) = self.checked_parts()?;
        curve::reference::recover(digest, &rs, odd).ok_or(SignatureError::Unrecoverable)
    }

    /// Whether `expected` made this signature over `digest`.
    pub fn verify(&self, digest: &B256, expected: Address) -> Result<(), SignatureError> {
        if self.recover(digest)? == expected { Ok(()) } else { Err(SignatureError::WrongSigner) }
    }
}

/// [`Signature::verify`] on bytes as received, all five checks in order.
pub fn verify_bytes(
    signature: &[u8],
    digest: &B256,
    expected: Address,
) -> Result<Signature, SignatureError> {
    let signature = Signature::from_slice(signature)?;
    signature.verify(digest, expected)?;
    Ok(signature)
}

/// From so many on, signatures of one account are tried together.
const LEAST_TOGETHER: usize = 8;

/// [`verify_bytes`] of many signatures by the same account: the same answers, for about half the work where all are
/// good. Where one is not, each of them is looked at by itself after all.
pub fn verify_many<'a>(
    signed: impl IntoIterator<Item = (&'a [u8], B256)>,
    expected: Address,
) -> Vec<Result<Signature, SignatureError>> {
    let mut results = Vec::new();
    let (mut good, mut claims) = (Vec::new(), Vec::new());
    for (place, (bytes, digest)) in signed.into_iter().enumerate() {
        let parsed = Signature::from_slice(bytes)
            .and_then(|signature| signature.checked_parts().map(|parts| (signature, parts)));
        if let Ok((_, (rs, odd))) = parsed {
            good.push(place);
            claims.push(Claim { digest, rs, odd });
        }
        results.push(parsed.map(|(signature, _)| signature));
    }
    if !together(&claims, expected) {
        for (place, claim) in good.into_iter().zip(&claims) {
            let account = curve::fast::recover(&claim.digest, &claim.rs, claim.odd);
            let error = match account {
                Some(account) if account == expected => continue,
                Some(_) => SignatureError::WrongSigner,
                None => SignatureError::Unrecoverable,
            };
            if let Some(result) = results.get_mut(place) {
                *result = Err(error);
            }
        }
    }
    results
}

/// Whether they are enough to be tried together, and all the account's. Its key is the first one's.
fn together(claims: &[Claim], expected: Address) -> bool {
    let Some((first, others)) = claims.split_first() else { return true };
    if claims.len() < LEAST_TOGETHER {
        return false;
    }
    match curve::fast::recover_key(&first.digest, &first.rs, first.odd) {
        Some((account, key)) => account == expected && curve::batch::all_by(&key, others),
        None => false,
    }
}

/// `0x` and 130 lowercase hex digits.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
