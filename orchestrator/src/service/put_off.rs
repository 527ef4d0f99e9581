//! Why a winner is not redeemed now, or never: a word for the metrics, and a line for whoever asks what it waits for.

use penstock_chain::{ChainError, Revert};
use penstock_ledger::orchestrator::{StoredWinner, WinnerStatus};
use penstock_payments::{QueueView, QueuedWinner, RedeemRefusal, WinnerState};

/// Why, as the label `reason` of the metrics says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its offer still lives: a redemption shows the number that decides the draw.
    OfferLives,
    /// It was put off not long ago.
    BackingOff,
    /// The recipient is not active this round, or is not bonded.
    Unbonded,
    /// The sender's deposit, and what may be claimed of its reserve, do not cover the gas.
    NothingClaimable,
    /// The sender can pay only a part of what it promises, and may have more before its last round ends.
    Underfunded,
    /// It is worth no more than its gas.
    FaceValue,
    /// Gas costs more, or takes more, than the settings allow or the account has.
    Gas,
    /// The chain has no hash of the block that its round began with, or another one.
    BlockHash,
    /// The chain takes its round no more.
    Expired,
    /// The contract has taken it before.
    Used,
    /// The round has not begun on the chain, or the contracts are paused.
    NotNow,
    /// Another refusal of the contract.
    Contract,
    /// The chain is away, or what it said is no answer.
    Chain,
    /// The key did not sign, or signs for nobody.
    Key,
    /// The process died, or the connection did, while it was sent.
    Interrupted,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::OfferLives,
        Self::BackingOff,
        Self::Unbonded,
        Self::NothingClaimable,
        Self::Underfunded,
        Self::FaceValue,
        Self::Gas,
        Self::BlockHash,
        Self::Expired,
        Self::Used,
        Self::NotNow,
        Self::Contract,
        Self::Chain,
        Self::Key,
        Self::Interrupted,
    ];

    /// Its name in metrics and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OfferLives => "offer_lives",
            Self::BackingOff => "backing_off",
            Self::Unbonded => "unbonded",
            Self::NothingClaimable => "nothing_claimable",
            Self::Underfunded => "underfunded",
            Self::FaceValue => "face_value",
            Self::Gas => "gas",
            Self::BlockHash => "block_hash",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::NotNow => "not_now",
            Self::Contract => "contract",
            Self::Chain => "chain",
            Self::Key => "key",
            Self::Interrupted => "interrupted",
        }
    }

    /// Of what the chain, or the way to it, said.
    pub const fn of_chain(error: &ChainError) -> Self {
        match error {
            ChainError::Unreachable { .. }
            | ChainError::Lost { .. }
            | ChainError::Unavailable { .. }
            | ChainError::BadAnswer { .. } => Self::Chain,
            ChainError::Gas { .. } | ChainError::OverLimit { .. } => Self::Gas,
            ChainError::Underpaid { .. } => Self::Underfunded,
            ChainError::NoAccount { .. } | ChainError::Key { .. } => Self::Key,
            ChainError::Refused { .. } => Self::Contract,
            ChainError::Reverted(revert) => match revert {
                Revert::NotRegistered | Revert::NoStakeThisRound => Self::Unbonded,
                Revert::SenderEmpty | Revert::Arithmetic => Self::NothingClaimable,
                Revert::NoBlockHash | Revert::WrongBlockHash => Self::BlockHash,
                Revert::Expired => Self::Expired,
                Revert::Used => Self::Used,
                Revert::RoundNotInitialized | Revert::SystemPaused => Self::NotNow,
                _ => Self::Contract,
            },
        }
    }

    /// Of the look at what it would bring.
    pub const fn of_refusal(refusal: RedeemRefusal) -> Self {
        match refusal {
            RedeemRefusal::SenderFunds => Self::NothingClaimable,
            RedeemRefusal::FaceValue => Self::FaceValue,
        }
    }
}

/// Where a winner of the queue stands.
pub fn queued(stored: &StoredWinner) -> QueuedWinner<()> {
    let ticket = &stored.winner.ticket;
    QueuedWinner {
        id: (),
        recipient: ticket.recipient,
        creation_round: ticket.expiration_params.creation_round,
        params_expiration_block: stored.winner.params_expiration_block,
        retry_block: stored.retry_block,
    }
}

