//! The signer by its routes: a real server on port 0 with a real SQLite file, a real keystore and
//! a real devnet behind it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod accounts;
mod attack;
mod audit;
mod bad_input;
mod billing;
mod byoc;
mod consent;
mod crash;
mod credentials;
mod discovery;
mod discovery_scale;
mod events;
mod keys;
mod limits;
mod operators;
mod order;
mod outside;
mod property;
mod replay;
mod retention;
mod schemathesis;
mod scripted_orchestrator;
mod startup;
mod tls;
mod vectors;
mod world;
