//! Bearer tokens from a file, each belonging to an account without limits: the operator's own gateways.

use super::{Account, Policy};
use penstock_config::{ConfigError, Secret};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Account of a token without a name.
const DEFAULT: &str = "default";

/// The tokens of `--auth-token-file`.
#[derive(Clone)]
pub struct TokenFile {
    /// SHA-256 of the token: digests compare in constant time whatever the lengths.
    tokens: Vec<(Arc<Account>, [u8; 32])>,
}

impl TokenFile {
    /// From the text of a token file: a token a line, or `NAME TOKEN`; `#` starts a comment.
    /// Several tokens may belong to one account, so that one can be replaced without downtime.
    pub fn parse(secret: &Secret) -> Result<Self, ConfigError> {
        let bad = |reason: String| ConfigError::value("--auth-token-file", reason);
        let mut tokens = Vec::new();
        for (line, number) in secret.expose().lines().zip(1u32..) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (name, token) = match words.as_slice() {
                [] => continue,
                [first, ..] if first.starts_with('#') => continue,
                [token] => (DEFAULT, *token),
                [name, token] => (*name, *token),
                _ => return Err(bad(format!("line {number} has more than a name and a token"))),
            };
            if name.len() > 64 || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(bad(format!(
                    "line {number}: a name is at most 64 printable characters"
                )));
            }
            let account = Arc::new(Account::new(name, Policy::unlimited()));
            tokens.push((account, Sha256::digest(token.as_bytes()).into()));
        }
        if tokens.is_empty() {
            return Err(bad("holds no token".to_owned()));
        }
        Ok(Self { tokens })
    }

    /// The account of a token. Looks at every token, so that timing says nothing.
    pub(super) fn find(&self, token: &str) -> Option<Arc<Account>> {
        let given: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = 0u32;
        for ((_, token), place) in self.tokens.iter().zip(1u32..) {
            let same: Choice = token.ct_eq(&given);
            found.conditional_assign(&place, same);
        }
        let place = usize::try_from(found).unwrap_or(0).checked_sub(1)?;
        self.tokens.get(place).map(|(account, _)| Arc::clone(account))
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.tokens.iter().map(|(account, _)| account.name()).collect();
        f.debug_struct("TokenFile").field("names", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_belong_to_accounts() {
        let file = Secret::new("# ours\nalpha t1\nalpha t2\n\nt3\n");
        let tokens = TokenFile::parse(&file).unwrap();
        for (token, account) in [("t1", "alpha"), ("t2", "alpha"), ("t3", "default")] {
            assert_eq!(tokens.find(token).unwrap().name(), account);
        }
        for bad in ["", "t", "t11", "alpha", "alpha t1", "# ours"] {
            assert_eq!(tokens.find(bad), None, "{bad}");
        }
        assert!(!format!("{tokens:?}").contains("t1"));
    }

    #[test]
    fn bad_files_are_refused() {
        for bad in ["# only a comment", "a b c", &format!("{} t", "n".repeat(65))] {
            assert!(TokenFile::parse(&Secret::new(bad)).is_err(), "{bad}");
        }
    }
}
