//! The sender's checks row by row, with their texts, and the order among them (payments.md
//! sections 9 and 17).

use super::*;

const BLOCK: u64 = 100;

fn r(text: &str) -> Rational {
    text.parse().unwrap()
}

/// Worth 2 wei each: face value 10, one chance in 5 (2^256 − 1 is divisible by 5).
fn params() -> TicketParams {
    TicketParams {
        recipient: Address::repeat_byte(1),
        face_value: Wei::from_u64(10),
        win_prob: U256::MAX / U256::from(5),
        recipient_rand_hash: B256::repeat_byte(2),
        seed: U256::from(3),
        expiration_block: U256::from(BLOCK + 2),
        expiration_params: ExpirationParams::default(),
    }
}

fn limits(max_ev: &str, max_total_ev: &str, multiplier: u64) -> SenderLimits {
    SenderLimits {
        max_ev: r(max_ev),
        max_total_ev: r(max_total_ev),
        deposit_multiplier: NonZeroU64::new(multiplier).unwrap(),
        ..SenderLimits::default()
    }
}

fn wide() -> SenderLimits {
    limits("100", "1000", 1)
}

fn view() -> SenderView {
    SenderView {
        last_seen_l1_block: BLOCK,
        last_initialized_round: 7,
        last_initialized_l1_block_hash: B256::repeat_byte(7),
        funds: Ok(SenderFunds {
            deposit: Wei::from_u64(1_000),
            reserve_remaining: Wei::from_u64(1_000),
            withdraw_round: 0,
        }),
    }
}

fn funds(change: impl FnOnce(&mut SenderFunds)) -> SenderView {
    let mut view = view();
    change(view.funds.as_mut().unwrap());
    view
}

fn check(params: &TicketParams, limits: &SenderLimits, view: &SenderView) -> Result<(), String> {
    check_batch(Some(params), 1, limits, view).map_err(|error| error.to_string())
}

fn text(error: &str) -> Result<(), String> {
    Err(error.to_owned())
}

#[test]
fn a_good_offer_passes() {
    assert_eq!(params().ev(), r("2"));
    assert_eq!(check(&params(), &wide(), &view()), Ok(()));
    assert_eq!(check_batch(Some(&params()), 500, &wide(), &view()), Ok(()));
}

#[test]
fn row_1_params_are_there() {
    let error = check_batch(None, 1, &wide(), &view()).unwrap_err();
    assert_eq!(error.to_string(), "ticketParams is nil");
}

#[test]
fn row_2_an_expiration_of_zero_is_refused_by_its_low_64_bits() {
    for block in [U256::ZERO, U256::from(1) << 64, U256::from(5) << 200] {
        // Even when every ticket wins.
        let params = TicketParams { expiration_block: block, win_prob: U256::MAX, ..params() };
        assert_eq!(check(&params, &wide(), &view()), text("ticketParams expiration block is 0"));
    }
}

#[test]
fn row_3_more_than_one_block_must_remain() {
    for (block, expired) in [(1, true), (BLOCK, true), (BLOCK + 1, true), (BLOCK + 2, false)] {
        let params = TicketParams { expiration_block: U256::from(block), ..params() };
        let result = check_batch(Some(&params), 1, &wide(), &view());
        assert_eq!(result.is_err(), expired, "block {block}");
        if let Err(error) = result {
            assert_eq!(error.to_string(), "TicketParams expired");
            assert!(error.is_refresh());
        }
    }
    // A sender may want to have more of it left.
    for (block, expired) in [(BLOCK + 2, true), (BLOCK + 5, true), (BLOCK + 6, false)] {
        let params = TicketParams { expiration_block: U256::from(block), ..params() };
        let limits = SenderLimits { expiry_margin_blocks: 5, ..wide() };
        let result = check_batch(Some(&params), 1, &limits, &view());
        assert_eq!(result.is_err_and(|e| e.is_refresh()), expired, "block {block}");
    }
    let last = SenderView { last_seen_l1_block: u64::MAX, ..view() };
    let params = TicketParams { expiration_block: U256::from(u64::MAX), ..params() };
    assert_eq!(check(&params, &wide(), &last), text("TicketParams expired"));
}

#[test]
fn row_4_worthless_tickets_need_no_money() {
    let params = TicketParams { win_prob: U256::ZERO, ..params() };
    let poor = SenderView { funds: Err("no route".into()), ..view() };
    assert_eq!(check(&params, &limits("0", "0", 1), &poor), Ok(()));
    let params = TicketParams { face_value: Wei::ZERO, ..params };
    assert_eq!(check(&params, &wide(), &funds(|f| f.deposit = Wei::ZERO)), Ok(()));
}

#[test]
fn row_5_a_certain_win_is_no_lottery() {
    let params = TicketParams { win_prob: U256::MAX, ..params() };
    assert_eq!(
        check(&params, &limits("0", "0", 1), &view()),
        text("ticket faceValue too low faceValue=10")
    );
}

#[test]
fn row_6_one_ticket_is_worth_at_most_the_limit() {
    assert_eq!(check(&params(), &limits("2", "1000", 1), &view()), Ok(()));
    assert_eq!(
        check(&params(), &limits("199/100", "1", 1), &view()),
        text("ticket EV 2.00000 > max ticket EV 1.99000")
    );
}

#[test]
fn row_7_an_unknown_account_is_an_error_of_its_own() {
    let view = SenderView { funds: Err("dial tcp: refused".into()), ..view() };
    assert_eq!(check(&params(), &wide(), &view), text("dial tcp: refused"));
}

