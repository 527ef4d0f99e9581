// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

import {Controller} from "./Controller.sol";
import {Manager} from "./Manager.sol";

/// Deposits, reserves, and the redemption of winning tickets.
contract TicketBroker is Manager {
    struct Ticket {
        address recipient;
        address sender;
        uint256 faceValue;
        uint256 winProb;
        uint256 senderNonce;
        bytes32 recipientRandHash;
        bytes auxData;
    }

    struct SenderAccount {
        uint256 deposit;
        uint256 withdrawRound;
    }

    struct ReserveInfo {
        uint256 fundsRemaining;
        uint256 claimedInCurrentRound;
    }

    struct Reserve {
        uint256 funds;
        mapping(uint256 => uint256) claimedForRound;
        mapping(uint256 => mapping(address => uint256)) claimedBy;
    }

    event DepositFunded(address indexed sender, uint256 amount);
    event ReserveFunded(address indexed reserveHolder, uint256 amount);
    event ReserveClaimed(address indexed reserveHolder, address claimant, uint256 amount);
    event WinningTicketTransfer(address indexed sender, address indexed recipient, uint256 amount);
    event WinningTicketRedeemed(
        address indexed sender,
        address indexed recipient,
        uint256 faceValue,
        uint256 winProb,
        uint256 senderNonce,
        uint256 recipientRand,
        bytes auxData
    );
    event Unlock(address indexed sender, uint256 startRound, uint256 endRound);
    event UnlockCancelled(address indexed sender);
    event Withdrawal(address indexed sender, uint256 deposit, uint256 reserve);

    /// Half of the curve's order: an s above it is the other form of a signature.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    uint256 public constant unlockPeriod = 2;
    uint256 public constant ticketValidityPeriod = 2;
    mapping(bytes32 => bool) public usedTickets;
    mapping(address => SenderAccount) private senders;
    mapping(address => Reserve) private reserves;

    constructor(Controller controller_) Manager(controller_) {}

    function fundDeposit() external payable whenSystemNotPaused {
        creditDeposit(msg.sender, msg.value);
        minter().depositETH{value: msg.value}();
    }

    function fundReserve() external payable whenSystemNotPaused {
        creditReserve(msg.sender, msg.value);
        minter().depositETH{value: msg.value}();
    }

    function fundDepositAndReserve(uint256 depositAmount, uint256 reserveAmount) external payable {
        fundDepositAndReserveFor(msg.sender, depositAmount, reserveAmount);
    }

    function fundDepositAndReserveFor(address addr, uint256 depositAmount, uint256 reserveAmount)
        public
        payable
        whenSystemNotPaused
    {
        require(
            msg.value == depositAmount + reserveAmount,
            "msg.value does not equal sum of deposit amount and reserve amount"
        );
        creditDeposit(addr, depositAmount);
        creditReserve(addr, reserveAmount);
        minter().depositETH{value: msg.value}();
    }

    function unlock() external whenSystemNotPaused {
        SenderAccount storage sender = senders[msg.sender];
        require(hasFunds(msg.sender), "sender deposit and reserve are zero");
        require(sender.withdrawRound == 0, "unlock already initiated");
        uint256 round = rounds().currentRound();
        sender.withdrawRound = round + unlockPeriod;
        emit Unlock(msg.sender, round, sender.withdrawRound);
    }

    function cancelUnlock() external whenSystemNotPaused {
        require(senders[msg.sender].withdrawRound != 0, "no unlock request in progress");
        stopUnlock(msg.sender);
    }

    function withdraw() external whenSystemNotPaused {
        SenderAccount storage sender = senders[msg.sender];
        require(hasFunds(msg.sender), "sender deposit and reserve are zero");
        require(sender.withdrawRound != 0, "no unlock request in progress");
        require(!isLocked(msg.sender), "account is locked");
        uint256 deposit = sender.deposit;
        uint256 reserve = reserves[msg.sender].funds;
        // The withdraw round stays; whoever funds again clears it.
        sender.deposit = 0;
        reserves[msg.sender].funds = 0;
        minter().trustedWithdrawETH(payable(msg.sender), deposit + reserve);
        emit Withdrawal(msg.sender, deposit, reserve);
    }

    function redeemWinningTicket(Ticket memory ticket, bytes memory sig, uint256 recipientRand)
        public
        whenSystemNotPaused
        whenRoundInitialized
    {
        bytes32 hash = getTicketHash(ticket);
        check(ticket, hash, sig, recipientRand);
        require(!isWithdrawable(ticket.sender), "sender is unlocked");
        require(hasFunds(ticket.sender), "sender deposit and reserve are zero");
        usedTickets[hash] = true;

        uint256 deposit = senders[ticket.sender].deposit;
        uint256 paid = ticket.faceValue;
        if (ticket.faceValue > deposit) {
            paid = deposit + claim(ticket.sender, ticket.recipient, ticket.faceValue - deposit);
            senders[ticket.sender].deposit = 0;
        } else {
            senders[ticket.sender].deposit = deposit - ticket.faceValue;
        }
        if (paid > 0) {
            (uint256 creationRound, ) = abi.decode(ticket.auxData, (uint256, bytes32));
            bonding().updateTranscoderWithFees(ticket.recipient, paid, creationRound);
            emit WinningTicketTransfer(ticket.sender, ticket.recipient, paid);
        }
        emit WinningTicketRedeemed(
            ticket.sender,
            ticket.recipient,
            ticket.faceValue,
            ticket.winProb,
            ticket.senderNonce,
            recipientRand,
            ticket.auxData
        );
    }

    /// Whatever of the tickets cannot be redeemed is passed over in silence.
    function batchRedeemWinningTickets(
        Ticket[] memory tickets,
        bytes[] memory sigs,
        uint256[] memory recipientRands
    ) external whenSystemNotPaused whenRoundInitialized {
        for (uint256 i = 0; i < tickets.length; i++) {
            try this.redeemWinningTicket(tickets[i], sigs[i], recipientRands[i]) {} catch {}
        }
    }

    function getSenderInfo(address addr)
        external
        view
        returns (SenderAccount memory sender, ReserveInfo memory reserve)
    {
        return (senders[addr], getReserveInfo(addr));
    }

    function getReserveInfo(address holder) public view returns (ReserveInfo memory) {
        Reserve storage reserve = reserves[holder];
        return ReserveInfo(reserve.funds, reserve.claimedForRound[rounds().currentRound()]);
    }

    function claimableReserve(address holder, address claimant) public view returns (uint256) {
        uint256 pool = bonding().getTranscoderPoolSize();
        if (pool == 0 || !bonding().isActiveTranscoder(claimant)) return 0;
        Reserve storage reserve = reserves[holder];
        uint256 round = rounds().currentRound();
        return (reserve.funds + reserve.claimedForRound[round]) / pool - reserve.claimedBy[round][claimant];
    }

    function claimedReserve(address holder, address claimant) external view returns (uint256) {
        return reserves[holder].claimedBy[rounds().currentRound()][claimant];
    }

    function isUnlockInProgress(address addr) external view returns (bool) {
        return senders[addr].withdrawRound > 0;
    }

    function getTicketHash(Ticket memory ticket) public pure returns (bytes32) {
        return
            keccak256(
                abi.encodePacked(
                    ticket.recipient,
                    ticket.sender,
                    ticket.faceValue,
                    ticket.winProb,
                    ticket.senderNonce,
                    ticket.recipientRandHash,
                    ticket.auxData
                )
            );
    }

    function check(Ticket memory ticket, bytes32 hash, bytes memory sig, uint256 recipientRand) private view {
        require(ticket.recipient != address(0), "ticket recipient is null address");
        require(ticket.sender != address(0), "ticket sender is null address");
        require(ticket.auxData.length == 64, "invalid length for ticket auxData: must be 64 bytes");
        (uint256 creationRound, bytes32 creationHash) = abi.decode(ticket.auxData, (uint256, bytes32));
        bytes32 known = rounds().blockHashForRound(creationRound);
        require(known != bytes32(0), "ticket creationRound does not have a block hash");
        require(known == creationHash, "ticket creationRoundBlockHash invalid for creationRound");
        require(creationRound + ticketValidityPeriod > rounds().currentRound(), "ticket is expired");
        require(
            keccak256(abi.encodePacked(recipientRand)) == ticket.recipientRandHash,
            "recipientRand does not match recipientRandHash"
        );
        require(!usedTickets[hash], "ticket is used");
        require(signerOf(hash, sig) == ticket.sender, "invalid signature over ticket hash");
        require(uint256(keccak256(abi.encodePacked(sig, recipientRand))) < ticket.winProb, "ticket did not win");
    }

    function signerOf(bytes32 hash, bytes memory sig) private pure returns (address signer) {
        require(sig.length == 65, "INVALID_SIGNATURE_LENGTH");
        bytes32 r;
        uint256 s;
        uint8 v;
        assembly {
            r := mload(add(sig, 32))
            s := mload(add(sig, 64))
            v := byte(0, mload(add(sig, 96)))
        }
        require(s <= HALF_ORDER, "ECDSA: invalid signature 's' value");
        bytes32 digest = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", hash));
        signer = ecrecover(digest, v, r, bytes32(s));
        require(signer != address(0), "ECDSA: invalid signature");
    }

    function claim(address holder, address claimant, uint256 wanted) private returns (uint256 amount) {
        amount = claimableReserve(holder, claimant);
        if (wanted < amount) amount = wanted;
        if (amount == 0) return 0;
        Reserve storage reserve = reserves[holder];
        uint256 round = rounds().currentRound();
        reserve.claimedForRound[round] += amount;
        reserve.claimedBy[round][claimant] += amount;
        reserve.funds -= amount;
        emit ReserveClaimed(holder, claimant, amount);
    }

    function creditDeposit(address addr, uint256 amount) private {
        senders[addr].deposit += amount;
        ownMoneyStopsUnlock(addr);
        emit DepositFunded(addr, amount);
    }

    function creditReserve(address addr, uint256 amount) private {
        reserves[addr].funds += amount;
        ownMoneyStopsUnlock(addr);
        emit ReserveFunded(addr, amount);
    }

    /// Somebody else's money does not.
    function ownMoneyStopsUnlock(address addr) private {
        if (addr == msg.sender && senders[addr].withdrawRound > 0) stopUnlock(addr);
    }

    function stopUnlock(address addr) private {
        senders[addr].withdrawRound = 0;
        emit UnlockCancelled(addr);
    }

    function hasFunds(address addr) private view returns (bool) {
        return senders[addr].deposit > 0 || reserves[addr].funds > 0;
    }

    function isLocked(address addr) private view returns (bool) {
        return !isWithdrawable(addr);
    }

    function isWithdrawable(address addr) private view returns (bool) {
        uint256 round = senders[addr].withdrawRound;
        return round != 0 && rounds().currentRound() >= round;
    }
}
