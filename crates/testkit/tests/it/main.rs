//! The simulated peers, asked over the real wire.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod chain;
mod faults;
mod orchestrators;
mod payments;
mod runner;
