//! recipientRand: the number by which a recipient recognises its own offers, without storing them
//! (payments.md section 5).

use crate::ticket::{ExpirationParams, TicketParams, word};
use core::fmt;
use hmac::{Hmac, Mac};
use penstock_domain::{Address, B256, Rational, U256, Wei, be_bytes, keccak256};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The recipient's 32-byte HMAC key. Whoever knows it can make tickets that never win, so it is
/// wiped from memory and never printed. It must survive a restart: every offer dies with it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecipientSecret([u8; 32]);

impl RecipientSecret {
    /// From 32 bytes of a secure generator.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What [`crate::OfferRequest::seed`] has to be, so that the offer is known again as one for this work
    /// ([`crate::VerifiedOffer::is_for_work`]); `random` is of a secure generator.
    pub fn seed_for_work(&self, random: [u8; 8], work: &str) -> U256 {
        crate::seed::seed_for_work(random, work, self)
    }

    /// Whether a seed bears this work's mark. That its offer is ours, and was made at the price that a payment states, is
    /// for [`crate::verify_payment`] to say.
    pub fn is_seed_for_work(&self, seed: U256, work: &str) -> bool {
        crate::seed::is_for_work(seed, work, self)
    }
}

impl fmt::Debug for RecipientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientSecret(…)")
    }
}

/// The recipient's number of one offer. It is shown to the chain at redemption, after the offer
/// has expired; before that it would let a sender choose losing tickets. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecipientRand([u8; 32]);

impl RecipientRand {
    /// From stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// `u256(recipientRand)`.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As the number that the chain takes.
    pub fn to_u256(self) -> U256 {
        U256::from_be_bytes(self.0)
    }

    /// recipientRandHash.
    pub fn hash(&self) -> B256 {
        keccak256(self.0)
    }
}

impl fmt::Debug for RecipientRand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientRand(…)")
    }
}

/// Everything an offer's recipientRand is bound to. Not among it: recipient and nonce.
#[derive(Debug, Clone, Copy)]
pub struct RandInputs<'a> {
    /// The offer's seed.
    pub seed: U256,
    /// Whom the offer was made to.
    pub sender: Address,
    /// The offer's face value.
    pub face_value: Wei,
    /// The offer's win probability.
    pub win_prob: U256,
    /// The offer's last block.
    pub expiration_block: U256,
    /// The price the offer was made for, in wei per unit; `Rational` is always reduced.
    pub price: &'a Rational,
    /// Creation round and block hash **of the offer**.
    pub expiration_params: &'a ExpirationParams,
}

impl<'a> RandInputs<'a> {
    /// The inputs of an offer, or of what a payment claims to be one.
    pub fn of(
        params: &TicketParams,
        sender: Address,
        price: &'a Rational,
        expiration_params: &'a ExpirationParams,
    ) -> Self {
        Self {
            seed: params.seed,
            sender,
            face_value: params.face_value,
            win_prob: params.win_prob,
            expiration_block: params.expiration_block,
            price,
            expiration_params,
        }
    }

    /// The authenticated bytes. Integers are minimal and there are no separators, so these alone do
    /// not say which byte belongs to which field: [`Self::is_sealed`] does.
    pub fn message(&self) -> Vec<u8> {
        let mut out = be_bytes(self.seed);
        out.extend_from_slice(self.sender.as_slice());
        out.extend_from_slice(&be_bytes(self.face_value.0));
        out.extend_from_slice(&be_bytes(self.win_prob));
        out.extend_from_slice(&be_bytes(self.expiration_block));
        out.extend_from_slice(&self.price.numerator_be());
        out.extend_from_slice(&self.price.denominator_be());
        out.extend_from_slice(&self.expiration_params.aux_data());
        out
    }

    /// The seed of an offer with these inputs, whose own seed is random: its lower half moved up and
    /// a seal over everything under it.
    pub fn sealed_seed(&self, secret: &RecipientSecret) -> U256 {
        crate::seed::sealed_seed(self, secret)
    }

