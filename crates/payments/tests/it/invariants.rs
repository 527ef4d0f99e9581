//! What must hold whatever happens: no nonce twice, credits − debits = balance, altered tickets
//! never verify, worth never below the configured one, no more tickets than needed, no panic.

use crate::common::*;
use core::num::NonZeroU64;
use penstock_domain::{Address, B256, PriceInfo, Rational, U256, Wei};
use penstock_payments::*;
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

fn any_u256() -> impl Strategy<Value = U256> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(U256::from_be_bytes),
        any::<u64>().prop_map(U256::from),
        Just(U256::ZERO),
        Just(U256::MAX),
    ]
}

fn any_wei() -> impl Strategy<Value = Wei> {
    any_u256().prop_map(Wei)
}

fn any_rational() -> impl Strategy<Value = Rational> {
    (any::<i128>(), 1_u128..).prop_map(|(n, d)| Rational::new(n, d).unwrap())
}

fn small_rational() -> impl Strategy<Value = Rational> {
    (-10_000_i128..10_000, 1_u128..1_000).prop_map(|(n, d)| Rational::new(n, d).unwrap())
}

fn any_expiration() -> impl Strategy<Value = ExpirationParams> {
    (any::<u64>(), any::<[u8; 32]>()).prop_map(|(creation_round, hash)| ExpirationParams {
        creation_round,
        creation_round_block_hash: B256::from(hash),
    })
}

fn any_params() -> impl Strategy<Value = TicketParams> {
    (
        any::<[u8; 20]>(),
        any_wei(),
        any_u256(),
        any::<[u8; 32]>(),
        any_u256(),
        any_u256(),
        any_expiration(),
    )
        .prop_map(|(recipient, face_value, win_prob, hash, seed, block, expiration_params)| {
            TicketParams {
                recipient: Address::from(recipient),
                face_value,
                win_prob,
                recipient_rand_hash: B256::from(hash),
                seed,
                expiration_block: block,
                expiration_params,
            }
        })
}

/// One change of a ticket.
#[derive(Debug, Clone, Copy)]
enum Alteration {
    Recipient,
    Sender,
    FaceValue,
    WinProb,
    Nonce,
    RandHash,
    Round,
    BlockHash,
}

