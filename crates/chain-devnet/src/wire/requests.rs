//! What is sent to a devnet. Constructing one of these values is the validation of its shape.

use super::text;
use penstock_chain::{OnChainTicket, WinningTicket};
use penstock_domain::{Address, B256, U256, Wei};
use serde::{Deserialize, Serialize};

/// `POST /v1/fund`: money from nowhere for an account's deposit and reserve, in anyone's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FundRequest {
    /// Whose deposit and reserve.
    #[serde(with = "text::address")]
    pub account: Address,
    /// Added to the deposit.
    #[serde(default)]
    pub deposit_wei: Wei,
    /// Added to the reserve.
    #[serde(default)]
    pub reserve_wei: Wei,
}

/// `POST /mine`: exactly one of `blocks` and `rounds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MineRequest {
    /// This many L1 blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// Blocks until this many rounds have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u64>,
    /// Whether each new round is initialised in its first block, as somebody does on a live
    /// network. `false` leaves the state in which contracts revert until it is done.
    #[serde(default = "yes")]
    pub initialize_rounds: bool,
}

fn yes() -> bool {
    true
}

/// `POST /v1/tickets/redeem`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedeemRequest {
    /// The ticket.
    pub ticket: TicketBody,
    /// 65 bytes, if it is to pass.
    #[serde(with = "text::bytes")]
    pub sig: Vec<u8>,
    /// The recipient's number.
    #[serde(with = "text::number")]
    pub recipient_rand: U256,
}

/// A ticket as the contract takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketBody {
    /// Who is paid.
    #[serde(with = "text::address")]
    pub recipient: Address,
    /// Who pays.
    #[serde(with = "text::address")]
    pub sender: Address,
    /// What a win pays.
    pub face_value_wei: Wei,
    /// Out of 2^256 − 1.
    #[serde(with = "text::number")]
    pub win_prob: U256,
    /// Counter.
    #[serde(with = "text::number")]
    pub sender_nonce: U256,
    /// Commitment to `recipient_rand`.
    #[serde(with = "text::hash")]
    pub recipient_rand_hash: B256,
    /// Creation round and block hash.
    #[serde(with = "text::bytes")]
    pub aux_data: Vec<u8>,
}

/// `POST /v1/transactions`: what an account does with what is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionRequest {
    /// JSON of a [`Payload`], as text, since its bytes are what is signed.
    pub payload: String,
    /// The account's signature of a devnet transaction over those bytes.
    #[serde(with = "text::bytes")]
    pub sig: Vec<u8>,
}

/// The signed part. `chain_id` and `nonce` make it good for one chain and one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Of [`Status`](super::Status).
    #[serde(with = "text::hash")]
    pub chain_id: B256,
    /// Who acts; the signature must be this account's.
    #[serde(with = "text::address")]
    pub account: Address,
    /// Transactions that the account has made before.
    pub nonce: u64,
    /// What it does.
    pub action: Action,
}

/// What only the account itself may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Fund the own deposit and reserve; cancels an unlock in progress.
    Fund {
        /// Added to the deposit.
        deposit_wei: Wei,
        /// Added to the reserve.
        reserve_wei: Wei,
    },
    /// Start the unlock period.
    Unlock {},
    /// Stay after all.
    CancelUnlock {},
    /// Take deposit and reserve home.
    Withdraw {},
    /// Join the orchestrator pool, or change the service URI.
    Register {
        /// Where gateways reach the orchestrator.
        service_uri: String,
    },
    /// Leave the orchestrator pool; active until the round ends.
    Resign {},
}

impl From<&WinningTicket> for RedeemRequest {
    fn from(winner: &WinningTicket) -> Self {
        let t = &winner.ticket;
        Self {
            ticket: TicketBody {
                recipient: t.recipient,
                sender: t.sender,
                face_value_wei: t.face_value,
                win_prob: t.win_prob,
                sender_nonce: t.sender_nonce,
                recipient_rand_hash: t.recipient_rand_hash,
                aux_data: t.aux_data.clone(),
            },
            sig: winner.sig.clone(),
            recipient_rand: winner.recipient_rand,
        }
    }
}

impl From<RedeemRequest> for WinningTicket {
    fn from(request: RedeemRequest) -> Self {
        let t = request.ticket;
        Self {
            ticket: OnChainTicket {
                recipient: t.recipient,
                sender: t.sender,
                face_value: t.face_value_wei,
                win_prob: t.win_prob,
                sender_nonce: t.sender_nonce,
                recipient_rand_hash: t.recipient_rand_hash,
                aux_data: t.aux_data,
            },
            sig: request.sig,
            recipient_rand: request.recipient_rand,
        }
    }
}
