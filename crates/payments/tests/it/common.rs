//! Keys, offers and payments to test with. Signing is done by k256 here: this crate cannot sign.

use k256::ecdsa::SigningKey;
use penstock_domain::{Address, B256, PriceInfo, Rational, U256, Wei, keccak256};
use penstock_payments::*;

pub const RECIPIENT: Address = Address::repeat_byte(0xaa);
pub const BLOCK: u64 = 20_000_000;
pub const ROUND: u64 = 3_000;

pub struct Key(SigningKey);

impl Key {
    pub fn new(name: &str) -> Self {
        Self::from_bytes(keccak256(name.as_bytes()).0)
    }

    pub fn from_bytes(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_slice(&secret).unwrap())
    }

    pub fn address(&self) -> Address {
        let point = self.0.verifying_key().to_encoded_point(false);
        Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
    }

    pub fn sign(&self, digest: &B256) -> Signature {
        let (rs, id) = self.0.sign_prehash_recoverable(digest.as_slice()).unwrap();
        let mut bytes = [27 + id.to_byte(); 65];
        bytes[..64].copy_from_slice(&rs.to_bytes());
        Signature::from_bytes(bytes)
    }
}

pub fn r(text: &str) -> Rational {
    text.parse().unwrap()
}

pub fn secret() -> RecipientSecret {
    RecipientSecret::new([7; 32])
}

pub fn rounds() -> RoundView {
    RoundView {
        last_initialized_round: ROUND,
        l1_block_hash: B256::repeat_byte(0x33),
        previous_round_l1_block_hash: B256::repeat_byte(0x22),
        last_seen_l1_block: BLOCK,
    }
}

/// An offer in which about `wins_of_256` of 256 tickets win.
pub fn offer(sender: Address, price: &Rational, face_value: u64, wins_of_256: u64) -> TicketParams {
    let mut params = TicketParams {
        recipient: RECIPIENT,
        face_value: Wei::from_u64(face_value),
        win_prob: if wins_of_256 == 256 { U256::MAX } else { U256::from(wins_of_256) << 248 },
        recipient_rand_hash: B256::ZERO,
        seed: U256::from(0x5eed),
        expiration_block: U256::from(BLOCK + 40),
        expiration_params: rounds().expiration_params(),
    };
    rehash(&mut params, sender, price);
    params
}

/// Makes the params an offer of [`secret`] again.
pub fn rehash(params: &mut TicketParams, sender: Address, price: &Rational) {
    let round = params.expiration_params;
    params.seed = RandInputs::of(params, sender, price, &round).sealed_seed(&secret());
    params.recipient_rand_hash =
        RandInputs::of(params, sender, price, &round).recipient_rand(&secret()).hash();
}

pub fn signed(key: &Key, params: &TicketParams, nonce: u32) -> SignedNonce {
    let ticket = Ticket::from_params(params, params.expiration_params, key.address(), nonce);
    let signature = key.sign(&ticket.digest()).as_bytes().to_vec();
    SignedNonce { sender_nonce: nonce, signature }
}

pub fn payment(
    key: &Key,
    params: &TicketParams,
    price: PriceInfo,
    nonces: impl IntoIterator<Item = u32>,
) -> Payment {
    Payment {
        sender: Some(key.address()),
        ticket_params: Some(params.clone()),
        expiration_params: params.expiration_params,
        tickets: nonces.into_iter().map(|nonce| signed(key, params, nonce)).collect(),
        expected_price: Some(Ok(price)),
    }
}

pub fn context(secret: &RecipientSecret) -> PaymentContext<'_> {
    PaymentContext {
        recipient: RecipientContext {
            recipient: RECIPIENT,
            secret,
            withdraw_round: Ok(0),
            last_initialized_round: ROUND,
        },
        recipient_active: true,
    }
}
