// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {Controller} from "./Controller.sol";
import {L1Blocks} from "./L1Blocks.sol";
import {Manager} from "./Manager.sol";

/// Rounds of a fixed number of L1 blocks. Each has to be initialised, by anyone, to count.
contract RoundsManager is Manager {
    event NewRound(uint256 indexed round, bytes32 blockHash);

    uint256 private constant PARTS = 1000000;

    L1Blocks private immutable l1;
    uint256 public immutable roundLength;
    /// The part of a round, out of a million, at whose end nobody changes terms.
    uint256 public constant roundLockAmount = 100000;
    uint256 public lastInitializedRound;
    mapping(uint256 => bytes32) private hashes;

    constructor(Controller controller_, L1Blocks l1_, uint256 roundLength_) Manager(controller_) {
        l1 = l1_;
        roundLength = roundLength_;
    }

    function initializeRound() external whenSystemNotPaused {
        uint256 round = currentRound();
        require(lastInitializedRound < round, "round already initialized");
        lastInitializedRound = round;
        bytes32 hash = l1.hashOf(l1.number() - 1);
        hashes[round] = hash;
        bonding().setCurrentRoundTotalActiveStake();
        minter().setCurrentRewardTokens();
        emit NewRound(round, hash);
    }

    function blockNum() public view returns (uint256) {
        return l1.number();
    }

    function blockHash(uint256 blockNumber) external view returns (bytes32) {
        uint256 now_ = blockNum();
        require(blockNumber < now_, "can only retrieve past block hashes");
        require(now_ <= 256 || blockNumber >= now_ - 256, "can only retrieve hashes for last 256 blocks");
        return l1.hashOf(blockNumber);
    }

    function blockHashForRound(uint256 round) external view returns (bytes32) {
        return hashes[round];
    }

    function currentRound() public view returns (uint256) {
        return blockNum() / roundLength;
    }

    function currentRoundStartBlock() public view returns (uint256) {
        return currentRound() * roundLength;
    }

    function currentRoundInitialized() external view returns (bool) {
        return lastInitializedRound == currentRound();
    }

    function currentRoundLocked() external view returns (bool) {
        return blockNum() - currentRoundStartBlock() >= roundLength - (roundLength * roundLockAmount) / PARTS;
    }
}
