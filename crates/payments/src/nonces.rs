//! Nonces: the set a recipient has seen of one recipientRand, and the ones a sender uses next.

use core::ops::RangeInclusive;
use penstock_domain::B256;
use std::collections::BTreeSet;
use thiserror::Error;

/// Most nonces that a recipient takes for one recipientRand (payments.md section 15).
pub const MAX_NONCES: usize = 600;

/// Why a nonce is not taken. Not fatal: later tickets of the payment are still looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NonceError {
    /// This nonce was seen before: a replay.
    #[error("already seen")]
    AlreadySeen,
    /// 600 nonces were seen: the sender has to ask for a new offer.
    #[error("too many values")]
    TooMany,
}

/// The nonces seen for one recipientRand, in any order and with gaps; 0 is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NonceSet(BTreeSet<u32>);

impl NonceSet {
    /// Records a nonce, or says why it is not taken. The order of the two checks is documented
    /// (payments.md section 10, rows 7 and 8).
    pub fn record(&mut self, nonce: u32) -> Result<(), NonceError> {
        if self.0.contains(&nonce) {
            return Err(NonceError::AlreadySeen);
        }
        if self.0.len() >= MAX_NONCES {
            return Err(NonceError::TooMany);
        }
        self.0.insert(nonce);
        Ok(())
    }

    /// How many were seen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// From a ledger's rows.
impl FromIterator<u32> for NonceSet {
    fn from_iter<I: IntoIterator<Item = u32>>(nonces: I) -> Self {
        Self(nonces.into_iter().collect())
    }
}

/// No nonces are left under this recipientRandHash: a new offer is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no sender nonces left for this recipientRandHash")]
pub struct NoncesExhausted;

/// The last nonce that a payment session used, and under which offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderSession {
    /// The offer's recipientRandHash.
    pub recipient_rand_hash: B256,
    /// Last nonce used; 0 when none was.
    pub last_nonce: u32,
}

impl SenderSession {
    /// The session for an offer: it goes on if the hash is the same, and starts over if not
    /// (remote-signer.md section 8).
    pub fn resume(previous: Option<Self>, recipient_rand_hash: B256) -> Self {
        match previous {
            Some(session) if session.recipient_rand_hash == recipient_rand_hash => session,
            _ => Self { recipient_rand_hash, last_nonce: 0 },
        }
    }

    /// Takes `count` ≥ 1 consecutive nonces; the first ever is 1. They are gone even if signing
    /// fails afterwards.
    pub fn take(&mut self, count: u32) -> Result<RangeInclusive<u32>, NoncesExhausted> {
        let first = self.last_nonce.checked_add(1).ok_or(NoncesExhausted)?;
        let last = self.last_nonce.checked_add(count).ok_or(NoncesExhausted)?;
        if last < first {
            return Err(NoncesExhausted);
        }
        self.last_nonce = last;
        Ok(first..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, sync::Mutex};

    #[test]
    fn the_601st_nonce_fails() {
        let mut set = NonceSet::default();
        assert!(set.is_empty());
        for nonce in 0..600 {
            assert_eq!(set.record(nonce), Ok(()));
        }
        assert_eq!(set.record(600), Err(NonceError::TooMany));
        assert_eq!(set.record(0), Err(NonceError::AlreadySeen));
        assert_eq!(set.len(), 600);
    }

    #[test]
    fn the_first_nonce_is_one_and_a_new_offer_starts_over() {
        let (a, b) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let mut session = SenderSession::resume(None, a);
        assert_eq!(session.take(2), Ok(1..=2));
        let mut session = SenderSession::resume(Some(session), a);
        assert_eq!(session.take(1), Ok(3..=3));
        let mut other = SenderSession::resume(Some(session), b);
        assert_eq!(other.take(1), Ok(1..=1));
    }

    #[test]
    fn nonces_run_out_instead_of_wrapping() {
        let mut session =
            SenderSession { recipient_rand_hash: B256::ZERO, last_nonce: u32::MAX - 1 };
        assert_eq!(session.take(2), Err(NoncesExhausted));
        assert_eq!(session.take(0), Err(NoncesExhausted));
        assert_eq!(session.take(1), Ok(u32::MAX..=u32::MAX));
        assert_eq!(session.take(1), Err(NoncesExhausted));
    }

    #[test]
    fn a_hundred_batches_of_two_take_two_hundred_nonces() {
        let session = Mutex::new(SenderSession::resume(None, B256::ZERO));
        let taken = Mutex::new(HashSet::new());
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let nonces = session.lock().unwrap().take(2).unwrap();
                    taken.lock().unwrap().extend(nonces);
                });
            }
        });
        assert_eq!(*taken.lock().unwrap(), (1..=200).collect());
    }
}
