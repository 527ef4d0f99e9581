//! Whole payments: what is stored, credited and answered (payments.md section 11).

use crate::common::*;
use penstock_domain::{Address, BadPrice, PriceInfo, Rational, U256, Wei};
use penstock_payments::*;

const PRICE: (i64, i64) = (201, 200);

fn price() -> PriceInfo {
    PriceInfo::new(PRICE.0, PRICE.1).unwrap()
}

fn verify(payment: &Payment) -> Result<VerifiedPayment, PaymentError> {
    let secret = secret();
    verify_payment(payment, &context(&secret))
}

/// A session without a fixed price at a recipient that asks [`price`].
fn settle(payment: &Payment, seen: NonceSet, block: u64) -> PaymentOutcome {
    let own = price().rational();
    verify(payment).unwrap().settle(seen, block, &SessionPrice { fixed: None, own: &own })
}

fn sender_and_offer(wins_of_256: u64) -> (Key, TicketParams) {
    let key = Key::new("sender");
    let params = offer(key.address(), &price().rational(), 1_000, wins_of_256);
    (key, params)
}

fn credits(outcome: &PaymentOutcome) -> Vec<u32> {
    let credited = outcome.effects.iter().filter_map(|effect| match effect {
        Effect::Credit { sender_nonce, .. } => Some(*sender_nonce),
        _ => None,
    });
    credited.collect()
}

fn recorded(outcome: &PaymentOutcome) -> Vec<u32> {
    let recorded = outcome.effects.iter().filter_map(|effect| match effect {
        Effect::RecordNonce { sender_nonce, .. } => Some(*sender_nonce),
        _ => None,
    });
    recorded.collect()
}

fn winners(outcome: &PaymentOutcome) -> Vec<&Winner> {
    let queued = outcome.effects.iter().filter_map(|effect| match effect {
        Effect::QueueWinner(winner) => Some(winner.as_ref()),
        _ => None,
    });
    queued.collect()
}

fn fixed(outcome: &PaymentOutcome) -> Option<&Rational> {
    outcome.effects.iter().find_map(|effect| match effect {
        Effect::FixPrice(price) => Some(price),
        _ => None,
    })
}

#[test]
fn a_good_payment_is_credited_whole() {
    let (key, params) = sender_and_offer(0);
    let outcome = settle(&payment(&key, &params, price(), [1, 2, 3]), NonceSet::default(), BLOCK);
    assert_eq!(outcome.error, None);
    assert_eq!(credits(&outcome), [1, 2, 3]);
    assert_eq!(recorded(&outcome), [1, 2, 3]);
    assert!(winners(&outcome).is_empty());
    assert_eq!(outcome.credited, params.ev() * Rational::from(3_u64));
    assert_eq!(fixed(&outcome), Some(&r("201/200")));
    let key_of_set = outcome.effects.iter().find_map(|effect| match effect {
        Effect::RecordNonce { recipient_rand_hash, expiration_block, .. } => {
            Some((*recipient_rand_hash, *expiration_block))
        }
        _ => None,
    });
    assert_eq!(key_of_set, Some((params.recipient_rand_hash, params.expiration_block)));
}

#[test]
fn a_winner_carries_all_that_redemption_needs() {
    let (key, params) = sender_and_offer(256);
    let sent = payment(&key, &params, price(), [9]);
    let outcome = settle(&sent, NonceSet::default(), BLOCK);
    let queued = winners(&outcome);
    assert_eq!(queued.len(), 1);
    let winner = queued[0];
    assert_eq!(winner.ticket.verify(&winner.signature), Ok(()));
    assert_eq!(winner.ticket_hash, winner.ticket.hash());
    assert_eq!(winner.ticket.sender_nonce, 9);
    assert_eq!(winner.recipient_rand.hash(), params.recipient_rand_hash);
    assert_eq!(winner.params_expiration_block, params.expiration_block);
    assert!(wins(&winner.signature, &winner.recipient_rand, winner.ticket.win_prob));
    // It is kept out of logs until the chain sees it.
    let printed = format!("{winner:?} {outcome:?}");
    assert!(!printed.contains(&hex::encode(winner.recipient_rand.as_bytes())));
    assert!(printed.contains("RecipientRand(…)"));
}

