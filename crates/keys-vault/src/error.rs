//! Why a vault gave nothing.

use thiserror::Error;

/// No secret was read or written.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The configuration cannot work. The operator's fault, final.
    #[error("vault: {0}")]
    Config(String),
    /// A file with a token, secret id or certificate cannot be used.
    #[error(transparent)]
    File(#[from] penstock_config::ConfigError),
    /// It could not be reached, is sealed, or failed. Retrying may help; this was after retries.
    #[error("vault unavailable: {0}")]
    Unavailable(String),
    /// The credentials or their policies do not allow this. The operator's fault.
    #[error("vault refused ({status}): {reason}")]
    Denied {
        /// HTTP status.
        status: u16,
        /// The vault's own words.
        reason: String,
    },
    /// There is no such secret, or its newest version was deleted.
    #[error("vault has no secret at {0}")]
    Missing(String),
    /// Somebody else wrote meanwhile, or a secret is there that must not be replaced.
    #[error("vault: {0} is there already or was changed meanwhile; nothing was written")]
    Changed(String),
    /// The secret lacks a field or it does not hold what it should.
    #[error("vault: the secret's field `{field}` {reason}")]
    Field {
        /// Its name.
        field: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The answer is not of the API.
    #[error("vault: bad answer: {0}")]
    BadAnswer(&'static str),
    /// The secret is no key.
    #[error(transparent)]
    Key(#[from] penstock_keys::KeyError),
    /// The secret is a keystore that does not open.
    #[error(transparent)]
    Keystore(#[from] penstock_keys::keystore::KeystoreError),
}
