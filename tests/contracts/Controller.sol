// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

/// Where every other contract is found, by the hash of its name; and the switch that stops them all.
contract Controller {
    event SetContractInfo(bytes32 id, address contractAddress, bytes20 gitCommitHash);
    event Pause();
    event Unpause();

    mapping(bytes32 => address) private contracts;
    address private immutable owner;
    /// A new controller starts paused.
    bool public paused = true;

    constructor() {
        owner = msg.sender;
    }

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    function getContract(bytes32 id) external view returns (address) {
        return contracts[id];
    }

    function setContractInfo(bytes32 id, address at, bytes20 gitCommitHash) external onlyOwner {
        contracts[id] = at;
        emit SetContractInfo(id, at, gitCommitHash);
    }

    function pause() external onlyOwner {
        paused = true;
        emit Pause();
    }

    function unpause() external onlyOwner {
        paused = false;
        emit Unpause();
    }
}
