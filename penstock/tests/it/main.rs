//! The operator commands against real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod accounts;
mod books;
mod chain;
mod help;
mod network;
mod process;
mod status;
