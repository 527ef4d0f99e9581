//! Against stand-ins that really sign and that verify every request as the documentation says; the
//! services themselves cannot be reached from a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]
#![cfg(all(feature = "aws", feature = "gcp"))]

mod aws;
mod gcp;

use penstock_domain::Address;
use penstock_keys::LocalKey;

const SECRET: [u8; 32] = [0x42; 32];

/// The account of [`SECRET`].
fn account() -> Address {
    penstock_http_kit::tls::install_crypto_provider();
    LocalKey::from_bytes(SECRET.into()).unwrap().address()
}
