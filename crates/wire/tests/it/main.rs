//! The wire against the golden vectors, and against bytes that nobody meant to send.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod generated;
mod services;
mod vectors;