/// What a queued winner waits for, if it is not its turn.
pub fn waits_for(
    stored: &StoredWinner,
    view: &QueueView,
    recipient_active: bool,
) -> Option<(Why, String)> {
    if stored.status != WinnerStatus::Queued {
        return None;
    }
    let (ticket, now) = (&stored.winner.ticket, view.last_seen_l1_block);
    match queued(stored).state(view, recipient_active) {
        WinnerState::Ready => None,
        WinnerState::Expired => {
            let (its, round) =
                (ticket.expiration_params.creation_round, view.last_initialized_round);
            Some((Why::Expired, format!("of round {its}, and in round {round} it is too old")))
        }
        WinnerState::RecipientInactive => Some((
            Why::Unbonded,
            format!(
                "{} is not active in round {}: the contract pays bonded orchestrators of the active set only",
                ticket.recipient, view.last_initialized_round
            ),
        )),
        WinnerState::ParamsAlive => Some((
            Why::OfferLives,
            format!(
                "its offer lives until L1 block {}, and now is {now}",
                stored.winner.params_expiration_block
            ),
        )),
        WinnerState::BackingOff => Some((
            Why::BackingOff,
            format!("tried again from L1 block {}, and now is {now}", stored.retry_block),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{Address, B256, U256, Wei};
    use penstock_payments::{ExpirationParams, RecipientRand, Signature, Ticket, Winner};

    const VIEW: QueueView = QueueView {
        last_initialized_round: 10,
        last_seen_l1_block: 500,
        round_start_block: 0,
        round_length: 0,
        recipient_leaves: false,
    };

    fn winner() -> StoredWinner {
        let ticket = Ticket {
            recipient: Address::repeat_byte(0xaa),
            sender: Address::repeat_byte(0xbb),
            face_value: Wei::from_u64(5),
            win_prob: U256::MAX,
            sender_nonce: 1,
            recipient_rand_hash: B256::ZERO,
            expiration_params: ExpirationParams {
                creation_round: 10,
                creation_round_block_hash: B256::repeat_byte(1),
            },
        };
        StoredWinner {
            winner: Winner {
                ticket_hash: ticket.hash(),
                ticket,
                signature: Signature::from_bytes([27; 65]),
                recipient_rand: RecipientRand::from_bytes([1; 32]),
                params_expiration_block: U256::from(500),
            },
            session: String::new(),
            status: WinnerStatus::Queued,
            attempts: 0,
            retry_block: 0,
            tx_hash: None,
            reason: None,
        }
    }

    #[test]
    fn what_waits_says_for_what() {
        assert_eq!(waits_for(&winner(), &VIEW, true), None);
        let said = |stored: &StoredWinner, active| {
            let (why, text) = waits_for(stored, &VIEW, active).unwrap();
            (why, text)
        };
        let (why, text) = said(&winner(), false);
        assert_eq!(why, Why::Unbonded);
        assert!(text.contains("is not active in round 10"), "{text}");
        let late = StoredWinner { retry_block: 501, ..winner() };
        assert_eq!(
            said(&late, true),
            (Why::BackingOff, "tried again from L1 block 501, and now is 500".into())
        );
        let mut alive = winner();
        alive.winner.params_expiration_block = U256::from(540);
        let (why, text) = said(&alive, true);
        assert_eq!((why, text.contains("540")), (Why::OfferLives, true), "{text}");
        let mut old = winner();
        old.winner.ticket.expiration_params.creation_round = 7;
        assert_eq!(said(&old, true).0, Why::Expired);
        let paid = StoredWinner { status: WinnerStatus::Redeemed, ..late };
        assert_eq!(waits_for(&paid, &VIEW, false), None, "it waits for nothing");
    }

    #[test]
    fn every_refusal_has_its_word() {
        let labels: std::collections::BTreeSet<_> =
            Why::ALL.iter().map(|why| why.label()).collect();
        assert_eq!(labels.len(), Why::ALL.len());
        let reason = String::new;
        for (error, why) in [
            (ChainError::Reverted(Revert::NotRegistered), Why::Unbonded),
            (ChainError::Reverted(Revert::NoStakeThisRound), Why::Unbonded),
            (ChainError::Reverted(Revert::SenderEmpty), Why::NothingClaimable),
            (ChainError::Reverted(Revert::NoBlockHash), Why::BlockHash),
            (ChainError::Reverted(Revert::Used), Why::Used),
            (ChainError::Reverted(Revert::NotWinning), Why::Contract),
            (ChainError::Gas { reason: reason() }, Why::Gas),
            (ChainError::Unavailable { reason: reason() }, Why::Chain),
            (ChainError::Key { reason: reason(), retryable: false }, Why::Key),
        ] {
            assert_eq!(Why::of_chain(&error), why, "{error}");
        }
        assert_eq!(Why::of_refusal(RedeemRefusal::FaceValue), Why::FaceValue);
    }
}
