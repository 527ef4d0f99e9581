//! Why a caller was not let in. `crate::error` alone gives statuses.

use thiserror::Error;

/// Why a caller was not let in; each text can be shown to the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// No credential, or one that belongs to nobody. Get a right one.
    #[error("a valid bearer token is required")]
    Unauthenticated,
    /// A header that cannot be what it is named. Fix the request.
    #[error("{0}")]
    BadHeader(&'static str),
}
