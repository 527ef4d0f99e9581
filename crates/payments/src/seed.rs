//! The seal in an offer's seed: by it the recipient knows its own numbers again, field by field.
//!
//! recipientRand alone does not tell: its inputs are minimal integers without separators
//! (payments.md section 5), so bytes can be moved from one field to the next and the hash stays.
//! A price whose bytes moved into the expiration makes work free and its winners unpayable until
//! that block; a probability whose bytes moved into the face value inflates every credit. The seed
//! is the recipient's to choose and comes back with every payment, so its lower half is a MAC over
//! all inputs in fixed places. On the wire nothing changes.
//!
//! The price says nothing of the work that it was asked for. So the upper half, which is the recipient's own
//! as well, may bear the work's mark: by it every process that has the secret knows what an offer was made
//! for, and nobody has to remember offers.

use crate::rand::{RandInputs, RecipientSecret, hmac_sha256};
use penstock_domain::U256;
use subtle::ConstantTimeEq;

/// Makes the key of the seals out of the recipient's secret. Shorter than any recipientRand
/// message (a sender alone has 20 bytes), so that the two uses of the secret cannot meet.
const PURPOSE: &[u8; 18] = b"penstock seed seal";
/// The same for the marks of work; of another length, so that these keys do not meet either.
const WORK_PURPOSE: &[u8; 19] = b"penstock offer work";
/// Bits of a work's mark, the lower half of a seed's upper half.
const WORK_BITS: usize = 64;
/// Bits of the seal, the lower half of a seed; the upper half stays random.
const SEAL_BITS: usize = 128;

/// The seed of an offer with these inputs: the lower half of `inputs.seed`, which is random, moved
/// up, and the seal under it.
pub(crate) fn sealed_seed(inputs: &RandInputs<'_>, secret: &RecipientSecret) -> U256 {
    let random = inputs.seed << SEAL_BITS;
    random | seal(random, inputs, secret)
}

/// Whether the seed in `inputs` was made for exactly the other inputs.
pub(crate) fn is_sealed(inputs: &RandInputs<'_>, secret: &RecipientSecret) -> bool {
    let random = (inputs.seed >> SEAL_BITS) << SEAL_BITS;
    let expected = random | seal(random, inputs, secret);
    bool::from(expected.to_be_bytes::<32>().ct_eq(&inputs.seed.to_be_bytes::<32>()))
}

/// What [`crate::OfferRequest::seed`] has to be for an offer for this work; `random` is of a secure generator.
pub(crate) fn seed_for_work(random: [u8; 8], work: &str, secret: &RecipientSecret) -> U256 {
    let random = u64::from_be_bytes(random);
    U256::from(random) << WORK_BITS | U256::from(work_mark(random, work, secret))
}

/// Whether an offer whose seed is sealed was made for this work.
pub(crate) fn is_for_work(seed: U256, work: &str, secret: &RecipientSecret) -> bool {
    let upper: U256 = seed >> SEAL_BITS;
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, rest @ ..] = upper.to_be_bytes::<32>();
    let (random, mark) = rest.split_at(8);
    let random = random.try_into().map_or(0, u64::from_be_bytes);
    bool::from(work_mark(random, work, secret).to_be_bytes().ct_eq(mark))
}

