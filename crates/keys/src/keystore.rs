//! Web3 Secret Storage version 3: the keystore file that geth, eth-account and others share.
//!
//! Deriving the key from a password takes most of a second and hundreds of MiB by intention: call
//! these from a blocking thread.

mod file;
mod format;
mod kdf;

pub use file::{create, open, rotate};
pub use format::{decrypt, encrypt};
pub use kdf::ScryptCost;

use thiserror::Error;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeystoreError {
    /// The password does not open this file. The operator's fault.
    #[error("wrong password for the keystore")]
    WrongPassword,
    /// The file is not a version 3 keystore, or asks for something absurd. Final.
    #[error("bad keystore file: {0}")]
    BadFile(&'static str),
    /// The file opened to a key of another account than it names, or to no key at all. Final.
    #[error("the keystore's key does not belong to the account it names")]
    WrongAccount,
    /// There is already a file; keystores are never overwritten.
    #[error("keystore file exists already")]
    Exists,
    /// Reading or writing failed.
    #[error("keystore file: {0}")]
    Io(#[from] std::io::Error),
    /// No randomness from the operating system.
    #[error("no randomness: {0}")]
    Random(String),
}
