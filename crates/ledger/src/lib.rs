//! The durable books. Money has its own port: the signer's side ([`signer`]) and the
//! orchestrator's side ([`orchestrator`]) are separate traits over separate databases, each with
//! a conformance suite that every implementation must pass. [`sqlite`] is what both share.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod orchestrator;
mod postgres;
pub mod signer;
pub mod sqlite;
