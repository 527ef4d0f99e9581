//! Why a token says nobody's name.

use thiserror::Error;

/// A token that is not accepted, or cannot be checked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It does not hold; says why. The caller is to get a new one.
    #[error("the token is not accepted: {0}")]
    Bad(&'static str),
    /// The provider's keys were never read: to be tried again.
    #[error("the identity provider's keys are not known")]
    KeysUnknown,
}
