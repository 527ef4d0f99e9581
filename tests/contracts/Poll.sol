// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {L1Blocks} from "./L1Blocks.sol";

/// A question to everybody with a stake. Votes are events, counted by whoever reads them: one may vote again, and for
/// anything.
contract Poll {
    event Vote(address indexed voter, uint256 choiceID);

    L1Blocks private immutable l1;
    uint256 public immutable endBlock;

    constructor(L1Blocks l1_, uint256 endBlock_) {
        l1 = l1_;
        endBlock = endBlock_;
    }

    function vote(uint256 choiceID) external {
        require(l1.number() <= endBlock, "poll is over");
        emit Vote(msg.sender, choiceID);
    }
}
