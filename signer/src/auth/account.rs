//! The authenticated: an account, and the caller that presented its credential.

use super::{Policy, slots::Slot};
use http::HeaderMap;
use penstock_domain::AuthId;
use std::sync::Arc;

/// An authenticated account. Only [`super::Accounts`] makes one, from a credential or, for the
/// client part of a subject, on the word of an account that may name subjects.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    policy: Policy,
}

impl Account {
    pub(super) fn new(name: impl Into<String>, policy: Policy) -> Self {
        Self { name: name.into(), policy }
    }

    /// One without limits.
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str) -> Self {
        Self::new(name, Policy::unlimited())
    }

    /// Its name: 1 to 64 printable ASCII characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do, its tier's rules included.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// Who asks, and what the headers said.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Proof that the caller is known.
    pub account: Arc<Account>,
    /// Subject the account acts for: named by a trusted account, or by the token's own claims.
    pub auth_id: Option<AuthId>,
    /// `Idempotency-Key`; counts on first requests only.
    pub idempotency_key: Option<String>,
    /// The headers that an auth webhook may see: without our credentials, and without `Signer-*`
    /// of accounts that may not name subjects. Empty when there is no webhook.
    pub headers: Arc<HeaderMap>,
    /// The account's place at work, held for as long as the request is worked on. Nobody counts the
    /// operator's own.
    pub slot: Option<Slot>,
}

/// Someone whose rules a payment has to obey and whose budgets it is charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// The account.
    pub account: Arc<Account>,
    /// The subject whose own budgets are charged under this account, if there is one.
    pub subject: Option<AuthId>,
    /// The account's policy, with that subject's budgets in it.
    pub policy: Policy,
}
