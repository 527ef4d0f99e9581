//! What a devnet answers. Conversions to the chain port's values stand beside the shapes.

use super::text;
use penstock_chain::{ActiveOrchestrator, Receipt, Redemption, ReserveInfo, Rounds, SenderInfo};
use penstock_domain::{Address, B256, U256, Wei};
use serde::{Deserialize, Serialize};

/// `GET /v1/status`: everything there is one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Made at random when the data folder was; part of every signed transaction.
    #[serde(with = "text::hash")]
    pub chain_id: B256,
    /// Height of L1.
    pub l1_block: u64,
    /// L1 blocks in a round.
    pub round_length: u64,
    /// The round that `l1_block` is in.
    pub current_round: u64,
    /// The newest initialised round.
    pub last_initialized_round: u64,
    /// Its block hash.
    #[serde(with = "text::hash")]
    pub l1_block_hash: B256,
    /// That of the round before; zero if skipped.
    #[serde(with = "text::hash")]
    pub previous_round_l1_block_hash: B256,
    /// Entries of the orchestrator pool.
    pub pool_size: u64,
    /// Wei per gas.
    pub gas_price_wei: Wei,
    /// Redeemed tickets.
    pub redemptions: u64,
    /// Where the money is.
    pub totals: Totals,
}

/// `funded = deposits + reserves + paid + withdrawn`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Ever put in.
    pub funded_wei: Wei,
    /// In deposits now.
    pub deposits_wei: Wei,
    /// In reserves now.
    pub reserves_wei: Wei,
    /// Paid to recipients of winning tickets.
    pub paid_wei: Wei,
    /// Taken home by senders.
    pub withdrawn_wei: Wei,
}

/// `GET /v1/senders/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderView {
    /// Whose.
    #[serde(with = "text::address")]
    pub address: Address,
    /// Deposit.
    pub deposit_wei: Wei,
    /// 0 = locked.
    pub withdraw_round: u64,
    /// Reserve that is left.
    pub reserve_wei: Wei,
    /// Claimed by all in the current round.
    pub claimed_in_current_round_wei: Wei,
}

/// `GET /v1/senders/{holder}/claims/{claimant}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimView {
    /// In the current round.
    pub claimed_wei: Wei,
}

/// `GET /v1/senders/{holder}/claimable/{claimant}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimableView {
    /// Of the reserve, in the current round.
    pub claimable_wei: Wei,
}

/// An element of `GET /v1/orchestrators`, and `GET /v1/orchestrators/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrchestratorView {
    /// Its account.
    #[serde(with = "text::address")]
    pub address: Address,
    /// As registered.
    pub service_uri: String,
    /// First active round; 0 = never joined.
    pub activation_round: u64,
    /// First inactive round.
    pub deactivation_round: u64,
    /// Whether it is in the pool.
    pub registered: bool,
    /// Whether it is active in the current round.
    pub active: bool,
}

/// `GET /v1/tickets/{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketView {
    /// Whether it was redeemed.
    pub used: bool,
    /// How.
    pub redemption: Option<RedemptionView>,
}

/// The record of a redemption; also an element of `GET /v1/redemptions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedemptionView {
    /// The ticket.
    #[serde(with = "text::hash")]
    pub ticket_hash: B256,
    /// The transaction.
    #[serde(with = "text::hash")]
    pub tx_hash: B256,
    /// Its block.
    pub l1_block: u64,
    /// Its round.
    pub round: u64,
    /// Who paid.
    #[serde(with = "text::address")]
    pub sender: Address,
    /// Who was paid.
    #[serde(with = "text::address")]
    pub recipient: Address,
    /// What the ticket promised.
    pub face_value_wei: Wei,
    /// From the deposit.
    pub paid_from_deposit_wei: Wei,
    /// From the reserve.
    pub paid_from_reserve_wei: Wei,
}

/// `GET /v1/accounts/{address}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Whose.
    #[serde(with = "text::address")]
    pub address: Address,
    /// The nonce that its next transaction must have.
    pub nonce: u64,
    /// Paid to it for winning tickets.
    pub earned_wei: Wei,
    /// Taken home from its deposit and reserve.
    pub withdrawn_wei: Wei,
}

/// The answer to every transaction but a redemption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// The transaction.
    #[serde(with = "text::hash")]
    pub tx_hash: B256,
    /// Its block.
    pub l1_block: u64,
}

impl From<&Status> for Rounds {
    fn from(status: &Status) -> Self {
        Self {
            last_initialized_round: status.last_initialized_round,
            l1_block_hash: status.l1_block_hash,
            previous_round_l1_block_hash: status.previous_round_l1_block_hash,
            last_seen_l1_block: status.l1_block,
            round_start_block: status.current_round.saturating_mul(status.round_length),
            round_length: status.round_length,
        }
    }
}

impl From<SenderView> for SenderInfo {
    fn from(view: SenderView) -> Self {
        Self {
            deposit: view.deposit_wei,
            withdraw_round: view.withdraw_round,
            reserve: ReserveInfo {
                funds_remaining: view.reserve_wei,
                claimed_in_current_round: view.claimed_in_current_round_wei,
            },
        }
    }
}

impl SenderView {
    /// The answer about `address`.
    pub fn of(address: Address, info: SenderInfo) -> Self {
        Self {
            address,
            deposit_wei: info.deposit,
            withdraw_round: info.withdraw_round,
            reserve_wei: info.reserve.funds_remaining,
            claimed_in_current_round_wei: info.reserve.claimed_in_current_round,
        }
    }
}

impl From<OrchestratorView> for ActiveOrchestrator {
    fn from(view: OrchestratorView) -> Self {
        Self {
            address: view.address,
            service_uri: view.service_uri,
            more_service_uris: Vec::new(),
            activation_round: view.activation_round,
            deactivation_round: view.deactivation_round,
            stake_lptu: U256::ZERO,
        }
    }
}

impl From<RedemptionView> for Redemption {
    fn from(view: RedemptionView) -> Self {
        Self {
            ticket_hash: view.ticket_hash,
            tx_hash: view.tx_hash,
            l1_block: view.l1_block,
            round: view.round,
            block: None,
            sender: view.sender,
            recipient: view.recipient,
            face_value: view.face_value_wei,
            paid_from_deposit: view.paid_from_deposit_wei,
            paid_from_reserve: view.paid_from_reserve_wei,
        }
    }
}

impl From<&Redemption> for RedemptionView {
    fn from(r: &Redemption) -> Self {
        Self {
            ticket_hash: r.ticket_hash,
            tx_hash: r.tx_hash,
            l1_block: r.l1_block,
            round: r.round,
            sender: r.sender,
            recipient: r.recipient,
            face_value_wei: r.face_value,
            paid_from_deposit_wei: r.paid_from_deposit,
            paid_from_reserve_wei: r.paid_from_reserve,
        }
    }
}

impl From<ReceiptView> for Receipt {
    fn from(view: ReceiptView) -> Self {
        Self { tx_hash: view.tx_hash, l1_block: view.l1_block }
    }
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        Self { tx_hash: receipt.tx_hash, l1_block: receipt.l1_block }
    }
}
