//! Tickets and the parameters that a recipient offers for them: packing, hashing, worth.

use crate::{digest::eip191_digest, signature::Signature, signature::SignatureError};
use penstock_domain::{Address, B256, PmSessionId, Rational, U256, Wei, keccak256};

/// The round in which a ticket is made, and that round's L1 block hash. All zero when unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ExpirationParams {
    /// Round on the chain. (The wire's int64; a negative one is refused where it is read.)
    pub creation_round: u64,
    /// L1 block hash of that round.
    pub creation_round_block_hash: B256,
}

impl ExpirationParams {
    /// `auxData`: round and hash, 32 bytes each; empty only if **both** are zero
    /// (payments.md section 3).
    pub fn aux_data(&self) -> Vec<u8> {
        if self.creation_round == 0 && self.creation_round_block_hash.is_zero() {
            return Vec::new();
        }
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&word(U256::from(self.creation_round)));
        out.extend_from_slice(self.creation_round_block_hash.as_slice());
        out
    }

    /// Whether both parts are set, so that a sender takes them over (payments.md section 9).
    pub fn is_complete(&self) -> bool {
        self.creation_round != 0 && !self.creation_round_block_hash.is_zero()
    }
}

/// What a recipient offers: tickets that differ only in their nonce (payments.md section 8).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TicketParams {
    /// Who is paid.
    pub recipient: Address,
    /// What a win pays.
    pub face_value: Wei,
    /// Chance of a win, out of 2^256 − 1.
    pub win_prob: U256,
    /// Keccak-256 of the recipientRand, which only the recipient knows.
    pub recipient_rand_hash: B256,
    /// Random number from which the recipient finds its recipientRand again.
    pub seed: U256,
    /// L1 block at which the offer ends. A peer's value, so of any size; ours fit 64 bits.
    pub expiration_block: U256,
    /// Creation round to be put into tickets; all zero when the recipient leaves it to the sender.
    pub expiration_params: ExpirationParams,
}

impl TicketParams {
    /// Worth of one ticket of this offer.
    pub fn ev(&self) -> Rational {
        ticket_ev(self.face_value, self.win_prob)
    }

    /// Key of the sender's session for this offer.
    pub fn pm_session_id(&self) -> PmSessionId {
        PmSessionId::from(self.recipient_rand_hash)
    }
}

/// One ticket, without its signature.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Who is paid.
    pub recipient: Address,
    /// Who pays and signs.
    pub sender: Address,
    /// What a win pays.
    pub face_value: Wei,
    /// Chance of a win, out of 2^256 − 1.
    pub win_prob: U256,
    /// Makes this ticket different from the others of the same offer.
    pub sender_nonce: u32,
    /// Keccak-256 of the recipientRand.
    pub recipient_rand_hash: B256,
    /// Creation round and block hash.
    pub expiration_params: ExpirationParams,
}

impl Ticket {
    /// The ticket of this offer with this nonce. `expiration_params` is the batch's choice
    /// (payments.md section 9), which may differ from the offer's own.
    pub fn from_params(
        params: &TicketParams,
        expiration_params: ExpirationParams,
        sender: Address,
        sender_nonce: u32,
    ) -> Self {
        Self {
            recipient: params.recipient,
            sender,
            face_value: params.face_value,
            win_prob: params.win_prob,
            sender_nonce,
            recipient_rand_hash: params.recipient_rand_hash,
            expiration_params,
        }
    }

    /// The hashed bytes: 232, or 168 without a creation round (payments.md section 3).
    pub fn packed(&self) -> Vec<u8> {
        let aux_data = self.expiration_params.aux_data();
        let mut out = Vec::with_capacity(168 + aux_data.len());
        out.extend_from_slice(self.recipient.as_slice());
        out.extend_from_slice(self.sender.as_slice());
        out.extend_from_slice(&word(self.face_value.0));
        out.extend_from_slice(&word(self.win_prob));
        out.extend_from_slice(&word(U256::from(self.sender_nonce)));
        out.extend_from_slice(self.recipient_rand_hash.as_slice());
        out.extend_from_slice(&aux_data);
        out
    }

