//! An orchestrator's stake, terms and name on the contracts (on-chain.md sections 4, 5 and 7).

use crate::{
    EthereumChain,
    contracts::{IBondingManager, IRoundsManager, IServiceRegistry, IToken},
    reader::to_u64,
    rpc::wire::{Account, Quantity},
    transactions::{Call, Sender},
    voting,
};
use alloy_sol_types::SolCall;
use async_trait::async_trait;
use penstock_chain::{
    Ballots, ChainError, NEVER, Notes, PollStanding, ProposalStanding, Receipt, RoundStanding,
    StakeAction, StakeStanding, Staking, UnbondingLock,
};
use penstock_domain::{Address, U256, Wei};
use serde_json::json;
use std::sync::Arc;

/// Unbonding locks that are looked at, from the newest back.
const MAX_LOCKS: u64 = 50;
/// Longest service URI that is shown.
const MAX_URI_CHARS: usize = 512;
/// `delegatorStatus`: nothing is bonded.
const UNBONDED: u8 = 2;

impl EthereumChain {
    pub(crate) fn sending(&self) -> Result<&Sender, ChainError> {
        self.sender.as_ref().ok_or(ChainError::NoAccount { operation: "staking" })
    }

    /// The contract, the selector and the arguments of an action. A bond needs its tokens approved before.
    async fn call_of(&self, action: &StakeAction) -> Result<(Address, Vec<u8>), ChainError> {
        let (me, book) = (self.sending()?.account(), self.book().await?);
        let stake = book.bonding_manager;
        Ok(match action {
            StakeAction::InitializeRound { .. } => {
                (book.rounds_manager, IRoundsManager::initializeRoundCall {}.abi_encode())
            }
            StakeAction::Reward { .. } => (stake, IBondingManager::rewardCall {}.abi_encode()),
            StakeAction::SetServiceUri { service_uri } => {
                let call = IServiceRegistry::setServiceURICall { uri: service_uri.clone() };
                (book.service_registry, call.abi_encode())
            }
            StakeAction::SetRates { reward_cut_ppm, fee_share_ppm } => {
                let call = IBondingManager::transcoderCall {
                    rewardCut: U256::from(*reward_cut_ppm),
                    feeShare: U256::from(*fee_share_ppm),
                };
                (stake, call.abi_encode())
            }
            StakeAction::Bond { amount_lptu } => {
                (stake, IBondingManager::bondCall { amount: amount_lptu.0, to: me }.abi_encode())
            }
            StakeAction::Unbond { amount_lptu } => {
                (stake, IBondingManager::unbondCall { amount: amount_lptu.0 }.abi_encode())
            }
            StakeAction::Rebond { lock_id } => {
                let lock_id = U256::from(*lock_id);
                let status = IBondingManager::delegatorStatusCall { d: me };
                let call = if self.reader.newest(stake, &status).await? == UNBONDED {
                    let call = IBondingManager::rebondFromUnbondedCall { to: me, lockId: lock_id };
                    call.abi_encode()
                } else {
                    IBondingManager::rebondCall { lockId: lock_id }.abi_encode()
                };
                (stake, call)
            }
            StakeAction::WithdrawStake { lock_id } => {
                let call = IBondingManager::withdrawStakeCall { lockId: U256::from(*lock_id) };
                (stake, call.abi_encode())
            }
            StakeAction::WithdrawFees { amount_wei } => {
                let amount_wei = match amount_wei {
                    Some(amount_wei) => *amount_wei,
                    None => self.pending_fees(me).await?,
                };
                if amount_wei.is_zero() {
                    return Err(ChainError::Refused { reason: "no fees are there".to_owned() });
                }
                let call =
                    IBondingManager::withdrawFeesCall { recipient: me, amount: amount_wei.0 };
                (stake, call.abi_encode())
            }
            StakeAction::Claim { round } => {
                let call = IBondingManager::claimEarningsCall { endRound: U256::from(*round) };
                (stake, call.abi_encode())
            }
            StakeAction::Vote { poll, choice } => (*poll, voting::vote(*choice)),
            StakeAction::VoteOnProposal { proposal_id, support, reason } => {
                let governor = voting::governor(book)?;
                (governor, voting::cast(*proposal_id, *support, reason.as_deref()))
            }
        })
    }

