// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {Controller} from "./Controller.sol";
import {Manager} from "./Manager.sol";

/// Stake: who is in the pool of transcoders, what they and those who delegate to them earn. Earnings of
/// delegators are sums over stake and do not compound before they are claimed; the pool is a list that is walked.
contract BondingManager is Manager {
    struct Transcoder {
        uint256 lastRewardRound;
        uint256 rewardCut;
        uint256 feeShare;
        uint256 activationRound;
        uint256 deactivationRound;
        uint256 rewardFactor;
        uint256 feeFactor;
        uint256 ownRewards;
        uint256 ownFees;
        uint256 lastFeeRound;
        address next;
        address previous;
        bool pooled;
    }

    struct Delegator {
        uint256 bonded;
        uint256 fees;
        address delegate;
        uint256 delegated;
        uint256 startRound;
        uint256 lastClaimRound;
        uint256 nextLock;
        uint256 rewardFactor;
        uint256 feeFactor;
    }

    struct Lock {
        uint256 amount;
        uint256 withdrawRound;
    }

    event TranscoderUpdate(address indexed transcoder, uint256 rewardCut, uint256 feeShare);
    event TranscoderActivated(address indexed transcoder, uint256 activationRound);
    event TranscoderDeactivated(address indexed transcoder, uint256 deactivationRound);
    event Reward(address indexed transcoder, uint256 amount);
    event Bond(
        address indexed newDelegate,
        address indexed oldDelegate,
        address indexed delegator,
        uint256 additionalAmount,
        uint256 bondedAmount
    );
    event Unbond(
        address indexed delegate,
        address indexed delegator,
        uint256 unbondingLockId,
        uint256 amount,
        uint256 withdrawRound
    );
    event Rebond(address indexed delegate, address indexed delegator, uint256 unbondingLockId, uint256 amount);
    event WithdrawStake(address indexed delegator, uint256 unbondingLockId, uint256 amount, uint256 withdrawRound);
    event WithdrawFees(address indexed delegator, address recipient, uint256 amount);

    uint256 private constant PARTS = 1000000;
    uint256 private constant FACTOR = 10 ** 27;
    uint256 private constant NEVER = type(uint256).max;

    uint64 public constant unbondingPeriod = 7;
    uint256 public constant getTranscoderPoolMaxSize = 100;
    uint256 public constant treasuryRewardCutRate = 0;
    uint256 public currentRoundTotalActiveStake;
    uint256 public nextRoundTotalActiveStake;
    uint256 public getTotalBonded;
    uint256 public getTranscoderPoolSize;
    address public getFirstTranscoderInPool;
    mapping(address => Transcoder) private transcoders;
    mapping(address => Delegator) private delegators;
    mapping(address => mapping(uint256 => Lock)) private locks;

    constructor(Controller controller_) Manager(controller_) {}

    // --- terms ---

    function transcoder(uint256 rewardCut, uint256 feeShare) external {
        transcoderWithHint(rewardCut, feeShare, address(0), address(0));
    }

    function transcoderWithHint(uint256 rewardCut, uint256 feeShare, address, address) public whenSystemNotPaused whenRoundInitialized {
        require(
            !rounds().currentRoundLocked(),
            "can't update transcoder params, current round is locked"
        );
        require(rewardCut <= PARTS, "invalid rewardCut percentage");
        require(feeShare <= PARTS, "invalid feeShare percentage");
        require(isRegisteredTranscoder(msg.sender), "transcoder must be registered");
        Transcoder storage t = transcoders[msg.sender];
        require(
            !isActiveTranscoder(msg.sender) || t.lastRewardRound == rounds().currentRound(),
            "caller can't be active or must have already called reward for the current round"
        );
        t.rewardCut = rewardCut;
        t.feeShare = feeShare;
        emit TranscoderUpdate(msg.sender, rewardCut, feeShare);
    }

    // --- stake ---

    function bond(uint256 amount, address to) external {
        bondWithHint(amount, to, address(0), address(0), address(0), address(0));
    }

    function bondWithHint(uint256 amount, address to, address, address, address, address) public whenSystemNotPaused whenRoundInitialized {
        claim(msg.sender);
        Delegator storage d = delegators[msg.sender];
        address from = d.delegate;
        uint256 moved = amount;
        if (d.bonded == 0) {
            d.startRound = rounds().currentRound() + 1;
        } else if (from != to) {
            require(
                !isRegisteredTranscoder(msg.sender),
                "registered transcoders can't delegate towards other addresses"
            );
            d.startRound = rounds().currentRound() + 1;
            moved += d.bonded;
            lessDelegated(from, d.bonded);
        }
        require(moved > 0, "delegation amount must be greater than 0");
        d.delegate = to;
        d.bonded += amount;
        getTotalBonded += amount;
        d.rewardFactor = transcoders[to].rewardFactor;
        d.feeFactor = transcoders[to].feeFactor;
        moreDelegated(to, moved);
        if (amount > 0) token().transferFrom(msg.sender, address(minter()), amount);
        emit Bond(to, from, msg.sender, amount, d.bonded);
    }

    function unbond(uint256 amount) external {
        unbondWithHint(amount, address(0), address(0));
    }

    function unbondWithHint(uint256 amount, address, address) public whenSystemNotPaused whenRoundInitialized {
        require(delegatorStatus(msg.sender) == 1, "caller must be bonded");
        require(amount > 0, "unbond amount must be greater than 0");
        claim(msg.sender);
        Delegator storage d = delegators[msg.sender];
        require(amount <= d.bonded, "amount is greater than bonded amount");
        uint256 id = d.nextLock++;
        uint256 until = rounds().currentRound() + unbondingPeriod;
        locks[msg.sender][id] = Lock(amount, until);
        d.bonded -= amount;
        getTotalBonded -= amount;
        address delegate = d.delegate;
        lessDelegated(delegate, amount);
        if (d.bonded == 0) {
            d.delegate = address(0);
            d.startRound = 0;
            if (transcoders[msg.sender].pooled) resign(msg.sender);
        }
        emit Unbond(delegate, msg.sender, id, amount, until);
    }

    function rebond(uint256 lockId) external {
        rebondWithHint(lockId, address(0), address(0));
    }

    function rebondWithHint(uint256 lockId, address, address) public whenSystemNotPaused whenRoundInitialized {
        require(delegatorStatus(msg.sender) != 2, "caller must be bonded");
        rebondTo(delegators[msg.sender].delegate, lockId);
    }

    function rebondFromUnbonded(address to, uint256 lockId) external {
        rebondFromUnbondedWithHint(to, lockId, address(0), address(0));
    }

    function rebondFromUnbondedWithHint(address to, uint256 lockId, address, address) public whenSystemNotPaused whenRoundInitialized {
        require(delegatorStatus(msg.sender) == 2, "caller must be unbonded");
        delegators[msg.sender].startRound = rounds().currentRound() + 1;
        delegators[msg.sender].delegate = to;
        rebondTo(to, lockId);
    }

    function rebondTo(address to, uint256 lockId) private {
        require(isValidUnbondingLock(msg.sender, lockId), "invalid unbonding lock ID");
        claim(msg.sender);
        uint256 amount = locks[msg.sender][lockId].amount;
        delete locks[msg.sender][lockId];
        Delegator storage d = delegators[msg.sender];
        d.bonded += amount;
        getTotalBonded += amount;
        moreDelegated(to, amount);
        emit Rebond(to, msg.sender, lockId, amount);
    }

    function withdrawStake(uint256 lockId) external whenSystemNotPaused whenRoundInitialized {
        require(isValidUnbondingLock(msg.sender, lockId), "invalid unbonding lock ID");
        Lock memory lock = locks[msg.sender][lockId];
        require(
            lock.withdrawRound <= rounds().currentRound(),
            "withdraw round must be before or equal to the current round"
        );
        delete locks[msg.sender][lockId];
        minter().trustedTransferTokens(msg.sender, lock.amount);
        emit WithdrawStake(msg.sender, lockId, lock.amount, lock.withdrawRound);
    }

    // --- earnings ---

    function withdrawFees(address payable recipient, uint256 amount) external whenSystemNotPaused whenRoundInitialized {
        require(recipient != address(0), "invalid recipient");
        claim(msg.sender);
        require(delegators[msg.sender].fees >= amount, "insufficient fees to withdraw");
        delegators[msg.sender].fees -= amount;
        minter().trustedWithdrawETH(recipient, amount);
        emit WithdrawFees(msg.sender, recipient, amount);
    }

    function claimEarnings(uint256) external whenSystemNotPaused whenRoundInitialized {
        claim(msg.sender);
    }

    function reward() external {
        rewardWithHint(address(0), address(0));
    }

    function rewardWithHint(address, address) public whenSystemNotPaused whenRoundInitialized {
        uint256 round = rounds().currentRound();
        require(isActiveTranscoder(msg.sender), "caller must be an active transcoder");
        Transcoder storage t = transcoders[msg.sender];
        require(t.lastRewardRound != round, "caller has already called reward for the current round");
        uint256 stake = transcoderTotalStake(msg.sender);
        uint256 amount = minter().createReward(stake, currentRoundTotalActiveStake);
        t.lastRewardRound = round;
        uint256 own = (amount * t.rewardCut) / PARTS;
        t.ownRewards += own;
        t.rewardFactor += ((amount - own) * FACTOR) / stake;
        delegators[msg.sender].delegated += amount;
        getTotalBonded += amount;
        nextRoundTotalActiveStake += amount;
        place(msg.sender);
        emit Reward(msg.sender, amount);
    }

    /// What a redeemed ticket pays, from the ticket broker only.
    function updateTranscoderWithFees(address addr, uint256 fees, uint256) external {
        require(msg.sender == named("TicketBroker"), "caller must be TicketBroker");
        require(isRegisteredTranscoder(addr), "transcoder must be registered");
        Transcoder storage t = transcoders[addr];
        uint256 shared = (fees * t.feeShare) / PARTS;
        uint256 round = rounds().currentRound();
        // Nothing divides by the stake of one who is active from a later round only.
        uint256 stake = t.activationRound <= round ? transcoderTotalStake(addr) : 0;
        t.feeFactor += (shared * FACTOR) / stake;
        t.ownFees += fees - shared;
        t.lastFeeRound = round;
    }

    function setCurrentRoundTotalActiveStake() external {
        require(msg.sender == named("RoundsManager"), "caller must be RoundsManager");
        currentRoundTotalActiveStake = nextRoundTotalActiveStake;
    }

    function claim(address addr) private {
        Delegator storage d = delegators[addr];
        uint256 stake = pendingStake(addr, 0);
        uint256 fees = pendingFees(addr, 0);
        d.bonded = stake;
        d.fees = fees;
        Transcoder storage t = transcoders[d.delegate];
        d.rewardFactor = t.rewardFactor;
        d.feeFactor = t.feeFactor;
        if (d.delegate == addr) {
            t.ownRewards = 0;
        }
        transcoders[addr].ownFees = 0;
        d.lastClaimRound = rounds().currentRound();
    }

    // --- the pool ---

    function moreDelegated(address to, uint256 amount) private {
        delegators[to].delegated += amount;
        if (!isRegisteredTranscoder(to)) return;
        if (transcoders[to].pooled) {
            nextRoundTotalActiveStake += amount;
            place(to);
        } else {
            join(to);
        }
    }

    function lessDelegated(address from, uint256 amount) private {
        delegators[from].delegated -= amount;
        if (transcoders[from].pooled) {
            nextRoundTotalActiveStake -= amount;
            place(from);
        }
    }

    function join(address addr) private {
        if (getTranscoderPoolSize == getTranscoderPoolMaxSize) {
            address last = getFirstTranscoderInPool;
            while (transcoders[last].next != address(0)) last = transcoders[last].next;
            if (transcoderTotalStake(addr) <= transcoderTotalStake(last)) return;
            resign(last);
        }
        Transcoder storage t = transcoders[addr];
        t.pooled = true;
        getTranscoderPoolSize += 1;
        insert(addr);
        nextRoundTotalActiveStake += transcoderTotalStake(addr);
        t.activationRound = rounds().currentRound() + 1;
        t.deactivationRound = NEVER;
        emit TranscoderActivated(addr, t.activationRound);
    }

    function resign(address addr) private {
        Transcoder storage t = transcoders[addr];
        unlink(addr);
        t.pooled = false;
        getTranscoderPoolSize -= 1;
        nextRoundTotalActiveStake -= transcoderTotalStake(addr);
        t.deactivationRound = rounds().currentRound() + 1;
        emit TranscoderDeactivated(addr, t.deactivationRound);
    }

    function place(address addr) private {
        unlink(addr);
        insert(addr);
    }

    function insert(address addr) private {
        uint256 stake = transcoderTotalStake(addr);
        address previous = address(0);
        address next = getFirstTranscoderInPool;
        while (next != address(0) && transcoderTotalStake(next) >= stake) {
            previous = next;
            next = transcoders[next].next;
        }
        transcoders[addr].previous = previous;
        transcoders[addr].next = next;
        if (previous == address(0)) getFirstTranscoderInPool = addr;
        else transcoders[previous].next = addr;
        if (next != address(0)) transcoders[next].previous = addr;
    }

    function unlink(address addr) private {
        Transcoder storage t = transcoders[addr];
        if (t.previous == address(0)) getFirstTranscoderInPool = t.next;
        else transcoders[t.previous].next = t.next;
        if (t.next != address(0)) transcoders[t.next].previous = t.previous;
    }

    // --- reads ---

    function getNextTranscoderInPool(address addr) external view returns (address) {
        return transcoders[addr].next;
    }

    function transcoderTotalStake(address addr) public view returns (uint256) {
        return delegators[addr].delegated;
    }

    function isRegisteredTranscoder(address addr) public view returns (bool) {
        return delegators[addr].delegate == addr && delegators[addr].bonded > 0;
    }

    function isActiveTranscoder(address addr) public view returns (bool) {
        Transcoder storage t = transcoders[addr];
        uint256 round = rounds().currentRound();
        return t.activationRound <= round && round < t.deactivationRound;
    }

    function transcoderStatus(address addr) external view returns (uint8) {
        return isRegisteredTranscoder(addr) ? 1 : 0;
    }

    function delegatorStatus(address addr) public view returns (uint8) {
        Delegator storage d = delegators[addr];
        if (d.bonded == 0) return 2;
        return d.startRound > rounds().currentRound() ? 0 : 1;
    }

    function isValidUnbondingLock(address addr, uint256 lockId) public view returns (bool) {
        return locks[addr][lockId].withdrawRound > 0;
    }

    function getDelegatorUnbondingLock(address addr, uint256 lockId)
        external
        view
        returns (uint256 amount, uint256 withdrawRound)
    {
        return (locks[addr][lockId].amount, locks[addr][lockId].withdrawRound);
    }

    function pendingStake(address addr, uint256) public view returns (uint256) {
        Delegator storage d = delegators[addr];
        if (d.bonded == 0) return 0;
        Transcoder storage t = transcoders[d.delegate];
        uint256 own = d.delegate == addr ? t.ownRewards : 0;
        return d.bonded + (d.bonded * (t.rewardFactor - d.rewardFactor)) / FACTOR + own;
    }

    function pendingFees(address addr, uint256) public view returns (uint256) {
        Delegator storage d = delegators[addr];
        Transcoder storage t = transcoders[d.delegate];
        uint256 shared = d.bonded == 0 ? 0 : (d.bonded * (t.feeFactor - d.feeFactor)) / FACTOR;
        return d.fees + shared + transcoders[addr].ownFees;
    }

    function getTranscoder(address addr)
        external
        view
        returns (
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
        )
    {
        Transcoder storage t = transcoders[addr];
        return (
            t.lastRewardRound,
            t.rewardCut,
            t.feeShare,
            t.activationRound,
            t.activationRound,
            t.deactivationRound,
            t.ownRewards,
            t.ownRewards,
            t.ownFees,
            t.lastFeeRound
        );
    }

    function getDelegator(address addr)
        external
        view
        returns (
            uint256 bondedAmount,
            uint256 fees,
            address delegateAddress,
            uint256 delegatedAmount,
            uint256 startRound,
            uint256 lastClaimRound,
            uint256 nextUnbondingLockId
        )
    {
        Delegator storage d = delegators[addr];
        return (d.bonded, d.fees, d.delegate, d.delegated, d.startRound, d.lastClaimRound, d.nextLock);
    }
}
