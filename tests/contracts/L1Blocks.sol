// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

/// The chain below: on Arbitrum `block.number` is the height of L1, which moves on its own and not with the
/// blocks that transactions are in. Here it moves when a test says so.
contract L1Blocks {
    uint256 public number = 1;

    function mine(uint256 blocks) external {
        number += blocks;
    }

    function hashOf(uint256 blockNumber) external view returns (bytes32) {
        return keccak256(abi.encode(address(this), blockNumber));
    }
}