    /// The ticket hash, by which the chain remembers used tickets.
    pub fn hash(&self) -> B256 {
        keccak256(self.packed())
    }

    /// What the sender signs: the EIP-191 primitive straight over the 32-byte hash.
    pub fn digest(&self) -> B256 {
        eip191_digest(self.hash().as_slice())
    }

    /// Whether this ticket's sender signed it.
    pub fn verify(&self, signature: &Signature) -> Result<(), SignatureError> {
        signature.verify(&self.digest(), self.sender)
    }

    /// Worth of this ticket.
    pub fn ev(&self) -> Rational {
        ticket_ev(self.face_value, self.win_prob)
    }
}

/// `faceValue × winProb / (2^256 − 1)`, exactly (payments.md section 7).
pub fn ticket_ev(face_value: Wei, win_prob: U256) -> Rational {
    // A constant non-zero denominator: the conversion cannot fail.
    let chance = Rational::from_u256(win_prob, U256::MAX).unwrap_or_default();
    Rational::from(face_value) * chance
}

/// `u256(n)`: 32 bytes big-endian.
pub(crate) fn word(n: U256) -> [u8; 32] {
    n.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiration(round: u64, hash: u8) -> ExpirationParams {
        ExpirationParams {
            creation_round: round,
            creation_round_block_hash: B256::repeat_byte(hash),
        }
    }

    fn ticket(expiration_params: ExpirationParams) -> Ticket {
        Ticket {
            recipient: Address::ZERO,
            sender: Address::ZERO,
            face_value: Wei::ZERO,
            win_prob: U256::ZERO,
            sender_nonce: u32::MAX,
            recipient_rand_hash: B256::ZERO,
            expiration_params,
        }
    }

    #[test]
    fn aux_data_is_empty_only_if_both_parts_are_zero() {
        for (round, hash, bytes) in [(0, 0, 0), (1, 0, 64), (0, 1, 64), (1, 1, 64)] {
            let params = expiration(round, hash);
            assert_eq!(params.aux_data().len(), bytes, "round {round}, hash {hash}");
            assert_eq!(ticket(params).packed().len(), 168 + bytes);
            assert_eq!(params.is_complete(), round == 1 && hash == 1);
        }
        let aux = expiration(5, 7).aux_data();
        assert_eq!((aux[30..33].to_vec(), aux[63]), (vec![0, 5, 7], 7));
    }

    #[test]
    fn the_greatest_nonce_hashes_as_documented() {
        let hash = ticket(ExpirationParams::default()).hash().to_string();
        assert_eq!(hash, "0xe1393fc7f6de093780674022f96cb8e3872235167d037c04d554e58c0e63d280");
    }

    #[test]
    fn worth_is_out_of_two_to_the_256_less_one() {
        let ev = |face, prob| ticket_ev(Wei::from_u64(face), prob);
        assert_eq!(ev(1_000, U256::MAX), Rational::from(1_000_u64));
        assert_eq!(ev(1_000, U256::ZERO), Rational::ZERO);
        assert_eq!(ev(0, U256::MAX), Rational::ZERO);
        // Half of 2^256 is a little more than half.
        let half = ev(2, U256::from(1) << 255);
        assert!(half > Rational::ONE && half.to_fixed(70).starts_with("1.000000"));
        // 2^256 − 1 is divisible by 3.
        assert_eq!(ev(3, U256::MAX / U256::from(3)), Rational::ONE);
    }

    #[test]
    fn the_session_of_an_offer_is_its_hash_in_lower_case() {
        let params = TicketParams {
            recipient: Address::ZERO,
            face_value: Wei::ZERO,
            win_prob: U256::ZERO,
            recipient_rand_hash: B256::repeat_byte(0xab),
            seed: U256::ZERO,
            expiration_block: U256::ZERO,
            expiration_params: ExpirationParams::default(),
        };
        assert_eq!(params.pm_session_id().as_str(), format!("0x{}", "ab".repeat(32)));
    }
}
