//! Random histories of the pure state: money is neither made nor lost, whatever happens in
//! whatever order, and a ticket is paid at most once.

use crate::devnet::signer;
use penstock_chain::{OnChainTicket, Revert, WinningTicket};
use penstock_chain_devnet::{
    node::{Outcome, Rejection, Request, perform},
    state::{Genesis, Mining, State, claimable_reserve},
    wire::{Action, Payload},
};
use penstock_domain::{Address, B256, U256, Wei, keccak256};
use proptest::prelude::*;
use std::{
    collections::HashSet,
    future::Future,
    task::{Context, Poll, Waker},
};

/// Senders are accounts 0 to 2, orchestrators 3 to 6.
const SENDERS: usize = 3;
const ORCHESTRATORS: usize = 4;

#[derive(Debug, Clone)]
pub enum Step {
    Mine {
        blocks: u64,
        initialize: bool,
    },
    Fund {
        sender: usize,
        deposit: u64,
        reserve: u64,
    },
    FundAlmostAll {
        sender: usize,
    },
    Act {
        account: usize,
        action: usize,
    },
    Redeem {
        sender: usize,
        recipient: usize,
        face_value: u64,
        nonce: u32,
        back: u64,
    },
    /// Sends the last redeemed ticket again.
    Again,
}

fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![0..100_u64, Just(0), Just(u64::MAX)];
    prop_oneof![
        3 => (1..8_u64, prop::bool::weighted(0.9))
            .prop_map(|(blocks, initialize)| Step::Mine { blocks, initialize }),
        3 => (0..SENDERS, amount.clone(), amount.clone())
            .prop_map(|(sender, deposit, reserve)| Step::Fund { sender, deposit, reserve }),
        1 => (0..SENDERS).prop_map(|sender| Step::FundAlmostAll { sender }),
        4 => (0..SENDERS + ORCHESTRATORS, 0..6_usize)
            .prop_map(|(account, action)| Step::Act { account, action }),
        8 => (0..SENDERS, 0..ORCHESTRATORS, amount, 0..6_u32, 0..3_u64).prop_map(
            |(sender, recipient, face_value, nonce, back)| Step::Redeem {
                sender, recipient: SENDERS + recipient, face_value, nonce, back,
            }
        ),
        1 => Just(Step::Again),
    ]
}

/// Local keys sign without waiting for anything.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a local key waited"),
    }
}

pub fn account_action(state: &State, account: usize, action: usize) -> Request {
    let action = match action {
        0 => Action::Unlock {},
        1 => Action::CancelUnlock {},
        2 => Action::Withdraw {},
        3 => Action::Register { service_uri: format!("https://{account}") },
        4 => Action::Resign {},
        _ => Action::Fund { deposit_wei: Wei::from_u64(7), reserve_wei: Wei::from_u64(9) },
    };
    let (chain_id, signer) = (state.genesis.chain_id, signer(account));
    let nonce = state.account(signer.address()).nonce;
    let payload = Payload { chain_id, account: signer.address(), nonce, action };
    let payload = serde_json::to_string(&payload).unwrap();
    let sig = now(signer.sign_devnet_transaction(payload.as_bytes())).unwrap();
    Request::Act { payload, sig: sig.as_bytes().to_vec() }
}

pub fn ticket(state: &State, step: &Step) -> WinningTicket {
    let Step::Redeem { sender, recipient, face_value, nonce, back } = step else { panic!() };
    let rand = U256::from(*nonce);
    let round = state.head.last_initialized_round.saturating_sub(*back);
    let ticket = penstock_payments::Ticket {
        recipient: signer(*recipient).address(),
        sender: signer(*sender).address(),
        face_value: Wei::from_u64(*face_value),
        win_prob: U256::MAX,
        sender_nonce: *nonce,
        recipient_rand_hash: keccak256(rand.to_be_bytes::<32>()),
        expiration_params: penstock_payments::ExpirationParams {
            creation_round: round,
            creation_round_block_hash: state.round_hashes.get(&round).copied().unwrap_or_default(),
        },
    };
    let sig = now(signer(*sender).sign_ticket(&ticket)).unwrap().as_bytes().to_vec();
    WinningTicket { ticket: OnChainTicket::from(&ticket), sig, recipient_rand: rand }
}

fn request(state: &State, step: &Step, last: Option<&WinningTicket>) -> Option<Request> {
    Some(match step {
        Step::Mine { blocks, initialize } => {
            Request::Mine { how: Mining::Blocks(*blocks), initialize: *initialize }
        }
        Step::Fund { sender, deposit, reserve } => Request::Fund {
            account: signer(*sender).address(),
            deposit: Wei::from_u64(*deposit),
            reserve: Wei::from_u64(*reserve),
        },
        Step::FundAlmostAll { sender } => Request::Fund {
            account: signer(*sender).address(),
            deposit: Wei(U256::MAX - U256::from(1_000)),
            reserve: Wei::ZERO,
        },
        Step::Act { account, action } => account_action(state, *account, *action),
        Step::Redeem { .. } => Request::Redeem(Box::new(ticket(state, step))),
        Step::Again => Request::Redeem(Box::new(last?.clone())),
    })
}

