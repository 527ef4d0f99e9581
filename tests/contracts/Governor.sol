// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {Controller} from "./Controller.sol";
import {Manager} from "./Manager.sol";

/// Proposals for the treasury, and votes on them by stake. Time is counted in rounds. Anybody may propose nothing.
contract Governor is Manager {
    error VoteAlreadyCast();
    error InvalidVoteType(uint8 voteType);

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
    event VoteCast(address indexed voter, uint256 proposalId, uint8 support, uint256 weight, string reason);

    struct Proposal {
        uint256 snapshot;
        uint256 deadline;
        uint256[3] votes;
        mapping(address => bool) voted;
    }

    mapping(uint256 => Proposal) private proposals;

    constructor(Controller controller) Manager(controller) {}

    /// Votes are taken from the next round on, for so many rounds.
    function propose(uint256 id, uint256 roundsLong) external {
        Proposal storage proposal = proposals[id];
        proposal.snapshot = rounds().currentRound();
        proposal.deadline = proposal.snapshot + roundsLong;
        emit ProposalCreated(
            id,
            msg.sender,
            new address[](0),
            new uint256[](0),
            new string[](0),
            new bytes[](0),
            proposal.snapshot,
            proposal.deadline,
            "# What it is\nand why"
        );
    }

    /// 0 pending, 1 active, 3 defeated, 4 succeeded.
    function state(uint256 id) public view returns (uint8) {
        Proposal storage proposal = proposals[id];
        require(proposal.deadline > 0, "Governor: unknown proposal id");
        uint256 round = rounds().currentRound();
        if (round <= proposal.snapshot) return 0;
        if (round <= proposal.deadline) return 1;
        return proposal.votes[1] > proposal.votes[0] ? 4 : 3;
    }

    function proposalSnapshot(uint256 id) external view returns (uint256) {
        return proposals[id].snapshot;
    }

    function proposalDeadline(uint256 id) external view returns (uint256) {
        return proposals[id].deadline;
    }

    function proposalVotes(uint256 id) external view returns (uint256, uint256, uint256) {
        uint256[3] storage votes = proposals[id].votes;
        return (votes[0], votes[1], votes[2]);
    }

    /// Whoever is bonded to an account votes through it. What the real one remembers of the snapshot's round is that of
    /// now here.
    function getVotes(address account, uint256 timepoint) public view returns (uint256) {
        require(timepoint < rounds().currentRound(), "future lookup");
        return bonding().transcoderTotalStake(account);
    }

    function hasVoted(uint256 id, address account) external view returns (bool) {
        return proposals[id].voted[account];
    }

    function castVote(uint256 id, uint8 support) external returns (uint256) {
        return cast(id, support, "");
    }

    function castVoteWithReason(uint256 id, uint8 support, string calldata reason) external returns (uint256) {
        return cast(id, support, reason);
    }

    function cast(uint256 id, uint8 support, string memory reason) private returns (uint256 weight) {
        require(state(id) == 1, "Governor: vote not currently active");
        Proposal storage proposal = proposals[id];
        if (proposal.voted[msg.sender]) revert VoteAlreadyCast();
        if (support > 2) revert InvalidVoteType(support);
        proposal.voted[msg.sender] = true;
        weight = getVotes(msg.sender, proposal.snapshot);
        proposal.votes[support] += weight;
        emit VoteCast(msg.sender, id, support, weight, reason);
    }
}
