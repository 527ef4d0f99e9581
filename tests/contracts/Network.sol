// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {BondingManager} from "./BondingManager.sol";
import {Controller} from "./Controller.sol";
import {Governor} from "./Governor.sol";
import {L1Blocks} from "./L1Blocks.sol";
import {Minter} from "./Minter.sol";
import {Poll} from "./Poll.sol";
import {PollCreator} from "./PollCreator.sol";
import {PriceFeed} from "./PriceFeed.sol";
import {RoundsManager} from "./RoundsManager.sol";
import {ServiceRegistry} from "./ServiceRegistry.sol";
import {TicketBroker} from "./TicketBroker.sol";
import {Token} from "./Token.sol";

/// A whole network, made in one transaction, and what a test moves it with. Anyone may.
contract Network {
    Controller public immutable controller = new Controller();
    L1Blocks public immutable l1 = new L1Blocks();
    ServiceRegistry public immutable aiServiceRegistry = new ServiceRegistry();
    PriceFeed public immutable priceFeed = new PriceFeed();
    PollCreator public immutable pollCreator = new PollCreator();
    RoundsManager private immutable roundsManager;
    Token private immutable token;
    /// The one that was started last.
    Poll public poll;

    constructor(uint256 roundLength) {
        roundsManager = new RoundsManager(controller, l1, roundLength);
        token = new Token(controller);
        address broker = address(new TicketBroker(controller));
        register("RoundsManager", address(roundsManager));
        register("LivepeerToken", address(token));
        register("TicketBroker", broker);
        // The minter trusts this name with its ether.
        register("JobsManager", broker);
        register("BondingManager", address(new BondingManager(controller)));
        register("Minter", address(new Minter(controller)));
        register("ServiceRegistry", address(new ServiceRegistry()));
        register("LivepeerGovernor", address(new Governor(controller)));
        controller.unpause();
        l1.mine(roundLength);
        roundsManager.initializeRound();
    }

    function mintTokens(address to, uint256 amount) external {
        token.mint(to, amount);
    }

    /// Asks everybody something, for so many L1 blocks.
    function startPoll(uint256 blocks) external {
        poll = pollCreator.createPoll(l1, l1.number() + blocks, "why");
    }

    /// Proposes something to the treasury: votes are taken from the next round on, for so many rounds.
    function propose(uint256 id, uint256 roundsLong) external {
        Governor(controller.getContract(keccak256("LivepeerGovernor"))).propose(id, roundsLong);
    }

    function pause(bool paused) external {
        if (paused) controller.pause();
        else controller.unpause();
    }

    /// Mines L1 blocks, and initialises the rounds that begin with them.
    function mineBlocks(uint256 blocks) external {
        while (blocks > 0) {
            uint256 left = toNextRound();
            uint256 step = blocks < left ? blocks : left;
            l1.mine(step);
            blocks -= step;
            if (!roundsManager.currentRoundInitialized()) roundsManager.initializeRound();
        }
    }

    /// Mines to the first block of the next round.
    function nextRound(bool initialize) external {
        l1.mine(toNextRound());
        if (initialize) roundsManager.initializeRound();
    }

    function toNextRound() private view returns (uint256) {
        uint256 length = roundsManager.roundLength();
        return roundsManager.currentRoundStartBlock() + length - roundsManager.blockNum();
    }

    function register(string memory name, address at) private {
        controller.setContractInfo(keccak256(bytes(name)), at, bytes20(0));
    }
}