    /// Whether the seed was sealed over exactly these inputs.
    pub fn is_sealed(&self, secret: &RecipientSecret) -> bool {
        crate::seed::is_sealed(self, secret)
    }

    /// HMAC-SHA256 of [`Self::message`].
    pub fn recipient_rand(&self, secret: &RecipientSecret) -> RecipientRand {
        RecipientRand(hmac_sha256(&secret.0, &self.message()))
    }
}

/// HMAC-SHA256.
pub(crate) fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    // `new` takes exactly one block (64 bytes), so a shorter key is padded with zeros: RFC 2104.
    let mut block = [0_u8; 64];
    for (slot, byte) in block.iter_mut().zip(key) {
        *slot = *byte;
    }
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into());
    block.zeroize();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// `int(K(signature ‖ u256(recipientRand)))` (payments.md section 6).
pub fn win_draw(signature: &crate::Signature, recipient_rand: &RecipientRand) -> U256 {
    let mut hash = alloy_primitives::Keccak256::new();
    hash.update(signature.as_bytes());
    hash.update(word(recipient_rand.to_u256()));
    U256::from_be_bytes(hash.finalize().0)
}

/// Whether the ticket wins: `draw < winProb`, strictly. Even at the greatest probability one draw
/// in 2^256 loses.
pub fn wins(signature: &crate::Signature, recipient_rand: &RecipientRand, win_prob: U256) -> bool {
    win_draw(signature, recipient_rand) < win_prob
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signature;

    fn message(seed: u64, price: &str, expiration_params: ExpirationParams) -> Vec<u8> {
        let price = price.parse().unwrap();
        RandInputs {
            seed: U256::from(seed),
            sender: Address::repeat_byte(0x55),
            face_value: Wei::ZERO,
            win_prob: U256::ZERO,
            expiration_block: U256::ZERO,
            price: &price,
            expiration_params: &expiration_params,
        }
        .message()
    }

    #[test]
    fn integers_are_minimal_and_prices_reduced() {
        let sender = [0x55; 20];
        let none = ExpirationParams::default();
        assert_eq!(message(0, "0", none), [sender.as_slice(), &[1]].concat());
        assert_eq!(
            message(0x00ff01, "4/6", none),
            [&[0xff, 1], sender.as_slice(), &[2, 3]].concat()
        );
        // The sign of a price does not get in: its absolute value does.
        assert_eq!(message(0, "-2/3", none), message(0, "2/3", none));
        let round = ExpirationParams { creation_round: 9, ..none };
        assert_eq!(message(0, "1", round).len(), 20 + 1 + 1 + 64);
    }

    /// RFC 4231, test case 2, with its key padded to 32 bytes (HMAC pads with zeros anyway).
    #[test]
    fn hmac_is_hmac() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let tag = hmac_sha256(&key, b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(tag), expected);
    }

    #[test]
    fn winning_is_strict() {
        let (signature, rand) =
            (Signature::from_bytes([1; 65]), RecipientRand::from_bytes([2; 32]));
        let draw = win_draw(&signature, &rand);
        assert!(!wins(&signature, &rand, draw));
        assert!(wins(&signature, &rand, draw + U256::from(1)));
        assert!(!wins(&signature, &rand, U256::ZERO));
        assert!(wins(&signature, &rand, U256::MAX));
        // The v byte is part of the draw.
        let mut other = [1; 65];
        other[64] = 2;
        assert_ne!(win_draw(&Signature::from_bytes(other), &rand), draw);
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = RecipientSecret::new([0x5a; 32]);
        let rand = RecipientRand::from_bytes([0x5a; 32]);
        for text in [format!("{secret:?}"), format!("{rand:?} {rand:#?}")] {
            assert!(!text.contains("5a") && !text.contains("90"), "{text}");
        }
    }
}
