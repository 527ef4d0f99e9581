//! The orchestrator's stake, terms and name on the chain: what its operator asks for, and what is done by itself when a
//! round begins.
//!
//! Each is an operation of the ledger: under a key, noted before it is sent, one at a time for all processes on the
//! ledger. What is done by itself is named after its round, so that of several processes one does it.

use crate::{chain_view::Snapshot, clock};
use penstock_chain::{
    Ballots, ChainError, MAX_REASON_BYTES, PollStanding, ProposalStanding, Receipt, StakeAction,
    StakeStanding, Staking,
};
use penstock_domain::{Address, U256, address_lower};
use penstock_ledger::operations::{OperationError, Operations, Wanted};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use thiserror::Error;

/// L1 blocks between two attempts at most.
const MOST_BLOCKS: u64 = 64;

/// What is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Automatic {
    /// `--call-rewards`
    pub rewards: bool,
    /// `--initialize-rounds`, with the longest wait before it.
    pub rounds: Option<Duration>,
}

/// Why it was not done.
#[derive(Debug, Error)]
pub enum StakeError {
    /// `--stake-transactions` is off.
    #[error("stake, terms and name are changed only with --stake-transactions")]
    Forbidden,
    /// Mend the request.
    #[error("{0}")]
    BadField(String),
    /// The ledger or the chain.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The task of it died.
    #[error("a task ended badly")]
    Task,
}

/// An operation as the books have it: the same for the same wish.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    account: String,
    action: StakeAction,
}

/// The use case. Clones are the same.
#[derive(Debug, Clone)]
pub struct Stake {
    staking: Arc<dyn Staking>,
    operations: Operations,
    is_allowed: bool,
}

impl Stake {
    /// `is_allowed`: whether operators may (`--stake-transactions`).
    pub fn new(staking: Arc<dyn Staking>, operations: Operations, is_allowed: bool) -> Self {
        Self { staking, operations, is_allowed }
    }

    /// Whether operators may change anything.
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// `0x` and 40 hex digits.
    pub fn account(&self) -> String {
        address_lower(&self.staking.account())
    }

    /// Asks the chain.
    pub async fn standing(&self) -> Result<StakeStanding, ChainError> {
        self.staking.standing().await
    }

    /// Asks the chain of a proposal for the treasury.
    pub async fn proposal(&self, proposal_id: U256) -> Result<ProposalStanding, ChainError> {
        self.staking.proposal(proposal_id).await
    }

    /// Asks the chain what is voted on.
    pub async fn ballots(&self) -> Result<Ballots, ChainError> {
        self.staking.ballots().await
    }

    /// Asks the chain of a poll.
    pub async fn poll(&self, poll: Address) -> Result<PollStanding, ChainError> {
        self.staking.poll(poll).await
    }

