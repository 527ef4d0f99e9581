//! The remote signer: it holds the key of the deposit and signs tickets for gateways that hold
//! none.
//!
//! `routes` translate HTTP, `service` decides, the ports (ledger, key, chain) store, sign and
//! know; `error` alone gives statuses and `stack` shows the layer order. The life of a payment is
//! in [`service::pay`]; the contract is remote-signer.md.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod app;
pub mod args;
pub mod audit_command;
pub mod auth;
pub mod chain_facts;
pub mod deposit_args;
pub mod discovery;
pub mod error;
pub mod events;
pub mod key_source;
pub mod keys_command;
pub mod retention_args;
pub mod routes;
pub mod service;
pub mod settings;
pub mod stack;
pub mod state_blob;
pub mod tls_args;

pub use app::{App, Backends, BuildError};
pub use args::Args;
pub use settings::Settings;
