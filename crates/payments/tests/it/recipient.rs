//! The recipient's checks row by row, in their order (payments.md sections 10 and 17).

use crate::common::*;
use penstock_domain::{Address, B256, PriceInfo, Rational, U256, Wei, be_bytes};
use penstock_payments::*;

struct Case {
    key: Key,
    params: TicketParams,
    price: Rational,
    secret: RecipientSecret,
    withdraw_round: Result<u64, String>,
    block: u64,
    seen: NonceSet,
}

impl Case {
    fn new() -> Self {
        let (key, price) = (Key::new("sender"), r("201/200"));
        let params = offer(key.address(), &price, 1_000, 128);
        Self {
            key,
            params,
            price,
            secret: secret(),
            withdraw_round: Ok(0),
            block: BLOCK,
            seen: NonceSet::default(),
        }
    }

    fn sign(&self, nonce: u32) -> Vec<u8> {
        signed(&self.key, &self.params, nonce).signature
    }

    fn receive_from(&mut self, sender: Address, nonce: u32, signature: &[u8]) -> Admission {
        let context = RecipientContext {
            recipient: RECIPIENT,
            secret: &self.secret,
            withdraw_round: self.withdraw_round.clone(),
            last_initialized_round: ROUND,
        };
        let claim = OfferClaim {
            sender,
            params: &self.params,
            expiration_params: self.params.expiration_params,
            price: &self.price,
        };
        receive_ticket(&context, &claim, nonce, signature, &mut self.seen, self.block)
    }

    fn receive(&mut self, nonce: u32) -> Admission {
        let signature = self.sign(nonce);
        self.receive_from(self.key.address(), nonce, &signature)
    }

    fn error(&mut self, nonce: u32) -> TicketError {
        self.receive(nonce).result.unwrap_err()
    }

    /// A nonce whose ticket wins, and one whose ticket loses.
    fn nonce_that(&mut self, wins: bool) -> u32 {
        (1..)
            .find(|nonce| {
                let admission = self.receive(*nonce);
                self.seen = NonceSet::default();
                admission.won == wins
            })
            .unwrap()
    }
}

fn is_fatal(error: &TicketError) -> bool {
    assert_eq!(
        error.is_fatal(),
        !matches!(
            error,
            TicketError::Signature(_) | TicketError::Nonce { .. } | TicketError::Expired
        )
    );
    error.is_fatal()
}

#[test]
fn row_1_a_sender_that_unlocks_soon_is_refused() {
    for (withdraw_round, refused) in
        [(0, false), (1, true), (ROUND, true), (ROUND + 1, true), (ROUND + 2, false)]
    {
        let mut case = Case::new();
        case.withdraw_round = Ok(withdraw_round);
        let result = case.receive(1).result;
        assert_eq!(result.is_err(), refused, "withdraw round {withdraw_round}");
        if let Err(error) = result {
            assert!(is_fatal(&error));
            assert_eq!(
                error.to_string(),
                format!(
                    "deposit and reserve for sender {} is set to unlock soon",
                    case.key.address()
                )
            );
        }
    }
    let mut case = Case::new();
    case.withdraw_round = Err("no route".into());
    let error = case.error(1);
    assert!(is_fatal(&error));
    let text = format!("could not get sender info for {}: no route", case.key.address());
    assert_eq!(error.to_string(), text);
}

#[test]
fn row_2_the_recipient_is_this_one() {
    let mut case = Case::new();
    case.params.recipient = Address::repeat_byte(1);
    let error = case.error(1);
    assert_eq!(error.to_string(), "invalid ticket recipient");
    assert!(is_fatal(&error));
}

#[test]
fn row_3_the_sender_is_somebody() {
    let mut case = Case::new();
    let admission = case.receive_from(Address::ZERO, 1, &[0; 65]);
    let error = admission.result.unwrap_err();
    assert_eq!(error.to_string(), "invalid ticket sender");
    assert!(is_fatal(&error));
}

