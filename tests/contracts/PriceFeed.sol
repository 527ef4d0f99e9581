// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

/// What an ether costs, in the shape of a Chainlink aggregator. A test sets the answer.
contract PriceFeed {
    uint8 public constant decimals = 8;
    string public constant description = "ETH / USD";
    uint80 private round = 1;
    int256 private price = 3000 * 10 ** 8;
    uint256 private updatedAt = block.timestamp;

    function set(int256 answer) external {
        round += 1;
        price = answer;
        updatedAt = block.timestamp;
    }

    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updated, uint80 answeredInRound)
    {
        return (round, price, updatedAt, updatedAt, round);
    }
}
