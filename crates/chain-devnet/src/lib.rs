//! The devnet: the embedded chain that a local network shares through `devnet:URL`.
//!
//! [`state`] is the contracts as pure functions, [`store`] keeps the state in SQLite, [`node`] runs
//! one transaction at a time over both, [`server`] speaks HTTP, and [`DevnetChain`] is the client
//! that roles use as their [`penstock_chain::Chain`]. Money here is made from nothing.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod app;
mod client;
mod location;
pub mod node;
pub mod server;
pub mod state;
pub mod store;
pub mod wire;

pub use app::{App, Args, BuildError};
pub use client::DevnetChain;
pub use location::{BadChain, ChainLocation, parse_chain};
