//! Private keys, and the typed signing that is the only way to use them.
//!
//! [`TypedSigner`] offers one function for each thing Penstock signs and refuses whatever could be
//! a ticket in disguise. Behind it is a [`DigestSigner`]: the embedded one is [`LocalKey`], kept in
//! a Web3 Secret Storage file ([`keystore`]).
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod digest_signer;
mod error;
pub mod foreign;
pub mod keystore;
mod local;
mod locator;
mod process;
mod typed;

pub use digest_signer::{DigestSigner, TypedDigest};
pub use error::{KeyError, Refusal};
pub use local::LocalKey;
pub use locator::{Locator, LocatorError};
pub use process::forbid_core_dumps;
pub use typed::{
    ByocJob, EthereumTransaction, MAX_BYOC_JOB_BYTES, MAX_CALL_DATA_BYTES, MAX_MANIFEST_ID_BYTES,
    MAX_RENDITIONS, SegmentCredential, TypedSigner,
};
