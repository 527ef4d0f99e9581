//! The clients against small real servers: tonic and axum behind TLS with self-signed
//! certificates, and in clear.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod offers;
mod orchestrator;
mod paid_work;
mod rebinding;
mod results;
mod server;
mod signer;
