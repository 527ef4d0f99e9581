//! What the contracts answer, as plain values.

use penstock_domain::{Address, B256, U256, Wei};

/// `deactivation_round` of an orchestrator that has not left. The contract says 2^256 − 1; stores
/// hold signed 64-bit rounds, so the value is clamped to what fits (on-chain.md section 5).
pub const NEVER: u64 = i64::MAX as u64;

/// `getSenderInfo`: a sender's deposit and reserve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Paid from first.
    pub deposit: Wei,
    /// First round in which the sender may withdraw; 0 = locked, no unlock in progress.
    pub withdraw_round: u64,
    /// Paid from when the deposit is short.
    pub reserve: ReserveInfo,
}

/// The reserve of a sender in the current round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReserveInfo {
    /// What is left.
    pub funds_remaining: Wei,
    /// What all recipients together claimed in the current round.
    pub claimed_in_current_round: Wei,
}

/// The state of rounds, as a node sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rounds {
    /// The newest round that was initialised; 0 = none yet.
    pub last_initialized_round: u64,
    /// Its L1 block hash; may be zero on Arbitrum (on-chain.md section 10.3).
    pub l1_block_hash: B256,
    /// The hash of the round before it; zero when that one was skipped.
    pub previous_round_l1_block_hash: B256,
    /// Height of L1, in whose blocks ticket parameters expire.
    pub last_seen_l1_block: u64,
    /// L1 block with which the present round began, whether it is initialised or not.
    pub round_start_block: u64,
    /// Its L1 blocks; 0: not known.
    pub round_length: u64,
}

/// An orchestrator of the pool, with the rounds in which it is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveOrchestrator {
    /// Its account: the recipient of tickets.
    pub address: Address,
    /// As registered, unchecked text of a stranger; may be empty.
    pub service_uri: String,
    /// What it has registered elsewhere, where a network has several registries: video and AI may be at two addresses.
    pub more_service_uris: Vec<String>,
    /// First active round.
    pub activation_round: u64,
    /// First round in which it is not active any more; [`NEVER`] while it stays.
    pub deactivation_round: u64,
    /// All that is bonded to it, in units of 10^-18 LPT, as of when the pool was read; 0 where there is no stake.
    pub stake_lptu: U256,
}

impl ActiveOrchestrator {
    /// All that it has registered.
    pub fn service_uris(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.service_uri)
            .chain(&self.more_service_uris)
            .map(String::as_str)
            .filter(|uri| !uri.is_empty())
    }
}

/// A transaction that is on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its hash.
    pub tx_hash: B256,
    /// The L1 block it is in.
    pub l1_block: u64,
}

/// A redeemed ticket. `paid_from_deposit + paid_from_reserve` may be less than `face_value`, even
/// zero: the contract then still burns the ticket (on-chain.md section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redemption {
    /// The ticket.
    pub ticket_hash: B256,
    /// The transaction that redeemed it.
    pub tx_hash: B256,
    /// The L1 block it is in.
    pub l1_block: u64,
    /// The round it is in.
    pub round: u64,
    /// The chain's own block that it is in, where blocks may be taken back.
    pub block: Option<u64>,
    /// Who paid.
    pub sender: Address,
    /// Who was paid.
    pub recipient: Address,
    /// What the ticket promised.
    pub face_value: Wei,
    /// What came out of the deposit.
    pub paid_from_deposit: Wei,
    /// What came out of the reserve.
    pub paid_from_reserve: Wei,
}

impl Redemption {
    /// What the recipient got. Saturates; a sum above 2^256 − 1 cannot be on a chain.
    pub fn paid(&self) -> Wei {
        Wei(self.paid_from_deposit.0.saturating_add(self.paid_from_reserve.0))
    }
}

/// What a later look at a redemption shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is in a block that is not taken back any more.
    Final {
        /// The transaction, when known.
        tx_hash: Option<B256>,
    },
    /// It is in a block that may be taken back.
    InBlock {
        /// The transaction, when known.
        tx_hash: Option<B256>,
        /// Its height, in the chain's own blocks.
        block: u64,
    },
    /// Its block was taken back: the ticket is not used.
    Gone,
}

/// A redemption that was seen before, when it is looked at once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether it is still there, and where.
    pub standing: Standing,
    /// What it paid there, when that is known: another transaction, or the same in another block, may pay another amount.
    pub paid: Option<Wei>,
}

impl Standing {
    /// In this block, when those up to `last_final` are final.
    pub fn in_block(tx_hash: Option<B256>, block: u64, last_final: u64) -> Self {
        if block <= last_final { Self::Final { tx_hash } } else { Self::InBlock { tx_hash, block } }
    }
}
