//! Winning tickets made by whoever has every key, so that none can be lost unseen: who signs, of which round, for how
//! much.

use penstock_chain::{OnChainTicket, Rounds};
use penstock_domain::{Address, B256, U256, Wei, keccak256};
use penstock_keys::TypedSigner;
use penstock_payments::{ExpirationParams, Ticket};
use penstock_wire::{ExpirationFields, redeemer::WinnerFields};

/// A winner to be signed. It wins whatever is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draft {
    /// Who is paid.
    pub recipient: Address,
    /// What it is worth.
    pub face_value: Wei,
    /// No other winner of its sender has it.
    pub nonce: u32,
    /// When it was made.
    pub round: Round,
    /// The height of L1 at which its offer ends.
    pub offer_ends: u64,
}

/// A round as tickets name it.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Its number.
    pub number: u64,
    /// The hash of the block of L1 before it.
    pub block_hash: B256,
}

impl From<Rounds> for Round {
    fn from(rounds: Rounds) -> Self {
        Self { number: rounds.last_initialized_round, block_hash: rounds.l1_block_hash }
    }
}

impl Draft {
    /// As its sender gives it to the recipient, with the number that makes it win.
    pub async fn signed(&self, sender: &TypedSigner) -> WinnerFields {
        let recipient_rand = U256::from(self.nonce);
        let params = ExpirationParams {
            creation_round: self.round.number,
            creation_round_block_hash: self.round.block_hash,
        };
        let ticket = Ticket {
            recipient: self.recipient,
            sender: sender.address(),
            face_value: self.face_value,
            win_prob: U256::MAX,
            sender_nonce: self.nonce,
            recipient_rand_hash: keccak256(recipient_rand.to_be_bytes::<32>()),
            expiration_params: params,
        };
        let sig = sender.sign_ticket(&ticket).await.expect("a signature");
        WinnerFields {
            recipient: ticket.recipient,
            sender: ticket.sender,
            face_value: ticket.face_value,
            win_prob: ticket.win_prob,
            sender_nonce: ticket.sender_nonce,
            recipient_rand_hash: ticket.recipient_rand_hash,
            recipient_rand,
            expiration_block: U256::from(self.offer_ends),
            expiration_params: ExpirationFields {
                creation_round: self.round.number,
                creation_round_block_hash: self.round.block_hash,
            },
            sig: sig.as_bytes().to_vec(),
        }
    }
}

/// A ticket as the chain knows it.
pub fn on_chain(winner: &WinnerFields) -> OnChainTicket {
    let params = ExpirationParams {
        creation_round: winner.expiration_params.creation_round,
        creation_round_block_hash: winner.expiration_params.creation_round_block_hash,
    };
    OnChainTicket {
        recipient: winner.recipient,
        sender: winner.sender,
        face_value: winner.face_value,
        win_prob: winner.win_prob,
        sender_nonce: U256::from(winner.sender_nonce),
        recipient_rand_hash: winner.recipient_rand_hash,
        aux_data: params.aux_data(),
    }
}
