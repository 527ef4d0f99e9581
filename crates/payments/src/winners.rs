//! The queue of winning tickets: which one to redeem now (payments.md section 14).
//!
//! The reference always takes the earliest ticket, so one that fails again and again blocks all
//! behind it. Here a ticket that failed waits a growing number of blocks and lets others pass, and what
//! is ready goes in an order of its own: [`in_order_of_policy`].

use penstock_domain::{Address, U256, Wei};
use std::{cmp::Reverse, collections::HashMap};

/// Rounds after its creation round in which a ticket can be redeemed.
const VALIDITY_ROUNDS: u64 = 2;
/// Longest wait between two attempts, in L1 blocks (about 13 minutes).
const MAX_BACKOFF_BLOCKS: u64 = 64;

/// What the queue knows of a winner. `I` is the store's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedWinner<I> {
    /// The store's key.
    pub id: I,
    /// Who is to be paid.
    pub recipient: Address,
    /// Round of the ticket.
    pub creation_round: u64,
    /// L1 block from which redemption may reveal the recipientRand.
    pub params_expiration_block: U256,
    /// L1 block before which it is not tried again; 0 when it never failed.
    pub retry_block: u64,
}

/// The chain, as far as the queue depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueView {
    /// Last initialised round.
    pub last_initialized_round: u64,
    /// Height of L1.
    pub last_seen_l1_block: u64,
    /// L1 block with which the present round began.
    pub round_start_block: u64,
    /// Its L1 blocks; 0: not known.
    pub round_length: u64,
    /// Whether the recipient is active in this round and not in the next.
    pub recipient_leaves: bool,
}

/// What to do with one winner now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WinnerState {
    /// Redeem it.
    Ready,
    /// Its offer still lives; redeeming would let the sender choose losing tickets.
    ParamsAlive,
    /// It failed not long ago.
    BackingOff,
    /// The contract pays only active orchestrators.
    RecipientInactive,
    /// Too old for the contract: close it.
    Expired,
}

/// The oldest round whose tickets can still be redeemed.
pub fn oldest_redeemable_round(last_initialized_round: u64) -> u64 {
    last_initialized_round.saturating_sub(VALIDITY_ROUNDS)
}

impl<I> QueuedWinner<I> {
    /// Where this winner stands. A caller that cannot tell whether the recipient is active says
    /// yes: trying costs less than losing the ticket.
    pub fn state(&self, view: &QueueView, recipient_active: bool) -> WinnerState {
        if self.creation_round < oldest_redeemable_round(view.last_initialized_round) {
            return WinnerState::Expired;
        }
        if !recipient_active {
            return WinnerState::RecipientInactive;
        }
        if self.params_expiration_block > U256::from(view.last_seen_l1_block) {
            return WinnerState::ParamsAlive;
        }
        if self.retry_block > view.last_seen_l1_block {
            return WinnerState::BackingOff;
        }
        WinnerState::Ready
    }
}

/// What a winner's place in the order depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// Round of the ticket: with it, it expires.
    pub creation_round: u64,
    /// Who pays.
    pub sender: Address,
    /// What it is worth.
    pub face_value: Wei,
}

/// The order in which winners are redeemed; given in the order in which they came. Those of the oldest round go first,
/// since they expire first. Within a round senders take turns, so that one who floods us with winners holds up nobody
/// else's; each one's largest goes first, and of those of one turn the largest.
pub fn in_order_of_policy<W>(mut winners: Vec<W>, standing: impl Fn(&W) -> QueuePlace) -> Vec<W> {
    // Sorting is stable: what is alike stays in the order in which it came.
    winners.sort_by_key(|winner| Reverse(standing(winner).face_value));
    let mut before = HashMap::<(u64, Address), u64>::new();
    let mut placed: Vec<_> = winners
        .into_iter()
        .map(|winner| {
            let QueuePlace { creation_round, sender, .. } = standing(&winner);
            let turn = before.entry((creation_round, sender)).or_default();
            *turn += 1;
            ((creation_round, *turn), winner)
        })
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, winner)| winner).collect()
}

/// The first winner that is ready, in the order given (earliest first).
pub fn next_to_redeem<'a, I, F>(
    queue: impl IntoIterator<Item = &'a QueuedWinner<I>>,
    view: &QueueView,
    is_active: F,
) -> Option<&'a QueuedWinner<I>>
where
    F: Fn(Address) -> bool,
{
    queue
        .into_iter()
        .find(|winner| winner.state(view, is_active(winner.recipient)) == WinnerState::Ready)
}

/// The block before which a winner that failed `attempts` times is not tried again: 1, 2, 4, …
/// blocks later, at most 64.
pub fn retry_block(attempts: u32, last_seen_l1_block: u64) -> u64 {
    let wait = 1_u64
        .checked_shl(attempts.saturating_sub(1))
        .filter(|wait| *wait <= MAX_BACKOFF_BLOCKS)
        .unwrap_or(MAX_BACKOFF_BLOCKS);
    last_seen_l1_block.saturating_add(wait)
}

