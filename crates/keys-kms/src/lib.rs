//! Keys that a cloud keeps and signs with: AWS KMS (`aws`) and Google Cloud KMS (`gcp`).
//!
//! Two calls of each service are used, "give the public key" at start and "sign this digest" for each
//! signature, so that this speaks their HTTP APIs over the HTTP client that the rest uses. The
//! vendors' own crates would bring 200 and 250 others. AWS credentials (environment, profile, SSO, web
//! identity, containers, instances) and request signatures come from `reqsign-aws-v4`, a dozen small
//! crates. Its sibling for Google needs the `rsa` crate, which leaks keys through timing
//! (RUSTSEC-2023-0071), so that service accounts sign their tokens through `jsonwebtoken` on aws-lc
//! here.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

#[cfg(feature = "aws")]
pub mod aws;
mod environment;
#[cfg(feature = "gcp")]
pub mod gcp;
mod http;

pub use environment::Environment;
