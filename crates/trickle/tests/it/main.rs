//! The trickle server and its clients over real sockets: trickle.md, case by case.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod bounds;
mod client;
mod gate;
mod harness;
mod manage;
mod publish;
mod sdk;
mod subscribe;