/// Whether a failed redemption will always fail, so that the winner is closed. By text, because
/// that is all a node's RPC gives.
pub fn is_final_failure(text: &str) -> bool {
    ["ticket already used", "transaction failed", "ticket creationRound does not have a block hash"]
        .iter()
        .any(|known| text.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: QueueView = QueueView {
        last_initialized_round: 10,
        last_seen_l1_block: 500,
        round_start_block: 0,
        round_length: 0,
        recipient_leaves: false,
    };

    fn winner(id: u32) -> QueuedWinner<u32> {
        QueuedWinner {
            id,
            recipient: Address::ZERO,
            creation_round: 10,
            params_expiration_block: U256::from(500),
            retry_block: 0,
        }
    }

    #[test]
    fn a_winner_waits_for_its_params_to_expire() {
        assert_eq!(winner(1).state(&VIEW, true), WinnerState::Ready);
        let alive = QueuedWinner { params_expiration_block: U256::from(501), ..winner(1) };
        assert_eq!(alive.state(&VIEW, true), WinnerState::ParamsAlive);
        let never = QueuedWinner { params_expiration_block: U256::MAX, ..winner(1) };
        assert_eq!(never.state(&VIEW, true), WinnerState::ParamsAlive);
        assert_eq!(winner(1).state(&VIEW, false), WinnerState::RecipientInactive);
    }

    #[test]
    fn a_winner_lives_two_rounds() {
        for (round, state) in
            [(7, WinnerState::Expired), (8, WinnerState::Ready), (11, WinnerState::Ready)]
        {
            let winner = QueuedWinner { creation_round: round, ..winner(1) };
            assert_eq!(winner.state(&VIEW, true), state, "round {round}");
        }
        assert_eq!(oldest_redeemable_round(10), 8);
        assert_eq!(oldest_redeemable_round(1), 0);
    }

    /// The fault of the reference: one stuck ticket kept all behind it from the chain.
    #[test]
    fn a_stuck_winner_lets_the_others_pass() {
        let mut queue = vec![winner(1), winner(2), winner(3)];
        let next = |queue: &[QueuedWinner<u32>], block| {
            let view = QueueView { last_seen_l1_block: block, ..VIEW };
            next_to_redeem(queue, &view, |_| true).map(|winner| winner.id)
        };
        assert_eq!(next(&queue, 500), Some(1));
        queue[0].retry_block = retry_block(1, 500);
        assert_eq!(next(&queue, 500), Some(2));
        queue[1].retry_block = retry_block(1, 500);
        queue[2].retry_block = retry_block(1, 500);
        assert_eq!(next(&queue, 500), None);
        assert_eq!(next(&queue, 501), Some(1));
    }

    #[test]
    fn inactive_recipients_are_passed_over() {
        let other = QueuedWinner { recipient: Address::repeat_byte(1), ..winner(2) };
        let queue = [winner(1), other];
        let found = next_to_redeem(&queue, &VIEW, |recipient| recipient != Address::ZERO);
        assert_eq!(found.map(|winner| winner.id), Some(2));
    }

    #[test]
    fn what_expires_first_goes_first_then_what_is_worth_more_and_senders_take_turns() {
        let of = |round, sender: u8, wei| QueuePlace {
            creation_round: round,
            sender: Address::repeat_byte(sender),
            face_value: Wei::from_u64(wei),
        };
        let came = vec![
            of(10, 1, 900),
            of(9, 1, 5),
            of(10, 2, 50),
            of(10, 1, 1_000),
            of(9, 1, 7),
            of(10, 1, 800),
            of(9, 2, 6),
        ];
        let want = [
            of(9, 1, 7),
            of(9, 2, 6),
            of(9, 1, 5),
            of(10, 1, 1_000),
            of(10, 2, 50),
            of(10, 1, 900),
            of(10, 1, 800),
        ];
        assert_eq!(in_order_of_policy(came, |winner| *winner), want);
        // What is alike goes in the order in which it came.
        let alike = vec![(of(9, 1, 5), 'a'), (of(9, 1, 5), 'b'), (of(9, 2, 5), 'c')];
        let order: String =
            in_order_of_policy(alike, |(of, _)| *of).into_iter().map(|(_, name)| name).collect();
        assert_eq!(order, "acb");
    }

    #[test]
    fn waits_double_up_to_an_end() {
        let waits: Vec<_> = (0..9).map(|attempts| retry_block(attempts, 100) - 100).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(retry_block(u32::MAX, 100), 164);
        assert_eq!(retry_block(1, u64::MAX), u64::MAX);
    }

    #[test]
    fn some_failures_are_final() {
        assert!(is_final_failure("ticket already used"));
        assert!(is_final_failure("transaction failed txHash=0x1"));
        assert!(is_final_failure("reverted: ticket creationRound does not have a block hash"));
        assert!(!is_final_failure("insufficient sender funds for redeem tx cost"));
        assert!(!is_final_failure("connection refused"));
    }
}
