//! The worked examples and the reference's edge cases (payments.md sections 16 and 17).

use super::*;

const GWEI: u64 = 1_000_000_000;

fn r(text: &str) -> Rational {
    text.parse().unwrap()
}

fn config(ticket_ev: u64, redeem_gas: u64, max_face_value: u64) -> OfferConfig {
    OfferConfig {
        ticket_ev: Wei::from_u64(ticket_ev),
        redeem_gas,
        max_face_value: Wei::from_u64(max_face_value),
    }
}

fn face(config: OfferConfig, gas_price: u64, max_float: &str) -> Option<String> {
    let face = config.face_value(Wei::from_u64(gas_price), &r(max_float));
    face.ok().map(|face| face.to_string())
}

#[test]
fn the_worked_offer() {
    let on_mainnet = config(8 * GWEI, 1_200_000, 0);
    let gas_price = GWEI / 10;
    assert_eq!(on_mainnet.tx_cost(Wei::from_u64(gas_price)).to_string(), "120000000000000");
    let value = face(on_mainnet, gas_price, "1000000000000000000").unwrap();
    assert_eq!(value, "12000000000000000");
    let win_prob = on_mainnet.win_prob(value.parse().unwrap());
    assert_eq!(
        win_prob.to_string(),
        "77194726158210796949047323339125271902179989777093709359638392000000000"
    );
    // Above 8 gwei by about 2.8 × 10^-52 wei.
    let excess = crate::ticket_ev(value.parse().unwrap(), win_prob) - Rational::from(8 * GWEI);
    assert!(excess.is_positive());
    let scaled = (excess * Rational::from_decimal("1e52").unwrap()).to_fixed(1);
    assert_eq!(scaled, "2.8");

    let value = face(on_mainnet, gas_price, "10000000000000000").unwrap();
    assert_eq!(value, "10000000000000000");
    assert_eq!(
        on_mainnet.win_prob(value.parse().unwrap()).to_string(),
        "92633671389852956338856788006950326282615987732512451231566072000000000"
    );
    let capped = config(8 * GWEI, 1_200_000, 5_000_000_000_000_000);
    assert_eq!(face(capped, gas_price, "1000000000000000000").unwrap(), "5000000000000000");
}

#[test]
fn small_numbers() {
    let small = config(5, 10_000, 0);
    let float = "10000000000";
    assert_eq!(face(small, 100, float).unwrap(), "100000000");
    assert_eq!(
        small.win_prob(Wei::from_u64(100_000_000)).to_string(),
        "5789604461865809771178549250434395392663499233282028201972879200395660"
    );
    assert_eq!(face(small, 777, float).unwrap(), "777000000");
    assert_eq!(
        small.win_prob(Wei::from_u64(777_000_000)).to_string(),
        "745122839364969082519761808292714979750772102095499125093034646125570"
    );
    assert_eq!(face(small, 1, "10001").unwrap(), "10001");
    assert_eq!(
        small.win_prob(Wei::from_u64(10_001)).to_string(),
        "57890255593098787833002192285115442382396752657554526567072084795477017120"
    );
    // Without a gas price the face value is 100 EVs.
    assert_eq!(face(small, 0, &U256::MAX.to_string()).unwrap(), "500");
}

#[test]
fn probabilities_at_the_ends() {
    let config = config(5, 10_000, 0);
    assert_eq!(config.win_prob(Wei::ZERO), U256::ZERO);
    assert_eq!(config.win_prob(Wei::from_u64(5)), U256::MAX);
    // 2^129 and one more: the product would not fit, and certain is enough.
    let large = OfferConfig {
        ticket_ev: Wei(U256::from(1) << 129),
        redeem_gas: 0,
        max_face_value: Wei::ZERO,
    };
    assert_eq!(large.win_prob(Wei((U256::from(1) << 129) + U256::from(1))), U256::MAX);
}

#[test]
fn a_short_float_is_refused() {
    let small = config(5, 10_000, 0);
    assert_eq!(face(small, 100, "4"), None);
    assert_eq!(face(small, 100, "-1"), None);
    let error = small.face_value(Wei::from_u64(100), &r("4")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "insufficient sender reserve: 4 wei of it can stand behind a ticket here, 5 wei are needed for a \
         ticket's worth (--ticket-ev); the sender has to add to its reserve"
    );
    // Enough for its worth, and not for the gas of a redemption: 10,000 × 100.
    let error = small.face_value(Wei::from_u64(100), &r("999999")).unwrap_err();
    let (least, need) = (Wei::from_u64(1_000_000), Need::Redemption);
    let max_float = Box::new(r("999999"));
    assert_eq!(error, OfferError::SenderReserve { max_float, least, need });
    // An EV of 0 has no lower bound of its own, yet a negative face value does not exist.
    assert_eq!(face(config(0, 10_000, 0), 100, "-1"), None);
}