    /// An operation that is named after its round is none of another round's.
    async fn check_round(&self, action: &StakeAction) -> Result<(), ChainError> {
        let (StakeAction::InitializeRound { round }
        | StakeAction::Reward { round }
        | StakeAction::Claim { round }) = action
        else {
            return Ok(());
        };
        let call = IRoundsManager::currentRoundCall {};
        let now = self.reader.newest(self.book().await?.rounds_manager, &call).await?;
        let now = to_u64(now, "the round")?;
        if now == *round {
            return Ok(());
        }
        Err(ChainError::Refused { reason: format!("this is for round {round}, and now is {now}") })
    }

    /// Nothing is approved for tokens that are not there.
    async fn check_tokens(&self, amount_lptu: Wei) -> Result<(), ChainError> {
        let (me, token) = (self.sending()?.account(), self.book().await?.token);
        let has = Wei(self.reader.newest(token, &IToken::balanceOfCall { account: me }).await?);
        if has >= amount_lptu {
            return Ok(());
        }
        let (has, wanted) = (has.0, amount_lptu.0);
        let reason = format!("{me} has {has} LPTU, and {wanted} LPTU are to be bonded");
        Err(ChainError::Refused { reason })
    }

    async fn locks(&self, me: Address, next: u64) -> Result<Vec<UnbondingLock>, ChainError> {
        let stake = self.book().await?.bonding_manager;
        let mut locks = Vec::new();
        for lock_id in (next.saturating_sub(MAX_LOCKS)..next).rev() {
            let lock_id_ = U256::from(lock_id);
            let call = IBondingManager::getDelegatorUnbondingLockCall { d: me, lockId: lock_id_ };
            let lock = self.reader.newest(stake, &call).await?;
            // Used ones are empty.
            if !lock.withdrawRound.is_zero() {
                locks.push(UnbondingLock {
                    lock_id,
                    amount_lptu: Wei(lock.amount),
                    withdraw_round: to_u64(lock.withdrawRound, "a withdraw round")?,
                });
            }
        }
        Ok(locks)
    }
}

fn parts(number: U256) -> Result<u32, ChainError> {
    u32::try_from(number)
        .map_err(|_| ChainError::BadAnswer { reason: format!("{number} of a million") })
}

fn round(number: U256) -> u64 {
    u64::try_from(number).unwrap_or(NEVER).min(NEVER)
}

#[async_trait]
impl Staking for EthereumChain {
    fn account(&self) -> Address {
        self.sender.as_ref().map(Sender::account).unwrap_or_default()
    }

    async fn round(&self) -> Result<RoundStanding, ChainError> {
        let rounds = self.book().await?.rounds_manager;
        let (now, initialized, locked) = (
            IRoundsManager::currentRoundCall {},
            IRoundsManager::currentRoundInitializedCall {},
            IRoundsManager::currentRoundLockedCall {},
        );
        let (current, is_initialized, is_locked) = tokio::try_join!(
            self.reader.newest(rounds, &now),
            self.reader.newest(rounds, &initialized),
            self.reader.newest(rounds, &locked),
        )?;
        let current_round = to_u64(current, "the round")?;
        Ok(RoundStanding { current_round, is_initialized, is_locked })
    }

    async fn ballots(&self) -> Result<Ballots, ChainError> {
        self.open_ballots().await
    }

