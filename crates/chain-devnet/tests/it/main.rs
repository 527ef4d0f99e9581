//! The devnet as its users meet it: a real server on a port of its own, a real SQLite file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod bad_input;
mod conformance;
mod devnet;
mod histories;
mod kill;
mod parsers;
mod routes;
