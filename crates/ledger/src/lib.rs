//! The durable books. Money has its own port: the signer's side ([`signer`]) and the
//! orchestrator's side ([`orchestrator`]) are separate traits over separate databases, each with
//! a conformance suite that every implementation must pass. [`sqlite`] is what both share. For
//! simulations (feature `testing`) there are books in memory, which pass the suites as well, but for
//! the cases that look into a database's tables: there are none.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod database;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod operations;
pub mod orchestrator;
mod postgres;
pub mod signer;
pub mod sqlite;

pub use database::DatabaseError;
