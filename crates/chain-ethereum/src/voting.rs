//! Votes in polls and on proposals for the treasury (on-chain.md section 2; OpenZeppelin's governor).

use crate::{
    EthereumChain,
    address_book::AddressBook,
    contracts::{ILivepeerGovernor, IPoll, IRoundsManager},
    reader::to_u64,
    rpc::wire::{Account, Data},
};
use alloy_sol_types::SolCall;
use penstock_chain::{
    ChainError, PollChoice, PollStanding, ProposalStanding, ProposalState, StakeAction, Support,
};
use penstock_domain::{Address, U256, Wei};
use serde_json::json;

/// A poll's call.
pub(crate) fn vote(choice: PollChoice) -> Vec<u8> {
    IPoll::voteCall { choiceID: choice.number() }.abi_encode()
}

/// A governor's call.
pub(crate) fn cast(proposal_id: U256, support: Support, reason: Option<&str>) -> Vec<u8> {
    let (proposal, support) = (proposal_id, support.number());
    match reason {
        None => ILivepeerGovernor::castVoteCall { proposalId: proposal, support }.abi_encode(),
        Some(reason) => ILivepeerGovernor::castVoteWithReasonCall {
            proposalId: proposal,
            support,
            reason: reason.to_owned(),
        }
        .abi_encode(),
    }
}

/// Where proposals are.
pub(crate) fn governor(book: &AddressBook) -> Result<Address, ChainError> {
    book.governor.ok_or_else(|| ChainError::Refused {
        reason: "--eth-controller knows no LivepeerGovernor: there is nothing to vote on"
            .to_owned(),
    })
}

impl EthereumChain {
    /// What contracts would not say, or not in words: a second vote, a poll that is none.
    pub(crate) async fn check_vote(&self, action: &StakeAction) -> Result<(), ChainError> {
        let refused = |reason: String| Err(ChainError::Refused { reason });
        match action {
            StakeAction::Vote { poll, .. } => {
                let PollStanding { end_block, l1_block, .. } = self.poll_standing(*poll).await?;
                if l1_block > end_block {
                    return refused(format!("poll is over since L1 block {end_block}"));
                }
            }
            StakeAction::VoteOnProposal { proposal_id, .. } => {
                let now = self.proposal_standing(*proposal_id).await?;
                if now.has_voted {
                    return refused("this account has voted on it already".to_owned());
                }
                if now.state != ProposalState::Active {
                    let (state, from) = (now.state, now.snapshot_round.saturating_add(1));
                    let reason = format!(
                        "the proposal is {state}: votes are taken from round {from} to {}",
                        now.deadline_round
                    );
                    return refused(reason);
                }
                // The contract takes a vote without weight, and no other after it.
                let (me, round) = (self.sending()?.account(), now.snapshot_round);
                let call =
                    ILivepeerGovernor::getVotesCall { account: me, timepoint: U256::from(round) };
                let weight = self.reader.newest(governor(self.book().await?)?, &call).await?;
                if weight.is_zero() {
                    return refused(format!(
                        "{me} had no stake in round {round}, whose stake votes"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) async fn proposal_standing(
        &self,
        proposal_id: U256,
    ) -> Result<ProposalStanding, ChainError> {
        let (me, governor) = (self.sending()?.account(), governor(self.book().await?)?);
        let proposal = proposal_id;
        // First, and alone: of a proposal that is unknown the contract says so here only.
        let state = ILivepeerGovernor::stateCall { proposalId: proposal };
        let state = self.reader.newest(governor, &state).await?;
        let state = ProposalState::of(state).ok_or_else(|| ChainError::BadAnswer {
            reason: format!("a proposal in state {state}"),
        })?;
        let (snapshot, deadline, votes, voted) = (
            ILivepeerGovernor::proposalSnapshotCall { proposalId: proposal },
            ILivepeerGovernor::proposalDeadlineCall { proposalId: proposal },
            ILivepeerGovernor::proposalVotesCall { proposalId: proposal },
            ILivepeerGovernor::hasVotedCall { proposalId: proposal, account: me },
        );
        let (snapshot, deadline, votes, has_voted) = tokio::try_join!(
            self.reader.newest(governor, &snapshot),
            self.reader.newest(governor, &deadline),
            self.reader.newest(governor, &votes),
            self.reader.newest(governor, &voted),
        )?;
        Ok(ProposalStanding {
            state,
            snapshot_round: to_u64(snapshot, "a round")?,
            deadline_round: to_u64(deadline, "a round")?,
            for_lptu: Wei(votes.forVotes),
            against_lptu: Wei(votes.againstVotes),
            abstain_lptu: Wei(votes.abstainVotes),
            has_voted,
        })
    }

    pub(crate) async fn poll_standing(&self, poll: Address) -> Result<PollStanding, ChainError> {
        let code: Data =
            self.reader.rpc.ask("eth_getCode", json!([Account(poll), "latest"])).await?;
        if code.0.is_empty() {
            let reason = format!("there is no contract at {poll}");
            return Err(ChainError::Refused { reason });
        }
        let (end, now) = (IPoll::endBlockCall {}, IRoundsManager::blockNumCall {});
        let rounds = self.book().await?.rounds_manager;
        let end = async {
            let said = self.reader.newest(poll, &end).await;
            said.map_err(|error| {
                let is_another = matches!(error, ChainError::BadAnswer { .. });
                if !is_another && error.revert().is_none() {
                    return error;
                }
                ChainError::Refused { reason: format!("{poll} is no poll: it has no endBlock()") }
            })
        };
        let (end, now) = tokio::try_join!(end, self.reader.newest(rounds, &now))?;
        Ok(PollStanding {
            poll,
            end_block: to_u64(end, "an L1 block")?,
            l1_block: to_u64(now, "an L1 block")?,
        })
    }
}