fn sum(amounts: impl Iterator<Item = Wei>) -> U256 {
    amounts.fold(U256::ZERO, |sum, wei| sum.checked_add(wei.0).unwrap())
}

/// The books balance: by the totals, and recounted from the parties.
fn check_books(state: &State) -> Result<(), TestCaseError> {
    let t = state.totals();
    let held = t.deposits_wei.0.checked_add(t.reserves_wei.0).unwrap();
    let out = t.paid_wei.0.checked_add(t.withdrawn_wei.0).unwrap();
    prop_assert_eq!(t.funded_wei.0, held.checked_add(out).unwrap());
    prop_assert_eq!(sum(state.accounts.values().map(|a| a.earned)), t.paid_wei.0);
    prop_assert_eq!(sum(state.accounts.values().map(|a| a.withdrawn)), t.withdrawn_wei.0);
    prop_assert_eq!(sum(state.redemptions.values().map(|r| r.paid())), t.paid_wei.0);
    let round = state.current_round();
    for (holder, sender) in &state.senders {
        let claims = state.claims.iter().filter(|((h, _), _)| h == holder);
        let claimed = sum(claims.map(|(_, claim)| claim.in_round(round)));
        prop_assert_eq!(claimed, sender.claimed.in_round(round).0);
    }
    Ok(())
}

/// What a redemption may do to the two parties.
fn check_redemption(before: &State, r: &penstock_chain::Redemption) -> Result<(), TestCaseError> {
    let sender = before.sender(r.sender);
    prop_assert!(r.paid() <= r.face_value);
    prop_assert!(r.paid_from_deposit <= sender.deposit);
    prop_assert!(r.paid_from_reserve.is_zero() || r.paid_from_deposit == sender.deposit);
    let claimable = claimable_reserve(before, r.sender, r.recipient).unwrap_or_default();
    prop_assert!(r.paid_from_reserve <= claimable);
    if r.paid() < r.face_value {
        prop_assert_eq!(r.paid_from_reserve, claimable);
    }
    prop_assert!(r.paid().is_zero() || before.is_active(r.recipient));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn money_is_conserved(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = State::new(Genesis { chain_id: B256::repeat_byte(1), round_length: 5 });
        let (mut redeemed, mut transactions) = (HashSet::new(), HashSet::new());
        let mut last = None;
        for step in &steps {
            let Some(request) = request(&state, step, last.as_ref()) else { continue };
            match perform(&state, &request) {
                Ok((changes, outcome)) => {
                    if let Outcome::Redeemed(r) = outcome {
                        check_redemption(&state, &r)?;
                        prop_assert!(redeemed.insert(r.ticket_hash), "paid twice");
                        prop_assert!(transactions.insert(r.tx_hash), "one hash, two transactions");
                        if let Request::Redeem(winner) = &request {
                            last = Some((**winner).clone());
                        }
                    }
                    if let Outcome::Done(receipt) = outcome {
                        prop_assert!(transactions.insert(receipt.tx_hash));
                    }
                    state.apply_all(&changes);
                }
                Err(rejection) => {
                    let again = matches!(step, Step::Again) && state.is_round_initialized();
                    let final_ = matches!(&rejection, Rejection::Reverted(r) if r.is_final());
                    prop_assert!(!again || final_, "{rejection}");
                }
            }
            check_books(&state)?;
        }
    }
}

/// The case that a shrinking pool leaves: the contract's subtraction underflows, and so does ours.
#[test]
fn a_pool_that_grows_after_a_claim_underflows_like_the_contract() {
    let mut state = State::new(Genesis { chain_id: B256::ZERO, round_length: 5 });
    let step = |state: &mut State, request: &Request| {
        let (changes, outcome) = perform(state, request).unwrap();
        state.apply_all(&changes);
        outcome
    };
    let register = account_action(&state, 3, 3);
    step(&mut state, &register);
    step(&mut state, &Request::Mine { how: Mining::Rounds(1), initialize: true });
    let account: Address = signer(0).address();
    let (deposit, reserve) = (Wei::ZERO, Wei::from_u64(100));
    step(&mut state, &Request::Fund { account, deposit, reserve });
    let redeem = |nonce| Step::Redeem { sender: 0, recipient: 3, face_value: 80, nonce, back: 0 };
    let first = Request::Redeem(Box::new(ticket(&state, &redeem(1))));
    step(&mut state, &first);
    let register = account_action(&state, 4, 3);
    step(&mut state, &register);
    let second = Request::Redeem(Box::new(ticket(&state, &redeem(2))));
    assert_eq!(perform(&state, &second), Err(Rejection::Reverted(Revert::Arithmetic)));
}