#[test]
fn row_4_an_altered_offer_is_not_recognised() {
    type Alteration = (&'static str, fn(&mut Case));
    let alterations: [Alteration; 9] = [
        ("face value", |c| c.params.face_value = Wei::from_u64(1_001)),
        ("win probability", |c| c.params.win_prob += U256::from(1)),
        ("expiration", |c| c.params.expiration_block += U256::from(1)),
        ("price", |c| c.price = r("1")),
        ("round", |c| c.params.expiration_params.creation_round += 1),
        ("block hash", |c| {
            c.params.expiration_params.creation_round_block_hash = B256::repeat_byte(9);
        }),
        ("seed", |c| c.params.seed += U256::from(1)),
        ("hash", |c| c.params.recipient_rand_hash = B256::repeat_byte(9)),
        ("secret of a restart", |c| c.secret = RecipientSecret::new([8; 32])),
    ];
    for (what, alter) in alterations {
        let mut case = Case::new();
        alter(&mut case);
        let error = case.error(1);
        assert_eq!(error, TicketError::RecipientRand, "{what}");
        assert_eq!(error.to_string(), "invalid recipientRand for ticket recipientRandHash");
        assert!(is_fatal(&error));
        assert!(case.seen.is_empty());
    }
    // Another sender's offer is not this sender's.
    let mut case = Case::new();
    let admission = case.receive_from(Address::repeat_byte(3), 1, &[0; 65]);
    assert_eq!(admission.result, Err(TicketError::RecipientRand));
}

#[test]
fn row_5_a_bad_signature_is_not_fatal_and_records_nothing() {
    let mut case = Case::new();
    for signature in [vec![], vec![0; 64], vec![1; 65], case.sign(2)] {
        let admission = case.receive_from(case.key.address(), 1, &signature);
        assert!(!admission.won && !admission.nonce_recorded);
        let error = admission.result.unwrap_err();
        assert_eq!(error.to_string(), "invalid ticket signature");
        assert!(!is_fatal(&error));
    }
    assert!(case.seen.is_empty());
    assert_eq!(case.receive(1).result, Ok(()));
}

#[test]
fn row_7_replays_are_refused_in_any_order() {
    let mut case = Case::new();
    for nonce in [5, 3, 0, u32::MAX] {
        assert_eq!(case.receive(nonce).result, Ok(()));
    }
    for nonce in [0, 3, 5, u32::MAX] {
        let admission = case.receive(nonce);
        assert!(!admission.nonce_recorded);
        let error = admission.result.unwrap_err();
        assert!(!is_fatal(&error));
        let sender = case.key.address();
        assert_eq!(
            error.to_string(),
            format!("invalid ticket senderNonce: already seen sender={sender} nonce={nonce}")
        );
    }
    assert_eq!(case.seen.len(), 4);
}

#[test]
fn row_8_six_hundred_nonces_pass() {
    let mut case = Case::new();
    case.seen = (1..600).collect();
    assert_eq!(case.receive(1_000).result, Ok(()));
    let error = case.error(2_000);
    let sender = case.key.address();
    assert_eq!(
        error.to_string(),
        format!("invalid ticket senderNonce: too many values sender={sender} nonce=2000")
    );
    assert!(!is_fatal(&error));
    // A replay is still called a replay.
    let replay = case.error(1_000);
    assert!(matches!(replay, TicketError::Nonce { reason: NonceError::AlreadySeen, .. }));
}

#[test]
fn row_9_an_expired_offer_records_the_nonce_and_may_have_won() {
    let expiration = BLOCK + 40;
    for (block, expired) in [(expiration - 1, false), (expiration, true), (u64::MAX, true)] {
        let mut case = Case::new();
        case.block = block;
        let admission = case.receive(1);
        assert_eq!(admission.result == Err(TicketError::Expired), expired, "block {block}");
        assert!(admission.nonce_recorded);
    }
    let mut case = Case::new();
    case.block = expiration;
    let nonce = case.nonce_that(true);
    let admission = case.receive(nonce);
    assert_eq!((admission.won, admission.nonce_recorded), (true, true));
    let error = admission.result.unwrap_err();
    assert_eq!(error.to_string(), "TicketParams expired");
    assert!(!is_fatal(&error));
}

#[test]
fn a_winner_stays_one_when_its_nonce_is_refused() {
    let mut case = Case::new();
    let nonce = case.nonce_that(true);
    assert!(case.receive(nonce).won);
    let replay = case.receive(nonce);
    assert!(replay.won && replay.result.is_err());
    let nonce = case.nonce_that(false);
    assert!(!case.receive(nonce).won);
}

#[test]
fn the_first_failing_row_decides() {
    let mut case = Case::new();
    case.withdraw_round = Ok(1);
    case.params.recipient = Address::ZERO;
    assert!(matches!(case.error(1), TicketError::SenderUnlocking(_)));
    case.withdraw_round = Ok(0);
    case.params.recipient_rand_hash = B256::ZERO;
    assert_eq!(case.receive_from(Address::ZERO, 1, &[]).result, Err(TicketError::Recipient));
    case.params.recipient = RECIPIENT;
    assert_eq!(case.receive_from(Address::ZERO, 1, &[]).result, Err(TicketError::Sender));
    assert_eq!(case.error(1), TicketError::RecipientRand);

    let mut case = Case::new();
    case.block = u64::MAX;
    case.seen = (0..600).collect();
    let bad = case.receive_from(case.key.address(), 1, &[1; 65]);
    assert!(matches!(bad.result, Err(TicketError::Signature(_))));
    let refused = |error| match error {
        TicketError::Nonce { reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert_eq!(refused(case.error(1)), NonceError::AlreadySeen);
    assert_eq!(refused(case.error(601)), NonceError::TooMany);
    case.seen = NonceSet::default();
    assert_eq!(case.error(1), TicketError::Expired);
}

#[test]
fn an_offer_is_recognised_without_being_stored() {
    let (key, price) = (Key::new("sender"), r("4/6"));
    let config =
        OfferConfig { ticket_ev: Wei::from_u64(5), redeem_gas: 10_000, max_face_value: Wei::ZERO };
    let max_float = r("10000000000");
    let request = OfferRequest {
        recipient: RECIPIENT,
        sender: key.address(),
        price: &price,
        gas_price: Wei::from_u64(100),
        max_float: &max_float,
        rounds: rounds(),
        seed: U256::from(99),
    };
    let params = make_offer(&config, &secret(), &request).unwrap();
    assert_eq!(params.expiration_block, U256::from(BLOCK + 40));
    assert_eq!(params.face_value, Wei::from_u64(100_000_000));
    let sent = payment(&key, &params, PriceInfo::new(2, 3).unwrap(), [1]);
    let secret = secret();
    assert!(verify_payment(&sent, &context(&secret)).is_ok());
}

/// The recipientRand's inputs run together without separators (payments.md section 5), so other
/// numbers with the same bytes have the same recipientRandHash. They are still not the offer: bytes
/// of the price moved into the expiration would make the work free and its winners never payable,
/// bytes of the probability moved into the face value would inflate the credit.
#[test]
fn bytes_moved_between_the_fields_of_an_offer_are_noticed() {
    let (key, secret) = (Key::new("sender"), secret());
    let (price, float) = (r("1000"), r("1000000000000000000"));
    let config = OfferConfig {
        ticket_ev: Wei::from_u64(8_000_000_000),
        redeem_gas: 1_200_000,
        max_face_value: Wei::ZERO,
    };
    let request = OfferRequest {
        recipient: RECIPIENT,
        sender: key.address(),
        price: &price,
        gas_price: Wei::from_u64(100_000_000),
        max_float: &float,
        rounds: rounds(),
        seed: U256::from(99),
    };
    let offered = make_offer(&config, &secret, &request).unwrap();
    let message = |params: &TicketParams, price: &Rational| {
        RandInputs::of(params, key.address(), price, &params.expiration_params).message()
    };
    let joined =
        |high: U256, low: &[u8]| low.iter().fold(high, |n, byte| (n << 8) | U256::from(*byte));
    // 1000 is 03 e8: one byte of it moved, then both.
    let expiration = |bytes: &[u8]| TicketParams {
        expiration_block: joined(offered.expiration_block, bytes),
        ..offered.clone()
    };
    let win_prob = be_bytes(offered.win_prob);
    let face = TicketParams {
        face_value: Wei(joined(offered.face_value.0, &win_prob[..1])),
        win_prob: U256::from_be_slice(&win_prob[1..]),
        ..offered.clone()
    };
    for (forged, price, wire) in [
        (expiration(&[3]), r("232"), PriceInfo::new(232, 1)),
        (expiration(&[3, 0xe8]), Rational::ZERO, PriceInfo::new(0, 1)),
        (face, r("1000"), PriceInfo::new(1000, 1)),
    ] {
        assert_eq!(message(&forged, &price), message(&offered, &r("1000")), "the same bytes");
        let sent = payment(&key, &forged, wire.unwrap(), [1]);
        let refused = verify_payment(&sent, &context(&secret)).map(|_| ()).unwrap_err();
        assert_eq!(refused, PaymentError::Ticket(TicketError::RecipientRand));
    }
    let sent = payment(&key, &offered, PriceInfo::new(1000, 1).unwrap(), [1]);
    assert!(verify_payment(&sent, &context(&secret)).is_ok());
}