fn work_mark(random: u64, work: &str, secret: &RecipientSecret) -> u64 {
    let key = hmac_sha256(secret.as_bytes(), WORK_PURPOSE);
    let message = [&random.to_be_bytes(), work.as_bytes()].concat();
    let [a, b, c, d, e, f, g, h, ..] = hmac_sha256(&key, &message);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn seal(random: U256, inputs: &RandInputs<'_>, secret: &RecipientSecret) -> U256 {
    let mut message = Vec::with_capacity(320);
    let round = inputs.expiration_params;
    for number in [
        random,
        inputs.face_value.0,
        inputs.win_prob,
        inputs.expiration_block,
        U256::from(round.creation_round),
    ] {
        message.extend_from_slice(&number.to_be_bytes::<32>());
    }
    message.extend_from_slice(inputs.sender.as_slice());
    message.extend_from_slice(round.creation_round_block_hash.as_slice());
    // The one part of open length comes last, and says where it is divided.
    message.extend_from_slice(inputs.price.to_string().as_bytes());
    let key = hmac_sha256(secret.as_bytes(), PURPOSE);
    U256::from_be_bytes(hmac_sha256(&key, &message)) >> SEAL_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticket::ExpirationParams;
    use penstock_domain::{Address, B256, Rational, Wei};

    #[test]
    fn an_offer_is_for_its_work_and_no_other() {
        let (secret, other) = (RecipientSecret::new([7; 32]), RecipientSecret::new([8; 32]));
        let price = Rational::ONE;
        let params = ExpirationParams { creation_round: 9, creation_round_block_hash: B256::ZERO };
        for work in ["", "31_whisper", "33_m"] {
            let mut inputs = RandInputs {
                seed: seed_for_work([5; 8], work, &secret),
                sender: Address::repeat_byte(5),
                face_value: Wei::from_u64(10),
                win_prob: U256::from(11),
                expiration_block: U256::from(12),
                price: &price,
                expiration_params: &params,
            };
            inputs.seed = sealed_seed(&inputs, &secret);
            assert!(is_sealed(&inputs, &secret) && is_for_work(inputs.seed, work, &secret));
            assert!(!is_for_work(inputs.seed, "35_m", &secret), "{work}");
            assert!(!is_for_work(inputs.seed, work, &other), "{work}");
            assert!(!is_for_work(inputs.seed ^ (U256::from(1) << 200), work, &secret), "{work}");
            assert!(!is_for_work(inputs.seed ^ (U256::from(1) << 130), work, &secret), "{work}");
        }
        assert!(!is_for_work(U256::MAX, "", &secret), "an offer without a mark");
    }

    #[test]
    fn a_seal_holds_for_its_inputs_and_key_only() {
        let (price, dearer): (Rational, Rational) = ("2/3".parse().unwrap(), "3".parse().unwrap());
        let params = ExpirationParams { creation_round: 9, creation_round_block_hash: B256::ZERO };
        let later = ExpirationParams { creation_round: 10, ..params };
        let hashed = ExpirationParams { creation_round_block_hash: B256::repeat_byte(1), ..params };
        let secret = RecipientSecret::new([7; 32]);
        let mut inputs = RandInputs {
            seed: U256::MAX,
            sender: Address::repeat_byte(5),
            face_value: Wei::from_u64(10),
            win_prob: U256::from(11),
            expiration_block: U256::from(12),
            price: &price,
            expiration_params: &params,
        };
        inputs.seed = sealed_seed(&inputs, &secret);
        assert_eq!(inputs.seed >> SEAL_BITS, U256::from(u128::MAX), "the random half is kept");
        assert!(is_sealed(&inputs, &secret));
        assert!(!is_sealed(&inputs, &RecipientSecret::new([8; 32])));
        let one = U256::from(1);
        for (what, changed) in [
            ("seal", RandInputs { seed: inputs.seed ^ one, ..inputs }),
            ("random half", RandInputs { seed: inputs.seed ^ (one << 200), ..inputs }),
            ("sender", RandInputs { sender: Address::ZERO, ..inputs }),
            ("face value", RandInputs { face_value: Wei::from_u64(11), ..inputs }),
            ("probability", RandInputs { win_prob: U256::from(10), ..inputs }),
            ("expiration", RandInputs { expiration_block: U256::from(13), ..inputs }),
            ("price", RandInputs { price: &dearer, ..inputs }),
            ("round", RandInputs { expiration_params: &later, ..inputs }),
            ("block hash", RandInputs { expiration_params: &hashed, ..inputs }),
        ] {
            assert!(!is_sealed(&changed, &secret), "{what}");
        }
    }
}
