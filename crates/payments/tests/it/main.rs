//! Tests of the money core as its users see it: golden vectors, invariants, whole payments.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod common;
mod curves;
mod golden;
mod golden_json;
mod invariants;
mod payment;
mod recipient;
mod together;
