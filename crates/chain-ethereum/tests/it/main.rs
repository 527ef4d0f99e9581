//! The Ethereum chain on anvil, with the test contracts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod batch;
mod conformance;
mod endpoint;
mod endpoints;
mod money;
mod pool;
mod staking;
mod taken_back;
mod transactions;
mod world;
mod worth;
