// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.9;

/// Where orchestrators say that they are reached. Any text is taken. There is one for video and one for AI.
contract ServiceRegistry {
    event ServiceURIUpdate(address indexed addr, string serviceURI);

    mapping(address => string) private uris;

    function setServiceURI(string calldata uri) external {
        uris[msg.sender] = uri;
        emit ServiceURIUpdate(msg.sender, uri);
    }

    function getServiceURI(address addr) external view returns (string memory) {
        return uris[addr];
    }
}