/// What a redeemer finds out about a winner that it is brought.
#[test]
fn a_winner_proves_itself() {
    let (key, params) = sender_and_offer(256);
    let outcome = settle(&payment(&key, &params, price(), [9]), NonceSet::default(), BLOCK);
    let good = winners(&outcome)[0].clone();
    assert_eq!(good.prove(), Ok(()));
    let spoiled = |spoil: fn(&mut Winner)| {
        let mut winner = good.clone();
        spoil(&mut winner);
        winner.prove().unwrap_err()
    };
    assert_eq!(spoiled(|w| w.ticket.face_value = Wei::ZERO), NotAWinner::Worthless);
    assert_eq!(spoiled(|w| w.ticket.sender = Address::ZERO), NotAWinner::Sender);
    let another = |w: &mut Winner| w.recipient_rand = RecipientRand::from_bytes([1; 32]);
    assert_eq!(spoiled(another), NotAWinner::RecipientRand);
    let wrong = NotAWinner::Signature(SignatureError::WrongSigner);
    assert_eq!(spoiled(|w| w.ticket.sender = RECIPIENT), wrong);
    assert_eq!(spoiled(|w| w.ticket.sender_nonce = 10), wrong);
    assert_eq!(spoiled(|w| w.ticket.recipient = Address::ZERO), wrong);
    let short = NotAWinner::Signature(SignatureError::RecoveryId(0));
    let no_v = |w: &mut Winner| {
        let mut bytes = *w.signature.as_bytes();
        bytes[64] = 0;
        w.signature = Signature::from_bytes(bytes);
    };
    assert_eq!(spoiled(no_v), short);

    // A good ticket of a chance that is as good as none.
    let mut lost = good.clone();
    lost.ticket.win_prob = U256::from(1);
    lost.signature = key.sign(&lost.ticket.digest());
    assert_eq!(lost.prove(), Err(NotAWinner::Lost));
}

/// The rule that is easiest to get wrong: the first error stops the credit, not the checks.
#[test]
fn after_the_first_error_nothing_is_credited_but_winners_are_queued() {
    let (key, params) = sender_and_offer(256);
    let mut sent = payment(&key, &params, price(), [1, 2, 3, 4]);
    sent.tickets[1].signature[10] ^= 1;
    let outcome = settle(&sent, NonceSet::default(), BLOCK);
    assert_eq!(credits(&outcome), [1]);
    assert_eq!(outcome.credited, params.ev());
    // The bad signature records nothing, the good ones after it do.
    assert_eq!(recorded(&outcome), [1, 3, 4]);
    let won: Vec<_> = winners(&outcome).iter().map(|w| w.ticket.sender_nonce).collect();
    assert_eq!(won, [1, 3, 4]);
    assert_eq!(outcome.error.as_ref().unwrap().to_string(), "invalid ticket signature");
    assert!(fixed(&outcome).is_some());
}

#[test]
fn a_bad_first_ticket_still_lets_the_second_win() {
    let (key, params) = sender_and_offer(256);
    let mut sent = payment(&key, &params, price(), [1, 2]);
    sent.tickets[0].signature.truncate(64);
    let outcome = settle(&sent, NonceSet::default(), BLOCK);
    assert!(outcome.error.is_some());
    assert_eq!(outcome.credited, Rational::ZERO);
    assert!(credits(&outcome).is_empty());
    assert_eq!(winners(&outcome).len(), 1);
    // A failed payment makes no account and fixes no price.
    assert_eq!(fixed(&outcome), None);
}

#[test]
fn the_last_error_is_the_answer() {
    let (key, params) = sender_and_offer(0);
    let mut sent = payment(&key, &params, price(), [1, 2, 7]);
    sent.tickets[0].signature[10] ^= 1;
    let outcome = settle(&sent, [7].into_iter().collect(), BLOCK);
    let text = outcome.error.unwrap().to_string();
    let sender = key.address();
    assert_eq!(text, format!("invalid ticket senderNonce: already seen sender={sender} nonce=7"));
}

#[test]
fn a_payment_that_arrives_twice_is_credited_once() {
    let (key, params) = sender_and_offer(256);
    let sent = payment(&key, &params, price(), [1, 2]);
    let verified = verify(&sent).unwrap();
    assert_eq!(verified.nonce_key(), Some(params.recipient_rand_hash));
    let own = price().rational();
    let session = SessionPrice { fixed: None, own: &own };
    let first = verified.settle(NonceSet::default(), BLOCK, &session);
    let seen: NonceSet = recorded(&first).into_iter().collect();
    let second = verified.settle(seen, BLOCK, &session);
    assert_eq!((second.credited.clone(), recorded(&second)), (Rational::ZERO, vec![]));
    assert!(second.error.is_some());
    // The winners come again; the queue knows them by their hash.
    let hashes = |outcome: &PaymentOutcome| -> Vec<_> {
        winners(outcome).iter().map(|winner| winner.ticket_hash).collect()
    };
    assert_eq!(hashes(&first), hashes(&second));
}

#[test]
fn the_same_nonce_twice_in_one_payment_is_credited_once() {
    let (key, params) = sender_and_offer(0);
    let outcome = settle(&payment(&key, &params, price(), [1, 1]), NonceSet::default(), BLOCK);
    assert_eq!(credits(&outcome), [1]);
    assert!(outcome.error.is_some());
}

