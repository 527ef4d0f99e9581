// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {Controller} from "./Controller.sol";
import {Manager} from "./Manager.sol";

/// Holds everybody's ether and bonded tokens, and makes the tokens of a round's rewards.
contract Minter is Manager {
    event SetCurrentRewardTokens(uint256 currentMintableTokens, uint256 currentInflation);

    uint256 private constant PARTS = 1000000000;

    uint256 public constant inflation = 220500;
    uint256 public constant inflationChange = 500;
    uint256 public constant targetBondingRate = 500000000;
    uint256 public currentMintableTokens;
    uint256 public currentMintedTokens;

    constructor(Controller controller_) Manager(controller_) {}

    modifier onlyBrokerOrBonding() {
        require(
            msg.sender == named("JobsManager") || msg.sender == named("BondingManager"),
            "msg.sender not BondingManager or JobsManager"
        );
        _;
    }

    modifier only(string memory name) {
        require(msg.sender == named(name), "caller may not do this");
        _;
    }

    function depositETH() external payable onlyBrokerOrBonding {}

    function trustedWithdrawETH(address payable to, uint256 amount) external onlyBrokerOrBonding {
        (bool sent, ) = to.call{value: amount}("");
        require(sent, "ether was not taken");
    }

    function trustedTransferTokens(address to, uint256 amount) external only("BondingManager") {
        token().transfer(to, amount);
    }

    function setCurrentRewardTokens() external only("RoundsManager") {
        currentMintableTokens = (token().totalSupply() * inflation) / PARTS;
        currentMintedTokens = 0;
        emit SetCurrentRewardTokens(currentMintableTokens, inflation);
    }

    function createReward(uint256 part, uint256 whole) external only("BondingManager") returns (uint256 amount) {
        amount = (currentMintableTokens * ((part * PARTS) / whole)) / PARTS;
        currentMintedTokens += amount;
        require(currentMintedTokens <= currentMintableTokens, "minted tokens cannot exceed mintable tokens");
        token().mint(address(this), amount);
    }

    function getGlobalTotalSupply() external view returns (uint256) {
        return token().totalSupply();
    }
}
