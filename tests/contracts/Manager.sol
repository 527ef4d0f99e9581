// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {Controller} from "./Controller.sol";

interface IRounds {
    function currentRound() external view returns (uint256);
    function currentRoundInitialized() external view returns (bool);
    function currentRoundLocked() external view returns (bool);
    function blockHashForRound(uint256 round) external view returns (bytes32);
}

interface IBonding {
    function getTranscoderPoolSize() external view returns (uint256);
    function isActiveTranscoder(address t) external view returns (bool);
    function transcoderTotalStake(address t) external view returns (uint256);
    function currentRoundTotalActiveStake() external view returns (uint256);
    function setCurrentRoundTotalActiveStake() external;
    function updateTranscoderWithFees(address t, uint256 fees, uint256 round) external;
}

interface IMinter {
    function depositETH() external payable;
    function trustedWithdrawETH(address payable to, uint256 amount) external;
    function trustedTransferTokens(address to, uint256 amount) external;
    function createReward(uint256 part, uint256 whole) external returns (uint256);
    function setCurrentRewardTokens() external;
}

interface IToken {
    function mint(address to, uint256 amount) external;
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address from, address to, uint256 amount) external returns (bool);
    function totalSupply() external view returns (uint256);
}

/// What every contract behind a controller has.
abstract contract Manager {
    Controller public immutable controller;

    constructor(Controller controller_) {
        controller = controller_;
    }

    modifier whenSystemNotPaused() {
        require(!controller.paused(), "system is paused");
        _;
    }

    modifier whenRoundInitialized() {
        require(rounds().currentRoundInitialized(), "current round is not initialized");
        _;
    }

    function named(string memory name) internal view returns (address) {
        return controller.getContract(keccak256(bytes(name)));
    }

    function rounds() internal view returns (IRounds) {
        return IRounds(named("RoundsManager"));
    }

    function bonding() internal view returns (IBonding) {
        return IBonding(named("BondingManager"));
    }

    function minter() internal view returns (IMinter) {
        return IMinter(named("Minter"));
    }

    function token() internal view returns (IToken) {
        return IToken(named("LivepeerToken"));
    }
}