    async fn standing(&self) -> Result<StakeStanding, ChainError> {
        let (me, book) = (self.sending()?.account(), self.book().await?);
        let (stake, reader) = (book.bonding_manager, &self.reader);
        let zero = U256::ZERO;
        let (terms, delegator, registered, active) = (
            IBondingManager::getTranscoderCall { t: me },
            IBondingManager::getDelegatorCall { d: me },
            IBondingManager::isRegisteredTranscoderCall { t: me },
            IBondingManager::isActiveTranscoderCall { t: me },
        );
        let (terms, delegator, is_registered, is_active) = tokio::try_join!(
            reader.newest(stake, &terms),
            reader.newest(stake, &delegator),
            reader.newest(stake, &registered),
            reader.newest(stake, &active),
        )?;
        let (total, own, fees) = (
            IBondingManager::transcoderTotalStakeCall { t: me },
            IBondingManager::pendingStakeCall { d: me, endRound: zero },
            IBondingManager::pendingFeesCall { delegator: me, endRound: zero },
        );
        let (tokens, uri) = (
            IToken::balanceOfCall { account: me },
            IServiceRegistry::getServiceURICall { addr: me },
        );
        let ether = json!([Account(me), "latest"]);
        let ether = async {
            let ether: Result<Quantity, _> = reader.rpc.ask("eth_getBalance", ether).await;
            ether.map_err(ChainError::from)
        };
        let size = IBondingManager::getTranscoderPoolSizeCall {};
        let (total, own, fees, tokens, uri, ether, size, rounds) = tokio::try_join!(
            reader.newest(stake, &total),
            reader.newest(stake, &own),
            reader.newest(stake, &fees),
            reader.newest(book.token, &tokens),
            reader.newest(book.service_registry, &uri),
            ether,
            reader.newest(stake, &size),
            self.round(),
        )?;
        let next = to_u64(delegator.nextUnbondingLockId, "a number of locks")?;
        let gone = round(terms.deactivationRound);
        Ok(StakeStanding {
            round: rounds,
            is_registered,
            is_active,
            activation_round: round(terms.activationRound),
            deactivation_round: (gone != NEVER && gone != 0).then_some(gone),
            last_reward_round: round(terms.lastRewardRound),
            reward_cut_ppm: parts(terms.rewardCut)?,
            fee_share_ppm: parts(terms.feeShare)?,
            total_stake_lptu: Wei(total),
            own_stake_lptu: Wei(own),
            pending_fees_wei: Wei(fees),
            balance_lptu: Wei(tokens),
            balance_wei: Wei(ether.0),
            service_uri: uri.chars().take(MAX_URI_CHARS).collect(),
            pool_size: to_u64(size, "the pool's size")?,
            unbonding_locks: self.locks(me, next).await?,
        })
    }

    async fn proposal(&self, proposal_id: U256) -> Result<ProposalStanding, ChainError> {
        self.proposal_standing(proposal_id).await
    }

    async fn poll(&self, poll: Address) -> Result<PollStanding, ChainError> {
        self.poll_standing(poll).await
    }

    async fn preview(&self, action: &StakeAction) -> Result<(), ChainError> {
        self.check_round(action).await?;
        self.check_vote(action).await?;
        let (to, data) = self.call_of(action).await?;
        if let StakeAction::Bond { amount_lptu } = action {
            // Nobody can try it before the tokens are approved.
            return self.check_tokens(*amount_lptu).await;
        }
        self.sending()?
            .preview(&Call {
                to,
                value: Wei::ZERO,
                data,
                again: true,
                gas: None,
                least: Vec::new(),
            })
            .await
    }

    async fn perform(
        &self,
        action: &StakeAction,
        notes: Arc<dyn Notes>,
    ) -> Result<Receipt, ChainError> {
        // What an earlier life sent for it is found whatever the round is now.
        if notes.read().await?.is_none() {
            self.check_round(action).await?;
            self.check_vote(action).await?;
            if let StakeAction::Bond { amount_lptu } = action {
                self.check_tokens(*amount_lptu).await?;
            }
        }
        let chain = self.for_operation(notes);
        if let StakeAction::Bond { amount_lptu } = action {
            let (me, book) = (self.sending()?.account(), self.book().await?);
            chain.approve(me, book, *amount_lptu).await?;
        }
        // What it was when it was sent may have been another call: that one has its end first.
        let left = match (&chain.sender, action) {
            (_, StakeAction::Bond { .. }) | (None, _) => None,
            (Some(sender), _) => sender.noted().await?,
        };
        let (to, data) = match left {
            Some(left) => (left.to, left.data),
            None => chain.call_of(action).await?,
        };
        let call =
            Call { to, value: Wei::ZERO, data, again: again(action), gas: None, least: Vec::new() };
        chain.act_as(action.operation(), call).await
    }
}

/// Whether the contract refuses it once it was done, or it does no harm twice.
fn again(action: &StakeAction) -> bool {
    !matches!(
        action,
        StakeAction::Bond { .. } | StakeAction::Unbond { .. } | StakeAction::WithdrawFees { .. }
    )
}
