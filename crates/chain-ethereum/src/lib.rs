//! The network's contracts on Ethereum, and on Arbitrum where the network lives.
//!
//! [`EthereumChain`] is the chain port: [`contracts`] are the interfaces, [`rpc`] asks one of several
//! endpoints, `transactions` brings calls of an account onto the chain, one at a time. What is read is as of the
//! newest block that the endpoint knows; what costs many questions (the active set) is kept until an event or a
//! new round says that it changed.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod address_book;
mod ballots;
mod batch;
mod client;
pub mod contracts;
mod heights;
mod lag;
mod location;
mod pool;
mod reader;
mod redemption;
pub mod rpc;
mod settings;
mod staking;
mod transactions;
mod voting;
mod worth;

pub use client::EthereumChain;
pub use location::{BadEndpoints, Endpoints, PREFIX};
pub use settings::{ARBITRUM_ONE, ARBITRUM_ONE_CONTROLLER, EthereumArgs, Settings};
