//! Whole-system tests: real processes on free ports, real stores, real media.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod architecture;
