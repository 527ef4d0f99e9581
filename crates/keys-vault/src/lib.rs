//! Secrets kept in HashiCorp Vault or OpenBao, whose HTTP API is the same.
//!
//! Neither has a secp256k1 key type in its transit engine, so that they cannot sign tickets; what
//! they can do is hold the key. It is read once from the KV store (version 1 or 2), as raw hex or as
//! a keystore, and signs as [`penstock_keys::LocalKey`] from then on, at the speed of one. The same
//! client reads and writes the keys of payment states.
//!
//! [`Vault`] logs in (token file, AppRole, Kubernetes), keeps its token alive and retries;
//! [`VaultUri`] says which secret; [`load_key`] and [`store_key`] know the fields.
//!
//! A few hundred lines over the HTTP client that the rest uses: the available client crate brings a
//! second HTTP stack of its own and neither bounds answers nor wipes them.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod auth;
mod client;
mod error;
mod http;
mod key;
mod kv;
mod secret_text;
mod uri;

pub use auth::VaultAuth;
pub use client::{Vault, VaultConfig};
pub use error::VaultError;
pub use key::{load_key, store_key};
pub use kv::KvSecret;
pub use uri::{KvVersion, VaultUri};
