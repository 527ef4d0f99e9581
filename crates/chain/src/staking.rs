//! What an orchestrator's operator does with its stake, its terms and its name: a port of its own, on chains where
//! orchestrators have a stake (on-chain.md sections 4, 5 and 7).

use crate::{
    Ballots, ChainError, Notes, PollChoice, PollStanding, ProposalStanding, Receipt, Support,
};
use async_trait::async_trait;
use core::fmt;
use penstock_domain::{Address, U256, Wei};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Parts of a million, in which the contract has the reward cut and the fee share.
pub const PARTS: u32 = 1_000_000;

/// One thing to do, as the own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "kebab-case", deny_unknown_fields)]
pub enum StakeAction {
    /// Begins a round for everybody.
    InitializeRound {
        /// Which: another one is another wish.
        round: u64,
    },
    /// Mints the tokens that a round gives to this orchestrator and its delegators.
    Reward {
        /// Which: once in each.
        round: u64,
    },
    /// Says where the orchestrator is reached.
    SetServiceUri {
        /// An address with scheme and host.
        service_uri: String,
    },
    /// Sets how earnings are shared with delegators. While active only after the round's reward call.
    SetRates {
        /// Of the minted tokens, what the orchestrator keeps; of a million.
        reward_cut_ppm: u32,
        /// Of the fees, what delegators get; of a million.
        fee_share_ppm: u32,
    },
    /// Adds to the own stake; approves the tokens first where that is needed.
    Bond {
        /// In units of 10^-18 LPT.
        amount_lptu: Wei,
    },
    /// Takes out of the own stake; withdrawn after the contract's rounds. All of it leaves the pool.
    Unbond {
        /// In units of 10^-18 LPT.
        amount_lptu: Wei,
    },
    /// Takes an unbonding back.
    Rebond {
        /// Which.
        lock_id: u64,
    },
    /// Takes unbonded tokens back to the account, once their round has come.
    WithdrawStake {
        /// Which.
        lock_id: u64,
    },
    /// Takes earned fees to the account.
    WithdrawFees {
        /// How many; all that are there if nothing is said.
        #[serde(default)]
        amount_wei: Option<Wei>,
    },
    /// Books what was earned up to this round; every change of stake does it too.
    Claim {
        /// Which.
        round: u64,
    },
    /// Votes in a poll. A later vote takes the place of this one.
    Vote {
        /// Its contract.
        #[serde(with = "crate::voting::text")]
        poll: Address,
        /// What for.
        choice: PollChoice,
    },
    /// Votes on a proposal for the treasury, with the stake that the account had, its delegators' too, in the round
    /// of its snapshot; once.
    VoteOnProposal {
        /// Which: the governor's number, decimal or after `0x`.
        #[serde(with = "crate::voting::text")]
        proposal_id: U256,
        /// What for.
        support: Support,
        /// Why, for everybody to read.
        #[serde(default)]
        reason: Option<String>,
    },
}

impl StakeAction {
    /// Its name.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::InitializeRound { .. } => "initialize_round",
            Self::Reward { .. } => "reward",
            Self::SetServiceUri { .. } => "set_service_uri",
            Self::SetRates { .. } => "set_rates",
            Self::Bond { .. } => "bond",
            Self::Unbond { .. } => "unbond",
            Self::Rebond { .. } => "rebond",
            Self::WithdrawStake { .. } => "withdraw_stake",
            Self::WithdrawFees { .. } => "withdraw_fees",
            Self::Claim { .. } => "claim",
            Self::Vote { .. } => "vote",
            Self::VoteOnProposal { .. } => "vote_on_proposal",
        }
    }
}

/// Tokens on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnbondingLock {
    /// Its number.
    pub lock_id: u64,
    /// In units of 10^-18 LPT.
    pub amount_lptu: Wei,
    /// First round in which they can be withdrawn.
    pub withdraw_round: u64,
}

/// How rounds stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RoundStanding {
    /// By the height of L1.
    pub current_round: u64,
    /// Whether somebody has initialised it: until then nothing can be done.
    pub is_initialized: bool,
    /// Whether terms cannot be changed any more in it.
    pub is_locked: bool,
}

/// How an orchestrator stands, as of the newest block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StakeStanding {
    /// Rounds.
    #[serde(flatten)]
    pub round: RoundStanding,
    /// Whether it is bonded to itself.
    pub is_registered: bool,
    /// Whether it is active in the current round.
    pub is_active: bool,
    /// First active round; 0: never.
    pub activation_round: u64,
    /// First round in which it is not active any more; none while it stays.
    pub deactivation_round: Option<u64>,
    /// Last round whose reward was called; 0: never.
    pub last_reward_round: u64,
    /// Of the minted tokens, what it keeps; of a million.
    pub reward_cut_ppm: u32,
    /// Of the fees, what delegators get; of a million.
    pub fee_share_ppm: u32,
    /// Its own and its delegators' stake.
    pub total_stake_lptu: Wei,
    /// Its own stake with what it has earned.
    pub own_stake_lptu: Wei,
    /// Earned fees that are not withdrawn.
    pub pending_fees_wei: Wei,
    /// Tokens of the account that are not bonded.
    pub balance_lptu: Wei,
    /// Ether of the account, which pays for gas.
    pub balance_wei: Wei,
    /// Where it says that it is reached; a text that anybody may have set.
    pub service_uri: String,
    /// Orchestrators of the pool.
    pub pool_size: u64,
    /// The newest of its unbonding locks.
    pub unbonding_locks: Vec<UnbondingLock>,
}

/// An orchestrator's own account on a chain with stake.
#[async_trait]
pub trait Staking: Send + Sync + fmt::Debug {
    /// The account.
    fn account(&self) -> Address;

    /// How rounds stand: few questions.
    async fn round(&self) -> Result<RoundStanding, ChainError>;

    /// How the account stands.
    async fn standing(&self) -> Result<StakeStanding, ChainError>;

    /// How a proposal for the treasury stands.
    async fn proposal(&self, proposal_id: U256) -> Result<ProposalStanding, ChainError>;

    /// What is voted on now, as far as a bounded search finds it.
    async fn ballots(&self) -> Result<Ballots, ChainError>;

    /// How a poll stands.
    async fn poll(&self, poll: Address) -> Result<PollStanding, ChainError>;

    /// What the contract would say to it now, without sending it.
    async fn preview(&self, action: &StakeAction) -> Result<(), ChainError>;

    /// Does it and waits until it is on the chain; sends nothing that is not noted.
    async fn perform(
        &self,
        action: &StakeAction,
        notes: Arc<dyn Notes>,
    ) -> Result<Receipt, ChainError>;
}