#[test]
fn row_8_an_account_that_unlocks_soon_is_not_used() {
    let expected = text("unable to validate sender: deposit and reserve is set to unlock soon");
    for (round, refused) in [(0, false), (1, true), (7, true), (8, true), (9, false)] {
        let result = check(&params(), &wide(), &funds(|f| f.withdraw_round = round));
        assert_eq!(result, if refused { expected.clone() } else { Ok(()) }, "round {round}");
    }
}

#[test]
fn rows_9_and_10_reserve_comes_before_deposit() {
    let empty = funds(|f| *f = SenderFunds::default());
    let error = check_batch(Some(&params()), 1, &wide(), &empty).unwrap_err();
    assert_eq!(error.to_string(), "no sender reserve");
    assert!(error.is_sender_validation() && !error.is_refresh());
    let no_deposit = funds(|f| f.deposit = Wei::ZERO);
    assert_eq!(check(&params(), &wide(), &no_deposit), text("no sender deposit"));
}

#[test]
fn row_11_a_batch_is_worth_at_most_the_limit() {
    let limits = limits("2", "6", 1);
    assert_eq!(check_batch(Some(&params()), 3, &limits, &view()), Ok(()));
    let error = check_batch(Some(&params()), 4, &limits, &view()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "total ticket EV 8.00000 for 4 tickets > max total ticket EV 6.00000"
    );
}

#[test]
fn row_12_a_win_takes_at_most_its_part_of_the_deposit() {
    // 109 / 10 is cut to 10, which is exactly the face value.
    let limits = limits("2", "1000", 10);
    let deposit = |wei| funds(|f| f.deposit = Wei::from_u64(wei));
    assert_eq!(check(&params(), &limits, &deposit(109)), Ok(()));
    assert_eq!(
        check(&params(), &limits, &deposit(99)),
        text("ticket faceValue 10 > max faceValue 9")
    );
}

#[test]
fn the_first_failing_row_decides() {
    // Everything is wrong; repaired from the top, the next row speaks.
    let mut params = TicketParams { expiration_block: U256::ZERO, win_prob: U256::MAX, ..params() };
    let limits = limits("1", "1", 1_000);
    let mut view = SenderView { funds: Err("down".into()), ..view() };
    let error = |params: &TicketParams, limits: &SenderLimits, view: &SenderView| {
        check_batch(Some(params), 1, limits, view).unwrap_err()
    };
    assert_eq!(error(&params, &limits, &view), SenderError::NoExpiration);
    params.expiration_block = U256::from(1);
    assert_eq!(error(&params, &limits, &view), SenderError::Expired);
    params.expiration_block = U256::from(BLOCK + 40);
    assert!(matches!(error(&params, &limits, &view), SenderError::FaceValueTooLow(_)));
    params.win_prob = U256::MAX / U256::from(5);
    assert!(matches!(error(&params, &limits, &view), SenderError::EvTooHigh { .. }));
    let limits = SenderLimits { max_ev: r("2"), ..limits };
    assert_eq!(error(&params, &limits, &view), SenderError::FundsUnknown("down".into()));
    view.funds = Ok(SenderFunds { withdraw_round: 1, ..SenderFunds::default() });
    assert_eq!(error(&params, &limits, &view), SenderError::Unlocking);
    view.funds = Ok(SenderFunds::default());
    assert_eq!(error(&params, &limits, &view), SenderError::NoReserve);
    view.funds = Ok(SenderFunds { reserve_remaining: Wei::from_u64(1), ..SenderFunds::default() });
    assert_eq!(error(&params, &limits, &view), SenderError::NoDeposit);
    view.funds = Ok(SenderFunds {
        reserve_remaining: Wei::from_u64(1),
        deposit: Wei::from_u64(1),
        withdraw_round: 0,
    });
    assert!(matches!(error(&params, &limits, &view), SenderError::TotalEvTooHigh { .. }));
    let limits = SenderLimits { max_total_ev: r("2"), ..limits };
    assert!(matches!(error(&params, &limits, &view), SenderError::FaceValueTooHigh { .. }));
}

#[test]
fn the_default_limits_are_the_networks() {
    let limits = SenderLimits::default();
    assert_eq!(limits.max_ev, r("3000000000000"));
    assert_eq!(limits.max_total_ev, r("20000000000000"));
    assert_eq!(limits.deposit_multiplier.get(), 1);
}

#[test]
fn the_creation_round_is_the_recipients_if_complete() {
    let own =
        ExpirationParams { creation_round: 7, creation_round_block_hash: B256::repeat_byte(7) };
    let theirs =
        ExpirationParams { creation_round: 6, creation_round_block_hash: B256::repeat_byte(6) };
    let chosen = |expiration_params| {
        batch_expiration_params(&TicketParams { expiration_params, ..params() }, &view())
    };
    assert_eq!(chosen(theirs), theirs);
    assert_eq!(chosen(ExpirationParams::default()), own);
    assert_eq!(chosen(ExpirationParams { creation_round: 0, ..theirs }), own);
    let no_hash = ExpirationParams { creation_round_block_hash: B256::ZERO, ..theirs };
    assert_eq!(chosen(no_hash), own);
}

#[test]
fn a_batch_differs_in_its_nonces_only() {
    let expiration = ExpirationParams::default();
    let batch = build_batch(&params(), expiration, Address::repeat_byte(9), 3..=5);
    let nonces: Vec<_> = batch.iter().map(|ticket| ticket.sender_nonce).collect();
    assert_eq!(nonces, [3, 4, 5]);
    for mut ticket in batch {
        ticket.sender_nonce = 3;
        let first = Ticket::from_params(&params(), expiration, Address::repeat_byte(9), 3);
        assert_eq!(ticket, first);
    }
}
