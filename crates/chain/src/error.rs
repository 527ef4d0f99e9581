//! What can go wrong with a chain, and what to do next.

use crate::Revert;
use thiserror::Error;

/// A read or a transaction failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChainError {
    /// Nobody answered, or not in time. Retry; a transaction may have landed all the same, so ask
    /// `redemption` or `sender_info` before counting on either outcome.
    #[error("the chain cannot be reached: {reason}")]
    Unreachable {
        /// What the transport said.
        reason: String,
    },
    /// The chain answered that it cannot now (overloaded, its store failed). Retry as above.
    #[error("the chain is not available: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
    },
    /// Gas costs more than this side allows, takes more of it than it allows, or more than the account has. Retry; a
    /// transaction that this was to replace may land all the same.
    #[error("gas is not paid: {reason}")]
    Gas {
        /// What it would cost, and the limit.
        reason: String,
    },
    /// The answer does not make sense. Retry later, and look at the chain's version.
    #[error("the chain answered nonsense: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
    /// The contract refused. [`Revert::is_final`] says whether to give up.
    #[error("reverted: {0}")]
    Reverted(Revert),
    /// The sender has less now than the redemption is to bring. Nothing was sent. Retry: it may have more later.
    #[error("the sender cannot pay: {reason}")]
    Underpaid {
        /// What there is, and what there should be.
        reason: String,
    },
    /// The chain refuses the request itself: a wrong signature, an absurd number. Give up.
    #[error("the chain refused the request: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The operator's own limit, whose setting it names, forbids it. Nothing more was sent.
    #[error("{reason}")]
    OverLimit {
        /// Which limit, and by how much.
        reason: String,
    },
    /// The operator has looked: what was sent went nowhere, and does not come any more. Give up; ask anew for what is
    /// still wanted.
    #[error("it was not done: {reason}")]
    Lost {
        /// What became of it.
        reason: String,
    },
    /// The operation acts as an account, and this handle was opened without a key. Give up.
    #[error("{operation} needs an account: open the chain with a key")]
    NoAccount {
        /// What was asked for.
        operation: &'static str,
    },
    /// The account's key did not sign.
    #[error("the account's key did not sign: {reason}")]
    Key {
        /// What the key said.
        reason: String,
        /// Whether it may sign later.
        retryable: bool,
    },
}

impl ChainError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::Gas { .. }
            | Self::Underpaid { .. }
            | Self::BadAnswer { .. } => true,
            Self::Key { retryable, .. } => *retryable,
            Self::Reverted(revert) => !revert.is_final(),
            Self::Refused { .. }
            | Self::OverLimit { .. }
            | Self::Lost { .. }
            | Self::NoAccount { .. } => false,
        }
    }

    /// Whether it is the end of what was asked for: nothing of it is out, or comes any more.
    pub fn is_the_end(&self) -> bool {
        matches!(self, Self::Reverted(_) | Self::Lost { .. })
    }

    /// The contract's reason, if it was the contract that refused.
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Reverted(revert) => Some(revert),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_do_next() {
        assert!(ChainError::Unreachable { reason: "refused".into() }.is_retryable());
        assert!(!ChainError::Reverted(Revert::Used).is_retryable());
        assert!(ChainError::Reverted(Revert::RoundNotInitialized).is_retryable());
        assert!(!ChainError::NoAccount { operation: "unlock" }.is_retryable());
        assert_eq!(ChainError::Reverted(Revert::Used).to_string(), "reverted: ticket is used");
    }
}
