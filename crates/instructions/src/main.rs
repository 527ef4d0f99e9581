//! `penstock-instructions FUNCTION TIMES`: one hot function of the money core, so many times. What surrounds it
//! is the same whatever TIMES is, so the difference between two runs under callgrind is the function's own
//! instructions: a figure that does not depend on the machine's load (`cargo xtask instructions`).
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a wrong word ends it, and the names are its output"
)]

use k256::ecdsa::SigningKey;
use penstock_domain::{Address, B256, PriceInfo, Rational, U256, Wei, keccak256};
use penstock_payments::{
    NonceSet, OfferConfig, OfferRequest, Payment, PaymentContext, RecipientContext,
    RecipientSecret, RoundView, SenderFunds, SenderLimits, SenderView, SessionPrice, Settlement,
    Signature, SignedNonce, Ticket, TicketParams, build_batch, check_batch, fee, make_offer,
    segment_digest, stage_update, verify_payment,
};
use std::hint::black_box;

const RECIPIENT: Address = Address::repeat_byte(0xaa);
const L1_BLOCK: u64 = 20_000_000;
const ROUND: u64 = 3_000;
const TICKETS: u32 = 10;
const MANY_TICKETS: u32 = 100;

/// What all functions work on.
struct World {
    key: SigningKey,
    sender: Address,
    secret: RecipientSecret,
    price: Rational,
    params: TicketParams,
    ticket: Ticket,
    signature: Signature,
    payment: Payment,
    large_payment: Payment,
}

type Hot = fn(&World);

/// By name.
const FUNCTIONS: [(&str, Hot); 9] = [
    ("offer_made", |world| {
        black_box(offer(black_box(world.sender), &world.secret, &world.price));
    }),
    ("ticket_digest", |world| {
        black_box(black_box(&world.ticket).digest());
    }),
    ("ticket_verified", |world| {
        black_box(&world.ticket).verify(&world.signature).expect("its sender's");
    }),
    ("payment_of_ten_verified", |world| {
        black_box(
            verify_payment(black_box(&world.payment), &context(&world.secret)).expect("good"),
        );
    }),
    ("payment_of_ten_verified_and_settled", |world| {
        let verified =
            verify_payment(black_box(&world.payment), &context(&world.secret)).expect("good");
        let session = SessionPrice { fixed: Some(&world.price), own: &world.price };
        let outcome = verified.settle(NonceSet::default(), L1_BLOCK, &session);
        assert!(outcome.error.is_none() && outcome.credited.is_positive());
        black_box(outcome);
    }),
    ("payment_of_a_hundred_verified", |world| {
        black_box(
            verify_payment(black_box(&world.large_payment), &context(&world.secret)).expect("good"),
        );
    }),
    ("batch_of_ten_checked_and_built", |world| {
        let funds = SenderFunds {
            deposit: Wei::from_u64(u64::MAX),
            reserve_remaining: Wei::from_u64(u64::MAX),
            withdraw_round: 0,
        };
        let view = SenderView {
            last_seen_l1_block: L1_BLOCK,
            last_initialized_round: ROUND,
            last_initialized_l1_block_hash: B256::repeat_byte(0x33),
            funds: Ok(funds),
        };
        let params = black_box(&world.params);
        check_batch(Some(params), TICKETS.into(), &SenderLimits::default(), &view).expect("good");
        black_box(build_batch(params, params.expiration_params, world.sender, 1..=TICKETS));
    }),
    ("job_priced_and_charged", |world| {
        let due = fee(black_box(1280 * 720 * 30 * 2), &world.price);
        let staged = stage_update(Rational::from(black_box(12_345_u64)), &due, &world.params.ev());
        black_box(staged.settle(&Settlement::ReceivedChange { debit: due }));
    }),
    ("segment_digest", |world| {
        let names = ["P240p30fps16x9", "P360p30fps16x9", "P720p30fps16x9"];
        let data = B256::from(world.params.seed);
        black_box(segment_digest(black_box(b"f0a1b2c3d4e5f6a7"), 42, &data, &names));
    }),
];

fn context(secret: &RecipientSecret) -> PaymentContext<'_> {
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

fn offer(sender: Address, secret: &RecipientSecret, price: &Rational) -> TicketParams {
    let config = OfferConfig {
        ticket_ev: Wei::from_u64(8_000_000_000),
        redeem_gas: 350_000,
        max_face_value: Wei::ZERO,
    };
    let rounds = RoundView {
        last_initialized_round: ROUND,
        l1_block_hash: B256::repeat_byte(0x33),
        previous_round_l1_block_hash: B256::repeat_byte(0x22),
        last_seen_l1_block: L1_BLOCK,
    };
    let request = OfferRequest {
        recipient: RECIPIENT,
        sender,
        price,
        gas_price: Wei::from_u64(10_000_000),
        max_float: &Rational::from(10_000_000_000_000_000_000_u64),
        rounds,
        seed: U256::from(0x5eed),
    };
    make_offer(&config, secret, &request).expect("an offer")
}

impl World {
    fn new() -> Self {
        let key = SigningKey::from_slice(keccak256(b"sender").as_slice()).expect("a key");
        let point = key.verifying_key().to_encoded_point(false);
        let hash = keccak256(point.as_bytes().get(1..).expect("a point"));
        let sender = Address::from_slice(hash.get(12..).expect("a hash"));
        let secret = RecipientSecret::new([7; 32]);
        let stated = PriceInfo::new(1_201, 1_000).expect("a price");
        let price = stated.rational();
        let params = offer(sender, &secret, &price);
        let of = |nonce| Ticket::from_params(&params, params.expiration_params, sender, nonce);
        let sign = |ticket: &Ticket| {
            let digest = ticket.digest();
            let (rs, id) = key.sign_prehash_recoverable(digest.as_slice()).expect("signed");
            let mut bytes = [27 + id.to_byte(); 65];
            bytes[..64].copy_from_slice(&rs.to_bytes());
            Signature::from_bytes(bytes)
        };
        let payment_of = |tickets| {
            let tickets = (1..=tickets).map(|sender_nonce| {
                let signature = sign(&of(sender_nonce)).as_bytes().to_vec();
                SignedNonce { sender_nonce, signature }
            });
            Payment {
                sender: Some(sender),
                ticket_params: Some(params.clone()),
                expiration_params: params.expiration_params,
                tickets: tickets.collect(),
                expected_price: Some(Ok(stated)),
            }
        };
        let (payment, large_payment) = (payment_of(TICKETS), payment_of(MANY_TICKETS));
        let ticket = of(1);
        let signature = sign(&ticket);
        Self { key, sender, secret, price, params, ticket, signature, payment, large_payment }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = words.as_slice() else {
        for (name, _) in FUNCTIONS {
            println!("{name}");
        }
        return;
    };
    let (_, hot) = FUNCTIONS.iter().find(|(known, _)| known == name).expect("a known function");
    let times: u32 = times.parse().expect("a number of times");
    let world = World::new();
    for _ in 0..times {
        hot(&world);
    }
    black_box(&world.key);
}
