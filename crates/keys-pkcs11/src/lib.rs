//! Keys that never leave a hardware security module or a token: PKCS#11.
//!
//! [`Pkcs11Uri`] says where the key is, [`Pkcs11Key`] signs with it, [`create`] and [`import`] make
//! one. The vendor's module is a shared library that is loaded when the key is opened; nothing of it
//! is needed to build.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod error;
mod key;
mod make;
mod token;
mod uri;

pub use key::Pkcs11Key;
pub use make::{create, import};
pub use uri::Pkcs11Uri;