    /// What stands in the way of an action, if anything does.
    pub async fn obstacle(&self, action: &StakeAction) -> Result<Option<String>, ChainError> {
        if !self.is_allowed {
            return Ok(Some(StakeError::Forbidden.to_string()));
        }
        if let Err(reason) = check(action) {
            return Ok(Some(reason));
        }
        match self.staking.preview(action).await {
            Ok(()) => Ok(None),
            Err(error) if error.revert().is_some() || !error.is_retryable() => {
                Ok(Some(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// For an operator: done once for a key, and to its end when the operator goes away.
    pub async fn act(&self, key: String, action: StakeAction) -> Result<Receipt, StakeError> {
        if !self.is_allowed {
            return Err(StakeError::Forbidden);
        }
        check(&action).map_err(StakeError::BadField)?;
        let this = self.clone();
        let done = tokio::spawn(async move { this.perform(key, action).await }).await;
        Ok(done.map_err(|_| StakeError::Task)??)
    }

    async fn perform(&self, key: String, action: StakeAction) -> Result<Receipt, OperationError> {
        let content = Content { account: self.account(), action };
        let content = serde_json::to_string(&content).map_err(|error| refused(&error))?;
        let act = |content: String, notes| async move {
            let bad = |reason: String| ChainError::Refused { reason };
            let Content { account, action } = serde_json::from_str(&content)
                .map_err(|error| bad(format!("the books hold an unreadable operation: {error}")))?;
            if account != self.account() {
                return Err(bad(format!("{account} has something on its way: start with its key")));
            }
            let receipt = self.staking.perform(&action, notes).await?;
            tracing::info!(?action, tx = %receipt.tx_hash, "done on the chain");
            Ok(receipt)
        };
        self.operations.perform(Wanted { key, content }, act).await
    }
}

fn refused(error: &serde_json::Error) -> OperationError {
    OperationError::Chain(ChainError::Refused { reason: error.to_string() })
}

/// What no contract looks at (on-chain.md section 7).
fn check(action: &StakeAction) -> Result<(), String> {
    match action {
        StakeAction::SetServiceUri { service_uri } => {
            let url =
                url::Url::parse(service_uri).map_err(|error| format!("{service_uri}: {error}"))?;
            match url.host_str() {
                Some(host) if !host.contains("0.0.0.0") && service_uri.len() <= 512 => Ok(()),
                Some(_) => Err(format!("{service_uri}: nobody reaches 0.0.0.0, or it is too long")),
                None => Err(format!("{service_uri} has no host")),
            }
        }
        StakeAction::SetRates { reward_cut_ppm, fee_share_ppm }
            if *reward_cut_ppm > penstock_chain::PARTS
                || *fee_share_ppm > penstock_chain::PARTS =>
        {
            Err("reward cut and fee share are at most 1000000, which is all of it".to_owned())
        }
        StakeAction::VoteOnProposal { reason: Some(reason), .. }
            if reason.len() > MAX_REASON_BYTES =>
        {
            Err(format!("a reason has at most {MAX_REASON_BYTES} bytes"))
        }
        StakeAction::Bond { amount_lptu } | StakeAction::Unbond { amount_lptu }
            if amount_lptu.is_zero() =>
        {
            Err("amount_lptu is 0".to_owned())
        }
        _ => Ok(()),
    }
}

/// When the next attempt is due.
#[derive(Debug, Default)]
struct Patience {
    attempts: u32,
    not_before_block: u64,
}

impl Patience {
    fn is_due(&self, block: u64) -> bool {
        block >= self.not_before_block
    }

    /// 1, 2, 4 … 64 blocks later.
    fn failed(&mut self, block: u64) {
        let blocks = 1_u64.checked_shl(self.attempts).unwrap_or(MOST_BLOCKS).min(MOST_BLOCKS);
        self.attempts = self.attempts.saturating_add(1);
        self.not_before_block = block.saturating_add(blocks);
    }
}

/// What a round needs of this orchestrator, looked at after each poll of the chain.
#[derive(Debug)]
pub struct Rounds {
    stake: Stake,
    automatic: Automatic,
    /// The round whose reward is called, or needs no call.
    rewarded: Option<u64>,
    reward: Patience,
    round: Patience,
}

impl Rounds {
    /// Nothing is known yet.
    pub fn new(stake: Stake, automatic: Automatic) -> Self {
        let (reward, round) = Default::default();
        Self { stake, automatic, rewarded: None, reward, round }
    }

    /// Does what is due. What fails is tried again some blocks later.
    pub async fn run_once(&mut self, snapshot: &Snapshot) {
        let block = snapshot.rounds.last_seen_l1_block;
        if let Some(wait) = self.automatic.rounds
            && self.round.is_due(block)
        {
            match self.initialize(wait).await {
                Ok(()) => self.round = Patience::default(),
                Err(error) => {
                    self.round.failed(block);
                    tracing::warn!(%error, "the round is not initialized by this process");
                }
            }
        }
        let round = snapshot.rounds.last_initialized_round;
        let is_new = self.rewarded.is_none_or(|rewarded| rewarded < round);
        if self.automatic.rewards && is_new && self.reward.is_due(block) {
            match self.reward().await {
                Ok(Some(round)) => {
                    (self.rewarded, self.reward) = (Some(round), Patience::default());
                }
                Ok(None) => {}
                Err(error) => {
                    self.reward.failed(block);
                    tracing::warn!(%error, round, "the round's reward is not called yet");
                }
            }
        }
    }

    /// Somebody has to begin each round. Each waits for a time of its own, so that few pay for it in vain.
    async fn initialize(&self, wait: Duration) -> Result<(), OperationError> {
        let standing = || async { self.stake.staking.round().await.map_err(OperationError::Chain) };
        if standing().await?.is_initialized {
            return Ok(());
        }
        let most = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let wait_ms = rand::rng().random_range(0..=most);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let now = standing().await?;
        if now.is_initialized {
            return Ok(());
        }
        let round = now.current_round;
        let key = format!("round-{round}-{}", clock::now_ms());
        let action = StakeAction::InitializeRound { round };
        match self.stake.perform(key, action).await {
            Ok(_) => Ok(()),
            // Another one was faster.
            Err(_) if standing().await?.is_initialized => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The round that needs no more of it; none while it has not begun.
    async fn reward(&self) -> Result<Option<u64>, OperationError> {
        let standing = self.stake.standing().await.map_err(OperationError::Chain)?;
        // What was polled may be a round behind.
        let round = standing.round.current_round;
        if !standing.round.is_initialized {
            return Ok(None);
        }
        if standing.is_active && standing.last_reward_round < round {
            let key = format!("reward-{}-{round}", self.stake.account());
            self.stake.perform(key, StakeAction::Reward { round }).await?;
        }
        Ok(Some(round))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::Wei;

    #[test]
    fn what_no_contract_looks_at_is_looked_at_here() {
        let uri = |text: &str| StakeAction::SetServiceUri { service_uri: text.to_owned() };
        assert_eq!(check(&uri("https://orch.example:8935")), Ok(()));
        for bad in ["orch.example", "https://0.0.0.0:8935", "", "mailto:a@b"] {
            assert!(check(&uri(bad)).is_err(), "{bad}");
        }
        let rates = |reward_cut_ppm, fee_share_ppm| {
            check(&StakeAction::SetRates { reward_cut_ppm, fee_share_ppm })
        };
        assert_eq!(rates(1_000_000, 0), Ok(()));
        assert!(rates(1_000_001, 0).is_err() && rates(0, 1_000_001).is_err());
        assert!(check(&StakeAction::Bond { amount_lptu: Wei::ZERO }).is_err());
    }

    #[test]
    fn attempts_are_further_and_further_apart() {
        let mut patience = Patience::default();
        let mut block = 100;
        for apart in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(patience.is_due(block));
            patience.failed(block);
            assert!(!patience.is_due(block + apart - 1) && patience.is_due(block + apart));
            block += apart;
        }
    }
}