#[test]
fn an_operators_own_limit_is_not_blamed_on_the_sender() {
    let rich = r("1000000000000000000");
    let gas_price = Wei::from_u64(100);
    let error = config(8, 10_000, 5).face_value(gas_price, &rich).unwrap_err();
    let (max_face_value, least) = (Wei::from_u64(5), Wei::from_u64(8));
    assert_eq!(error, OfferError::MaxFaceValue { max_face_value, least, need: Need::TicketEv });
    let text = error.to_string();
    assert!(
        text.starts_with("no ticket can be offered: --max-face-value is 5 wei, 8 wei"),
        "{text}"
    );
    let error = config(8, 10_000, 999).face_value(gas_price, &rich).unwrap_err();
    let (max_face_value, least) = (Wei::from_u64(999), Wei::from_u64(1_000_000));
    assert_eq!(error, OfferError::MaxFaceValue { max_face_value, least, need: Need::Redemption });
    // A sender that has less than the limit is short itself.
    let error = config(8, 10_000, 999).face_value(gas_price, &r("998")).unwrap_err();
    assert!(matches!(error, OfferError::SenderReserve { .. }), "{error}");
}

/// A face value must cover today's redemption or an average one; either is enough.
#[test]
fn either_gas_bound_is_enough() {
    let gas = 10_000_u64;
    let config = config(5, gas, 0);
    let average = gas * 3 * GWEI;
    // Gas is dear today: below its cost, at or above the average cost.
    let dear = 4 * GWEI;
    assert!(face(config, dear, &average.to_string()).is_some());
    assert!(face(config, dear, &(average - 1).to_string()).is_none());
    // Gas is cheap today: at its cost, below the average cost.
    let today = gas * 100;
    assert!(face(config, 100, &today.to_string()).is_some());
    assert!(face(config, 100, &(today - 1).to_string()).is_none());
}

#[test]
fn absurd_gas_prices_do_not_wrap() {
    let config = config(5, u64::MAX, 0);
    assert_eq!(config.tx_cost(Wei(U256::MAX)), Wei(U256::MAX));
    assert!(config.face_value(Wei(U256::MAX), &r("1000")).is_err());
}

#[test]
fn the_multiplier_follows_the_face_value() {
    let config = config(5, 10_000, 0);
    let multiplier = |gas_price, float: &str| {
        config.tx_cost_multiplier(Wei::from_u64(gas_price), &r(float)).unwrap()
    };
    assert_eq!(multiplier(100, "10000000000"), r("100"));
    assert_eq!(multiplier(100, "2500000"), r("5/2"));
    assert_eq!(multiplier(0, "10000000000"), Rational::ZERO);
    assert!(config.tx_cost_multiplier(Wei::from_u64(100), &r("1")).is_err());
}

fn request<'a>(
    price: &'a Rational,
    max_float: &'a Rational,
    rounds: RoundView,
) -> OfferRequest<'a> {
    OfferRequest {
        recipient: Address::repeat_byte(1),
        sender: Address::repeat_byte(2),
        price,
        gas_price: Wei::from_u64(100),
        max_float,
        rounds,
        seed: U256::from(7),
    }
}

fn rounds() -> RoundView {
    RoundView {
        last_initialized_round: 10,
        l1_block_hash: B256::repeat_byte(0x10),
        previous_round_l1_block_hash: B256::repeat_byte(0x09),
        last_seen_l1_block: 1_000,
    }
}

#[test]
fn a_free_offer_asks_for_nothing_and_needs_no_float() {
    let config = config(5, 10_000, 0);
    let secret = RecipientSecret::new([1; 32]);
    let no_float = r("-5");
    for price in ["0", "-1"] {
        let price = r(price);
        let params = make_offer(&config, &secret, &request(&price, &no_float, rounds())).unwrap();
        assert_eq!((params.face_value, params.win_prob), (Wei::ZERO, U256::ZERO));
    }
    let price = r("1/1000");
    let made = make_offer(&config, &secret, &request(&price, &no_float, rounds()));
    assert!(matches!(made, Err(OfferError::SenderReserve { .. })), "{made:?}");
}

#[test]
fn an_offer_lives_forty_blocks_and_differs_by_its_seed() {
    let config = config(5, 10_000, 0);
    let secret = RecipientSecret::new([1; 32]);
    let (price, float) = (r("1"), r("10000000000"));
    let first = request(&price, &float, rounds());
    let params = make_offer(&config, &secret, &first).unwrap();
    assert_eq!(params.expiration_block, U256::from(1_040));
    assert_eq!(params.expiration_params.creation_round, 10);
    let second = OfferRequest { seed: U256::from(8), ..first };
    let other = make_offer(&config, &secret, &second).unwrap();
    assert_ne!(params.recipient_rand_hash, other.recipient_rand_hash);
}

#[test]
fn a_round_without_a_hash_gives_way_to_the_one_before() {
    assert_eq!(rounds().expiration_params().creation_round_block_hash, B256::repeat_byte(0x10));
    let faulty = RoundView { l1_block_hash: B256::ZERO, ..rounds() };
    let params = faulty.expiration_params();
    assert_eq!(params.creation_round, 9);
    assert_eq!(params.creation_round_block_hash, B256::repeat_byte(0x09));
    let first = RoundView { l1_block_hash: B256::ZERO, ..RoundView::default() };
    assert_eq!(first.expiration_params(), ExpirationParams::default());
}
