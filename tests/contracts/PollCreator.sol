// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {L1Blocks} from "./L1Blocks.sol";
import {Poll} from "./Poll.sol";

/// Makes polls, for nothing, and tells of each.
contract PollCreator {
    event PollCreated(address indexed poll, bytes proposal, uint256 endBlock, uint256 quorum, uint256 quota);

    function createPoll(L1Blocks l1, uint256 endBlock, bytes calldata proposal) external returns (Poll poll) {
        poll = new Poll(l1, endBlock);
        emit PollCreated(address(poll), proposal, endBlock, 333300, 500000);
    }
}
