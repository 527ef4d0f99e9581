//! The accounts of this signer: where a credential becomes an account.

use super::{Account, AuthError, Caller, Policy, TokenFile, headers};
use http::HeaderMap;
use std::sync::Arc;

/// Account of everyone when no account is needed.
const LOCAL: &str = "local";

/// The known accounts.
#[derive(Debug)]
pub struct Accounts {
    tokens: Option<TokenFile>,
    local: Arc<Account>,
}

impl Accounts {
    /// With the tokens of a file; without one everyone is `local`, which is for loopback listeners
    /// only: `Settings` sees to that.
    pub fn new(tokens: Option<TokenFile>) -> Self {
        Self { tokens, local: Arc::new(Account::new(LOCAL, Policy::unlimited())) }
    }

    /// Whether anyone at all is let in.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none()
    }

    /// Finds out who a request is from.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let account = match &self.tokens {
            None => Arc::clone(&self.local),
            Some(tokens) => tokens.find(headers).ok_or(AuthError::Unauthenticated)?,
        };
        // Strangers' words about themselves are not even read.
        let auth_id =
            if account.policy().may_name_subjects { headers::auth_id(headers)? } else { None };
        let idempotency_key = headers::idempotency_key(headers)?;
        Ok(Caller { account, auth_id, idempotency_key })
    }
}