#[test]
fn expired_params_credit_nothing_and_still_queue() {
    let (key, params) = sender_and_offer(256);
    let outcome = settle(&payment(&key, &params, price(), [1, 2]), NonceSet::default(), BLOCK + 40);
    assert_eq!(outcome.error, Some(TicketError::Expired));
    assert_eq!((credits(&outcome).len(), winners(&outcome).len()), (0, 2));
    assert_eq!(recorded(&outcome), [1, 2]);
}

#[test]
fn errors_before_the_tickets_come_in_their_order() {
    let (key, params) = sender_and_offer(0);
    let good = payment(&key, &params, price(), [1]);
    let secret = secret();
    let context = context(&secret);

    let mut sent = good.clone();
    sent.sender = None;
    sent.expected_price = None;
    let mut inactive = context.clone();
    inactive.recipient_active = false;
    let error = verify_payment(&sent, &inactive).unwrap_err();
    assert!(error.to_string().starts_with("Could not find Sender for payment: "));

    sent.sender = Some(key.address());
    let error = verify_payment(&sent, &inactive).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("orchestrator {RECIPIENT} is inactive in round {ROUND}, cannot process payments")
    );

    let error = verify_payment(&sent, &context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid expected price sent with payment err=\"expected price is nil\""
    );
    sent.expected_price = Some(Err(BadPrice::ZeroUnits));
    let error = verify_payment(&sent, &context).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid expected price sent with payment err=\"pixels per unit is 0\""
    );

    // A price that the offer was not made for.
    sent.expected_price = Some(PriceInfo::new(1, 1));
    let error = verify_payment(&sent, &context).unwrap_err();
    assert_eq!(error, PaymentError::Ticket(TicketError::RecipientRand));
}

#[test]
fn too_many_tickets_are_refused_before_any_work() {
    let (key, params) = sender_and_offer(0);
    let mut sent = payment(&key, &params, price(), []);
    sent.tickets = vec![SignedNonce { sender_nonce: 1, signature: vec![] }; 601];
    assert_eq!(verify(&sent).unwrap_err(), PaymentError::TooManyTickets(601));
    sent.tickets.pop();
    assert!(verify(&sent).is_ok());
}

#[test]
fn a_payment_of_nothing_is_accepted_and_makes_only_free_work_free() {
    let nothing = Payment::default();
    let verified = verify(&nothing).unwrap();
    assert_eq!(verified.nonce_key(), None);
    let (own, free, pinned) = (price().rational(), Rational::ZERO, r("7"));
    let outcome = |session: SessionPrice<'_>| verified.settle(NonceSet::default(), BLOCK, &session);

    // A priced service stays priced, whatever the sender says (a fault of the reference).
    let paid = outcome(SessionPrice { fixed: None, own: &own });
    assert_eq!(paid, PaymentOutcome::default());
    let gratis = outcome(SessionPrice { fixed: None, own: &free });
    assert_eq!(gratis.effects, [Effect::FixPrice(Rational::ZERO)]);
    let again = outcome(SessionPrice { fixed: Some(&pinned), own: &free });
    assert!(again.effects.is_empty());
}

/// In the reference, a payment of which nothing is good already pins the price that it names.
#[test]
fn only_a_credited_payment_pins_its_price() {
    let (key, params) = sender_and_offer(0);
    let outcome = settle(&payment(&key, &params, price(), []), NonceSet::default(), BLOCK);
    assert_eq!(outcome, PaymentOutcome::default());

    let own = r("5");
    let pinned = r("3");
    let sent = payment(&key, &params, price(), [1]);
    let verified = verify(&sent).unwrap();
    let session = SessionPrice { fixed: Some(&pinned), own: &own };
    assert_eq!(fixed(&verified.settle(NonceSet::default(), BLOCK, &session)), None);
    assert_eq!(session.charged(), &pinned);
    assert_eq!(SessionPrice { fixed: None, own: &own }.charged(), &own);
}

#[test]
fn tickets_of_another_creation_round_are_another_offer() {
    let (key, params) = sender_and_offer(0);
    let mut sent = payment(&key, &params, price(), [1]);
    sent.expiration_params.creation_round += 1;
    assert_eq!(verify(&sent).unwrap_err(), PaymentError::Ticket(TicketError::RecipientRand));
    let mut sent = payment(&key, &params, price(), [1]);
    sent.sender = Some(Address::repeat_byte(5));
    assert_eq!(verify(&sent).unwrap_err(), PaymentError::Ticket(TicketError::RecipientRand));
}

#[test]
fn an_offer_without_price_credits_nothing_and_is_no_error() {
    let key = Key::new("sender");
    let mut params = offer(key.address(), &Rational::ZERO, 0, 0);
    params.win_prob = U256::ZERO;
    rehash(&mut params, key.address(), &Rational::ZERO);
    let sent = payment(&key, &params, PriceInfo::new(0, 1).unwrap(), [1]);
    let outcome = settle(&sent, NonceSet::default(), BLOCK);
    assert_eq!((outcome.error.clone(), outcome.credited.clone()), (None, Rational::ZERO));
    assert!(winners(&outcome).is_empty());
}
