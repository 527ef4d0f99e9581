//! Ethereum on one machine: anvil with the network's contracts (`tests/contracts`), for `penstock dev --chain anvil`.
//!
//! [`App`] is the process `penstock-anvil`: it runs anvil, puts the contracts on a fresh chain and mines L1 blocks.
//! [`Network`] is those contracts, asked and moved by JSON-RPC: money here is made from nothing, and anybody may.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod app;
mod network;
mod program;
mod rpc;

pub use app::{App, Args, BuildError, RunError};
pub use network::Network;
pub use rpc::{Rpc, RpcError};

/// anvil's number as a chain (`--eth-chain-id` of the roles).
pub const CHAIN_ID: u64 = 31_337;