fn alteration() -> impl Strategy<Value = Alteration> {
    use Alteration::*;
    prop_oneof![
        Just(Recipient),
        Just(Sender),
        Just(FaceValue),
        Just(WinProb),
        Just(Nonce),
        Just(RandHash),
        Just(Round),
        Just(BlockHash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every field of a ticket is under the signature.
    #[test]
    fn an_altered_ticket_never_verifies(
        params in any_params(), nonce in any::<u32>(), what in alteration(), bit in 0_usize..8
    ) {
        let key = Key::new("sender");
        let ticket = Ticket::from_params(&params, params.expiration_params, key.address(), nonce);
        let signature = key.sign(&ticket.digest());
        prop_assert_eq!(ticket.verify(&signature), Ok(()));
        let mut altered = ticket.clone();
        let one = U256::from(1_u64 << bit);
        match what {
            Alteration::Recipient => altered.recipient.0[bit] ^= 1,
            Alteration::Sender => altered.sender.0[bit] ^= 1,
            Alteration::FaceValue => altered.face_value.0 ^= one,
            Alteration::WinProb => altered.win_prob ^= one,
            Alteration::Nonce => altered.sender_nonce ^= 1 << bit,
            Alteration::RandHash => altered.recipient_rand_hash.0[bit] ^= 1,
            Alteration::Round => altered.expiration_params.creation_round ^= 1 << bit,
            Alteration::BlockHash => {
                altered.expiration_params.creation_round_block_hash.0[bit] ^= 1;
            }
        }
        prop_assert_ne!(altered.hash(), ticket.hash());
        prop_assert!(altered.verify(&signature).is_err());
    }

    /// So is every bit of the signature, except those that make it malformed.
    #[test]
    fn an_altered_signature_never_verifies(nonce in any::<u32>(), at in 0_usize..520) {
        let key = Key::new("sender");
        let params = offer(key.address(), &r("1"), 1_000, 128);
        let ticket = Ticket::from_params(&params, params.expiration_params, key.address(), nonce);
        let mut bytes = *key.sign(&ticket.digest()).as_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        prop_assert!(ticket.verify(&Signature::from_bytes(bytes)).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A recipient under any traffic of one sender: payments with replays, gaps, broken signatures,
    /// before and after expiry. No nonce is recorded twice, every credit has a nonce of its own,
    /// and what was credited is the sum of the credits.
    #[test]
    fn a_nonce_is_never_used_twice(
        payments in vec((vec((0_u32..12, any::<bool>()), 0..5), 35_u64..43), 1..6)
    ) {
        let key = Key::new("sender");
        let price = PriceInfo::new(1, 1).unwrap();
        let params = offer(key.address(), &price.rational(), 1_000, 128);
        let secret = secret();
        let own = price.rational();
        let mut recorded = BTreeSet::new();
        let mut credited = BTreeSet::new();
        let mut account = Account::default();
        for (tickets, blocks) in payments {
            let mut sent = payment(&key, &params, price, tickets.iter().map(|(nonce, _)| *nonce));
            for (ticket, (_, broken)) in sent.tickets.iter_mut().zip(&tickets) {
                if *broken {
                    ticket.signature[3] ^= 0x40;
                }
            }
            let verified = verify_payment(&sent, &context(&secret)).unwrap();
            let seen: NonceSet = recorded.iter().copied().collect();
            let session = SessionPrice { fixed: None, own: &own };
            let outcome = verified.settle(seen, BLOCK + blocks, &session);
            let mut sum = Rational::ZERO;
            for effect in &outcome.effects {
                match effect {
                    Effect::RecordNonce { sender_nonce, .. } => {
                        prop_assert!(recorded.insert(*sender_nonce), "nonce {} twice", sender_nonce);
                    }
                    Effect::Credit { sender_nonce, ev } => {
                        prop_assert!(recorded.contains(sender_nonce));
                        prop_assert!(credited.insert(*sender_nonce));
                        prop_assert_eq!(ev, &params.ev());
                        sum += ev;
                        account.credit(ev);
                    }
                    Effect::QueueWinner(winner) => {
                        prop_assert_eq!(winner.ticket.verify(&winner.signature), Ok(()));
                    }
                    Effect::FixPrice(fixed) => prop_assert_eq!(fixed, &own),
                }
            }
            prop_assert_eq!(&outcome.credited, &sum);
        }
        let expected = params.ev() * Rational::from(credited.len() as u64);
        prop_assert_eq!(account.balance(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A sender's nonces go up one by one, start at 1 under each new offer, and never repeat.
    #[test]
    fn a_sender_never_repeats_a_nonce(batches in vec((0_u8..3, 1_u32..50), 1..40)) {
        let mut session = None;
        let mut used = BTreeSet::new();
        let mut offers = BTreeSet::new();
        for (offer, count) in batches {
            // An offer that was left is never come back to: its hash is fresh by its seed.
            let hash = match session {
                Some(SenderSession { recipient_rand_hash, .. }) if offer == 0 => recipient_rand_hash,
                _ => B256::from(U256::from(offers.len() + 1)),
            };
            offers.insert(hash);
            let mut now = SenderSession::resume(session, hash);
            let before = now.last_nonce;
            let nonces = now.take(count).unwrap();
            prop_assert_eq!(*nonces.start(), before + 1);
            prop_assert_eq!(nonces.clone().count() as u32, count);
            for nonce in nonces {
                prop_assert!(used.insert((hash, nonce)));
            }
            session = Some(now);
        }
    }

    #[test]
    fn credits_less_debits_are_the_balance_exactly(
        moves in vec((any::<bool>(), any_rational()), 0..20)
    ) {
        let mut account = Account::default();
        let mut expected = Rational::ZERO;
        for (is_credit, amount) in &moves {
            if *is_credit {
                account.credit(amount);
                expected += amount;
            } else {
                account.debit(amount);
                expected -= amount;
            }
        }
        prop_assert_eq!(account.balance(), expected);
        // Undone in reverse, nothing is left: no rounding anywhere.
        for (is_credit, amount) in moves.iter().rev() {
            if *is_credit { account.debit(amount) } else { account.credit(amount) }
        }
        prop_assert_eq!(account.balance(), Rational::ZERO);
    }

    /// The number of tickets covers the gap, and one less would not.
    #[test]
    fn num_tickets_is_minimal(
        existing in small_rational(), fee in small_rational(), ev in small_rational()
    ) {
        let update = stage_update(existing.clone(), &fee, &ev);
        let need = fee.clone().max(ev.clone());
        if existing >= need || !ev.is_positive() {
            prop_assert_eq!(update.num_tickets, 0);
        } else {
            prop_assert!(update.num_tickets > 0);
            prop_assert!(&existing + &update.new_credit >= need);
            prop_assert!(&(&existing + &update.new_credit) - &ev < need);
        }
        prop_assert_eq!(&update.new_credit, &(Rational::from(update.num_tickets) * ev));
        // However it ends, nothing appears from nowhere.
        let (new, old) = (update.new_credit.clone(), update.existing.clone());
        prop_assert_eq!(update.clone().settle(&Settlement::Staged), old.clone());
        prop_assert_eq!(update.clone().settle(&Settlement::CreditSpent), Rational::ZERO);
        let after = update.settle(&Settlement::ReceivedChange { debit: fee.clone() });
        prop_assert_eq!(after, &(old + new) - &fee);
    }

    /// The worth of an offered ticket is never below the configured one, and above it by less than
    /// `cfgEV × face / MAX`.
    #[test]
    fn an_offered_ticket_is_worth_its_price(
        ticket_ev in 1_u64.., gas in 1_u64..10_000_000, gas_price in any::<u64>(),
        max_float in any::<u128>(), cap in prop_oneof![Just(0_u64), any::<u64>()]
    ) {
        let config = OfferConfig {
            ticket_ev: Wei::from_u64(ticket_ev),
            redeem_gas: gas,
            max_face_value: Wei::from_u64(cap),
        };
        let max_float = Rational::from(U256::from(max_float));
        let gas_price = Wei::from_u64(gas_price);
        let Ok(face) = config.face_value(gas_price, &max_float) else { return Ok(()) };
        prop_assert!(Rational::from(face) <= max_float);
        prop_assert!(cap == 0 || face <= Wei::from_u64(cap));
        prop_assert!(face >= config.ticket_ev);
        let worth = penstock_payments::ticket_ev(face, config.win_prob(face));
        let configured = Rational::from(ticket_ev);
        prop_assert!(worth >= configured);
        let slack = penstock_payments::ticket_ev(face, config.ticket_ev.0);
        prop_assert!(worth <= &configured + &slack);
        let multiplier = config.tx_cost_multiplier(gas_price, &max_float).unwrap();
        prop_assert!(!multiplier.is_negative());
    }

    /// Whatever a peer puts into an offer, the sender's check answers, and what it accepts is
    /// within the limits.
    #[test]
    fn what_a_sender_accepts_is_within_its_limits(
        params in any_params(), num_tickets in any::<u64>(), deposit in any_wei(),
        reserve in any_wei(), withdraw_round in any::<u64>(), block in any::<u64>(),
        multiplier in 1_u64..
    ) {
        let limits = SenderLimits {
            deposit_multiplier: NonZeroU64::new(multiplier).unwrap(),
            ..SenderLimits::default()
        };
        let view = SenderView {
            last_seen_l1_block: block,
            last_initialized_round: ROUND,
            last_initialized_l1_block_hash: B256::ZERO,
            funds: Ok(SenderFunds { deposit, reserve_remaining: reserve, withdraw_round }),
        };
        if check_batch(Some(&params), num_tickets, &limits, &view).is_ok() {
            prop_assert!(params.ev() <= limits.max_ev);
            prop_assert!(params.ev() * Rational::from(num_tickets) <= limits.max_total_ev);
            prop_assert!(params.ev().is_zero() || params.face_value <= deposit);
        }
    }

    /// Live metering bills exactly the time that passed, less a fraction of one unit, however the
    /// ticks fall.
    #[test]
    fn metering_loses_no_fraction(
        rate in prop_oneof![Just(1_u64), Just(LV2V_PIXELS_PER_SECOND), 1_u64..1_000_000],
        interval_ms in 0_u64..10_000, steps in vec(0_u64..20_000_000_000, 0..30)
    ) {
        let start = 17;
        let mut meter = LiveMeter::new(rate, interval_ms, start);
        let (mut now, mut billed, mut last) = (start, 0_u128, start);
        for step in steps {
            now += step;
            if let Some(units) = meter.tick(now) {
                billed += u128::from(units);
                last = now;
            }
            let due = u128::from(rate) * u128::from(last - start);
            prop_assert_eq!(billed, due / 1_000_000_000);
        }
    }

    #[test]
    fn the_meter_and_the_biller_take_any_time(
        rate in any::<u64>(), interval in any::<u64>(), times in vec(any::<u64>(), 0..5),
        elapsed in any::<i128>(), units in any::<i64>()
    ) {
        let mut meter = LiveMeter::new(rate, interval, 0);
        for time in times {
            let _ = meter.tick(time);
        }
        for billing in ["lv2v", "live", "fixed", ""] {
            let billed = billable_units(billing.parse().unwrap(), elapsed, units);
            prop_assert!(billed != Ok(0));
        }
    }

    #[test]
    fn prices_and_floats_take_any_numbers(
        base in any_rational(), multiplier in any_rational(), deposit in any_wei(),
        reserve in any_wei(), claimed in any_wei(), mine in any_wei(), pool in any::<u64>(),
        pending in any_wei(), gas in any::<u64>(), gas_price in any_wei()
    ) {
        let price = price_with_overhead(&base, &multiplier);
        if let Ok(wire) = wire_price(&price) {
            prop_assert!(wire.rational() <= price);
        }
        let _ = wire_price_floored(&price);
        let float = SenderFloat {
            deposit,
            reserve_remaining: reserve,
            claimed_in_current_round: claimed,
            claimed_by_me: mine,
            pool_size: pool,
            pending,
        };
        prop_assert!(float.max_float() <= float.reserve_alloc());
        let config =
            OfferConfig { ticket_ev: mine, redeem_gas: gas, max_face_value: Wei::ZERO };
        if let Ok(face) = config.face_value(gas_price, &float.max_float()) {
            prop_assert!(Rational::from(face) <= float.max_float());
            prop_assert!(penstock_payments::ticket_ev(face, config.win_prob(face)) >= Rational::from(mine));
        }
        let _ = check_redemption(&float.available_funds(), reserve, gas, gas_price);
        let _ = subtract_pending(pending, reserve);
    }

    #[test]
    fn fees_take_any_renditions(
        renditions in vec(any::<[u32; 4]>(), 0..20), duration_ms in any::<u64>()
    ) {
        let renditions: Vec<_> = renditions
            .into_iter()
            .map(|[width, height, fps, fps_den]| RenditionRate { width, height, fps, fps_den })
            .collect();
        let pixels = estimated_pixels(&renditions, duration_ms);
        prop_assert!(fee_estimate(pixels, &Rational::ONE) >= Rational::from(pixels));
    }

    /// Rubbish in every place of a payment: an answer, never a panic, and never a credit.
    #[test]
    fn rubbish_payments_are_refused(
        params in any_params(), signature in vec(any::<u8>(), 0..70), nonce in any::<u32>(),
        price in (any::<i64>(), any::<i64>()), expiration in any_expiration(),
        withdraw_round in any::<u64>(), block in any::<u64>()
    ) {
        let params = TicketParams { recipient: RECIPIENT, ..params };
        let sent = Payment {
            sender: Some(Address::repeat_byte(3)),
            ticket_params: Some(params.clone()),
            expiration_params: expiration,
            tickets: vec![SignedNonce { sender_nonce: nonce, signature: signature.clone() }],
            expected_price: Some(PriceInfo::new(price.0, price.1)),
        };
        let secret = secret();
        let mut context = context(&secret);
        context.recipient.withdraw_round = Ok(withdraw_round);
        prop_assert!(verify_payment(&sent, &context).is_err());

        // With an offer of our own, the signature is what stops it.
        let sender = Address::repeat_byte(3);
        let mut own = TicketParams { expiration_params: expiration, ..params };
        rehash(&mut own, sender, &Rational::ONE);
        let sent = Payment {
            ticket_params: Some(own),
            expected_price: Some(PriceInfo::new(1, 1)),
            ..sent
        };
        context.recipient.withdraw_round = Ok(0);
        let one = Rational::ONE;
        let outcome = verify_payment(&sent, &context).unwrap().settle(
            NonceSet::default(),
            block,
            &SessionPrice { fixed: None, own: &one },
        );
        prop_assert!(matches!(outcome.error, Some(TicketError::Signature(_))));
        prop_assert!(outcome.effects.is_empty());
    }

    #[test]
    fn tokens_of_others_are_refused(
        token in vec(any::<u8>(), 0..40), session in "\\PC{0,12}", expiration in any::<i64>(),
        now in any::<i64>()
    ) {
        let secret = AuthTokenSecret::new([3; 32]);
        prop_assert_eq!(
            secret.check(&token, &session, expiration, now),
            Err(AuthTokenError::Invalid)
        );
        let _ = token_needs_refresh(now, expiration);
    }
}

/// Text of a few letters, from bytes: proptest's own string generator is twenty times slower.
fn letters(alphabet: &'static str) -> impl Strategy<Value = String> {
    (any::<[u8; 12]>(), 0_usize..12).prop_map(move |(bytes, length)| {
        let alphabet = alphabet.as_bytes();
        let pick = |byte: &u8| char::from(alphabet[usize::from(*byte) % alphabet.len()]);
        bytes.iter().take(length).map(pick).collect()
    })
}

proptest! {
    // The parsers of text that peers send.
    #![proptest_config(ProptestConfig::with_cases(100_000))]
    #[test]
    fn any_max_price_is_read_or_refused(
        price in letters("0123456789-+eE. "), currency in letters("we iWE"), sensible in any::<bool>()
    ) {
        let currency = if sensible { "wei" } else { currency.as_str() };
        if let Ok(price) = parse_max_price(&price, currency, "fixed", BillingType::Fixed) {
            prop_assert!(price.is_positive());
        }
    }

    #[test]
    fn any_signature_bytes_are_read_or_refused(bytes in any::<[u8; 70]>(), length in 60_usize..=70) {
        let bytes = &bytes[..length];
        prop_assert_eq!(Signature::from_slice(bytes).is_ok(), length == 65);
        if length != 65 {
            let refused = verify_bytes(bytes, &B256::ZERO, Address::ZERO);
            prop_assert_eq!(refused, Err(SignatureError::Length(length)));
        }
    }
}
