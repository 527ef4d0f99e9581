//! The contracts' interfaces (on-chain.md section 2), as far as they are called or their events read.
#![allow(missing_docs, reason = "the contracts' own names, as their source documents them")]
#![allow(
    clippy::pub_underscore_fields,
    clippy::too_many_arguments,
    reason = "generated from the signatures"
)]

use alloy_sol_types::sol;

sol! {
    interface IController {
        function getContract(bytes32 id) external view returns (address);
    }

    #[derive(Debug)]
    struct Ticket {
        address recipient;
        address sender;
        uint256 faceValue;
        uint256 winProb;
        uint256 senderNonce;
        bytes32 recipientRandHash;
        bytes auxData;
    }

    struct SenderAccount { uint256 deposit; uint256 withdrawRound; }
    struct Reserve { uint256 fundsRemaining; uint256 claimedInCurrentRound; }

    interface ITicketBroker {
        function fundDepositAndReserve(uint256 depositAmount, uint256 reserveAmount) external payable;
        function fundDepositAndReserveFor(address addr, uint256 depositAmount, uint256 reserveAmount) external payable;
        function unlock() external;
        function cancelUnlock() external;
        function withdraw() external;
        function redeemWinningTicket(Ticket ticket, bytes sig, uint256 recipientRand) external;
        function batchRedeemWinningTickets(Ticket[] tickets, bytes[] sigs, uint256[] recipientRands) external;
        function getSenderInfo(address sender) external view returns (SenderAccount account, Reserve reserve);
        function claimedReserve(address holder, address claimant) external view returns (uint256);
        function claimableReserve(address holder, address claimant) external view returns (uint256);
        function usedTickets(bytes32 ticketHash) external view returns (bool);
        event ReserveClaimed(address indexed reserveHolder, address claimant, uint256 amount);
        event WinningTicketTransfer(address indexed sender, address indexed recipient, uint256 amount);
        event WinningTicketRedeemed(
            address indexed sender,
            address indexed recipient,
            uint256 faceValue,
            uint256 winProb,
            uint256 senderNonce,
            uint256 recipientRand,
            bytes auxData
        );
    }

    interface IRoundsManager {
        function currentRound() external view returns (uint256);
        function lastInitializedRound() external view returns (uint256);
        function currentRoundStartBlock() external view returns (uint256);
        function roundLength() external view returns (uint256);
        function blockNum() external view returns (uint256);
        function blockHashForRound(uint256 round) external view returns (bytes32);
        function currentRoundInitialized() external view returns (bool);
        function currentRoundLocked() external view returns (bool);
        function initializeRound() external;
    }

    interface IBondingManager {
        function transcoder(uint256 rewardCut, uint256 feeShare) external;
        function bond(uint256 amount, address to) external;
        function unbond(uint256 amount) external;
        function rebond(uint256 lockId) external;
        function rebondFromUnbonded(address to, uint256 lockId) external;
        function withdrawStake(uint256 lockId) external;
        function claimEarnings(uint256 endRound) external;
        function reward() external;
        function withdrawFees(address recipient, uint256 amount) external;
        function pendingFees(address delegator, uint256 endRound) external view returns (uint256);
        function getTranscoder(address t) external view returns (
            uint256 lastRewardRound,
            uint256 rewardCut,
            uint256 feeShare,
            uint256 lastActiveStakeUpdateRound,
            uint256 activationRound,
            uint256 deactivationRound,
            uint256 activeCumulativeRewards,
            uint256 cumulativeRewards,
            uint256 cumulativeFees,
            uint256 lastFeeRound
        );
        function getDelegator(address d) external view returns (
            uint256 bondedAmount,
            uint256 fees,
            address delegateAddress,
            uint256 delegatedAmount,
            uint256 startRound,
            uint256 lastClaimRound,
            uint256 nextUnbondingLockId
        );
        function getDelegatorUnbondingLock(address d, uint256 lockId) external view returns (uint256 amount, uint256 withdrawRound);
        function pendingStake(address d, uint256 endRound) external view returns (uint256);
        function transcoderTotalStake(address t) external view returns (uint256);
        function delegatorStatus(address d) external view returns (uint8);
        function isActiveTranscoder(address t) external view returns (bool);
        function isRegisteredTranscoder(address t) external view returns (bool);
        function getFirstTranscoderInPool() external view returns (address);
        function getNextTranscoderInPool(address t) external view returns (address);
        function getTranscoderPoolSize() external view returns (uint256);
        event TranscoderActivated(address indexed transcoder, uint256 activationRound);
        event TranscoderDeactivated(address indexed transcoder, uint256 deactivationRound);
    }

    interface IServiceRegistry {
        function setServiceURI(string uri) external;
        function getServiceURI(address addr) external view returns (string);
        event ServiceURIUpdate(address indexed addr, string serviceURI);
    }

    interface IPoll {
        function vote(uint256 choiceID) external;
        function endBlock() external view returns (uint256);
        event Vote(address indexed voter, uint256 choiceID);
    }

    interface IPollCreator {
        event PollCreated(address indexed poll, bytes proposal, uint256 endBlock, uint256 quorum, uint256 quota);
    }

    interface ILivepeerGovernor {
        function castVote(uint256 proposalId, uint8 support) external returns (uint256);
        function castVoteWithReason(uint256 proposalId, uint8 support, string reason) external returns (uint256);
        function state(uint256 proposalId) external view returns (uint8);
        function proposalSnapshot(uint256 proposalId) external view returns (uint256);
        function proposalDeadline(uint256 proposalId) external view returns (uint256);
        function proposalVotes(uint256 proposalId) external view returns (uint256 againstVotes, uint256 forVotes, uint256 abstainVotes);
        function getVotes(address account, uint256 timepoint) external view returns (uint256);
        function hasVoted(uint256 proposalId, address account) external view returns (bool);
        event ProposalCreated(
            uint256 proposalId,
            address proposer,
            address[] targets,
            uint256[] values,
            string[] signatures,
            bytes[] calldatas,
            uint256 voteStart,
            uint256 voteEnd,
            string description
        );
    }

    interface IToken {
        function approve(address spender, uint256 amount) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::{SolCall, SolEvent};

    #[test]
    fn selectors_and_topics_are_the_deployed_ones() {
        // on-chain.md sections 2 and 3.
        for (selector, want) in [
            (ITicketBroker::fundDepositAndReserveForCall::SELECTOR, "989f789c"),
            (ITicketBroker::redeemWinningTicketCall::SELECTOR, "ec8b3cb6"),
            (ITicketBroker::batchRedeemWinningTicketsCall::SELECTOR, "d01b808e"),
            (ITicketBroker::getSenderInfoCall::SELECTOR, "e1a589da"),
            (ITicketBroker::claimedReserveCall::SELECTOR, "4ac826da"),
            (ITicketBroker::claimableReserveCall::SELECTOR, "81779f38"),
            (ITicketBroker::usedTicketsCall::SELECTOR, "59a515ba"),
            (IRoundsManager::initializeRoundCall::SELECTOR, "d4807fb2"),
            (IBondingManager::rewardCall::SELECTOR, "228cb733"),
            (IServiceRegistry::setServiceURICall::SELECTOR, "5f11301b"),
            (IServiceRegistry::getServiceURICall::SELECTOR, "214c2a4b"),
            // OpenZeppelin's IGovernor.
            (ILivepeerGovernor::castVoteCall::SELECTOR, "56781388"),
            (ILivepeerGovernor::castVoteWithReasonCall::SELECTOR, "7b3c71d3"),
            (ILivepeerGovernor::stateCall::SELECTOR, "3e4f49e6"),
            (ILivepeerGovernor::hasVotedCall::SELECTOR, "43859632"),
            (IPoll::voteCall::SELECTOR, "0121b93f"),
        ] {
            assert_eq!(hex::encode(selector), want);
        }
        for (topic, want) in [
            (
                ITicketBroker::WinningTicketTransfer::SIGNATURE_HASH,
                "8b87351a208c06e3ceee59d80725fd77a23b4129e1b51ca231fc89b40712649c",
            ),
            (
                ITicketBroker::WinningTicketRedeemed::SIGNATURE_HASH,
                "c389eb51ed006dbf2528507f010efdf5225ea596e1e1741d74f550dab1925ee7",
            ),
            (
                ITicketBroker::ReserveClaimed::SIGNATURE_HASH,
                "5c2b394723f408a40a60335e24b71829642e35f350cebe2036a96a66e895ea98",
            ),
            (
                IBondingManager::TranscoderActivated::SIGNATURE_HASH,
                "65d72d782835d64c3287844a829608d5abdc7e864cc9affe96d910ab3db665e9",
            ),
            (
                IBondingManager::TranscoderDeactivated::SIGNATURE_HASH,
                "fee3e693fc72d0a0a673805f3e606c551f4c677b9072444b90dd2d0406bc995c",
            ),
            (
                IServiceRegistry::ServiceURIUpdate::SIGNATURE_HASH,
                "fbb63068732c85741c9f8e61caffaabe038d577bfafd2d2dcc0e352a4f653a4c",
            ),
        ] {
            assert_eq!(hex::encode(topic), want);
        }
    }
}
