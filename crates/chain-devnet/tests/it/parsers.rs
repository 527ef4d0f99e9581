//! Each parser takes whatever comes: generated cases near and far from what it expects.

use crate::{
    devnet::signer,
    histories::{Step, account_action, ticket},
};
use penstock_chain::Revert;
use penstock_chain_devnet::{
    node::{Request, perform},
    parse_chain,
    state::{Genesis, Mining, State, act, redeem},
    wire::{FundRequest, MineRequest, Payload, RedeemRequest, Status, TransactionRequest},
};
use penstock_domain::{Address, B256, Wei};
use proptest::prelude::*;
use std::sync::LazyLock;

const CASES: u32 = 100_000;

/// Pieces of valid requests, and of trouble.
const PIECES: &[&str] = &[
    "{",
    "}",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "\"account\":",
    "\"deposit_wei\":",
    "\"blocks\":",
    "\"rounds\":",
    "\"ticket\":{",
    "\"sig\":\"0x",
    "\"payload\":\"",
    "\"kind\":",
    "\"unlock\"",
    "\"1\"",
    "-1",
    "1e999",
    "\\u0000",
    "\\ud800",
    "18446744073709551616",
    "\u{0}",
    "\"0x0101010101010101010101010101010101010101\"",
    "devnet:http://",
    "127.0.0.1",
    "/",
    "é",
    "\\",
];

/// Text that is often almost right: pieces in any order, or any bytes.
fn almost() -> impl Strategy<Value = String> {
    (any::<bool>(), prop::collection::vec(any::<u8>(), 0..14)).prop_map(|(pieces, bytes)| {
        if pieces {
            bytes.iter().map(|byte| PIECES[usize::from(*byte) % PIECES.len()]).collect()
        } else {
            String::from_utf8_lossy(&bytes).into_owned()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(text in almost()) {
        let _ = serde_json::from_str::<FundRequest>(&text);
        let _ = serde_json::from_str::<MineRequest>(&text);
        let _ = serde_json::from_str::<RedeemRequest>(&text);
        let _ = serde_json::from_str::<TransactionRequest>(&text);
        let _ = serde_json::from_str::<Payload>(&text);
        let _ = serde_json::from_str::<Status>(&text);
        prop_assert!(Revert::from_text(&text).text().chars().count() <= 256);
        if let Ok(location) = parse_chain(&text) {
            prop_assert_eq!(parse_chain(&location.to_string()), Ok(location));
        }
    }

    #[test]
    fn an_altered_ticket_is_never_paid(edits in edits()) {
        let (state, good) = &*TICKET;
        if let Ok(request) = serde_json::from_slice::<RedeemRequest>(&edited(good, &edits)) {
            let same = request == serde_json::from_slice(good).unwrap();
            prop_assert_eq!(redeem(state, &request.into()).is_ok(), same);
        }
    }

    #[test]
    fn an_altered_transaction_is_never_performed(edits in edits()) {
        let (state, good) = &*TRANSACTION;
        let body = edited(good, &edits);
        if let Ok(request) = serde_json::from_slice::<TransactionRequest>(&body) {
            let same = request == serde_json::from_slice(good).unwrap();
            prop_assert_eq!(act(state, &request.payload, &request.sig).is_ok(), same);
        }
    }
}

/// A few bytes, each at some place.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

/// Edits that stay close: most become a digit, so that the text still parses.
fn edited(good: &[u8], edits: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut body = good.to_vec();
    for (place, byte) in edits {
        let place = place.index(body.len());
        body[place] = if byte % 4 == 0 { *byte } else { b'0' + byte % 10 };
    }
    body
}

/// A chain on which this ticket would be paid.
static TICKET: LazyLock<(State, Vec<u8>)> = LazyLock::new(|| {
    let mut state = chain();
    for request in [
        account_action(&state, 3, 3),
        Request::Mine { how: Mining::Rounds(1), initialize: true },
        fund_request(signer(0).address()),
    ] {
        let (changes, _) = perform(&state, &request).unwrap();
        state.apply_all(&changes);
    }
    let step = Step::Redeem { sender: 0, recipient: 3, face_value: 5, nonce: 1, back: 0 };
    let winner = ticket(&state, &step);
    assert!(redeem(&state, &winner).is_ok());
    (state, serde_json::to_vec(&RedeemRequest::from(&winner)).unwrap())
});

/// A chain on which this transaction would be performed.
static TRANSACTION: LazyLock<(State, Vec<u8>)> = LazyLock::new(|| {
    let state = chain();
    let Request::Act { payload, sig } = account_action(&state, 3, 3) else { panic!() };
    assert!(act(&state, &payload, &sig).is_ok());
    (state, serde_json::to_vec(&TransactionRequest { payload, sig }).unwrap())
});

fn chain() -> State {
    State::new(Genesis { chain_id: B256::ZERO, round_length: 10 })
}

fn fund_request(account: Address) -> Request {
    Request::Fund { account, deposit: Wei::from_u64(50), reserve: Wei::from_u64(50) }
}
