//! Why a caller was not let in. `crate::error` alone gives statuses.

use penstock_domain::AuthId;
use penstock_ledger::signer::LedgerError;
use penstock_oidc::TokenError;
use thiserror::Error;

/// Why a caller was not let in; each text can be shown to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// No credential, or one that belongs to nobody. Get a right one.
    #[error("a valid bearer token is required")]
    Unauthenticated,
    /// A token of an identity provider that does not hold; says why. Get a new one.
    #[error("the token is not accepted: {0}")]
    BadToken(&'static str),
    /// A header that cannot be what it is named. Fix the request.
    #[error("{0}")]
    BadHeader(&'static str),
    /// The key was good once. Get a new one.
    #[error("the key {0} has expired")]
    Expired(String),
    /// The key was taken back. Ask the operator.
    #[error("the key {0} was revoked")]
    Revoked(String),
    /// The account is let in no more. Ask the operator.
    #[error("the account {0} is blocked")]
    Blocked(String),
    /// Nothing is signed for this subject. Ask the operator.
    #[error("the subject {0} is blocked")]
    BlockedSubject(AuthId),
    /// The token names its subject, and a header another one. Leave the header away.
    #[error("the token is of the subject {0}; Signer-Auth-Id cannot name another")]
    OtherSubject(AuthId),
    /// The token's account is not one of this signer's. Ask the operator.
    #[error("the token names an account that does not exist here")]
    NoAccount,
    /// Only an account that may name subjects may ask this.
    #[error("this account may not ask about other callers")]
    NotTrusted,
    /// Too many requests. Retry after so many seconds.
    #[error("account {account} may send {per_second} requests a second")]
    RateLimited {
        /// Whose.
        account: String,
        /// How many it may send.
        per_second: u32,
        /// When there is room again.
        retry_after_s: u32,
    },
    /// Too many requests at the same time. Retry when others are answered.
    #[error("account {account} may have {slots} requests at work at once")]
    Busy {
        /// Whose.
        account: String,
        /// How many.
        slots: usize,
    },
    /// What is known of accounts, or of the identity provider's keys, is too old. Retry.
    #[error("{0}")]
    Unavailable(String),
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Bad(why) => Self::BadToken(why),
            TokenError::KeysUnknown => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<LedgerError> for AuthError {
    fn from(error: LedgerError) -> Self {
        Self::Unavailable(format!("accounts: {error}"))
    }
}
