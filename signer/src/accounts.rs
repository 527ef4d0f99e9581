//! Who is calling: bearer tokens from a file, each belonging to an account.

use http::HeaderMap;
use penstock_config::{ConfigError, Secret};
use penstock_domain::AuthId;
use penstock_http_kit::admin::bearer;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Header that names the subject a trusted account acts for (remote-signer.md section 7).
pub const AUTH_ID_HEADER: &str = "signer-auth-id";
/// Account of everyone when no token is configured (loopback only).
const LOCAL: &str = "local";
/// Account of a token without a name.
const DEFAULT: &str = "default";

/// An authenticated account. Only [`Accounts::authenticate`] makes one, so a function that takes
/// it cannot be reached by a stranger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account(String);

impl Account {
    /// Its name, as in the token file.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The request did not come from a known account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthenticated;

/// The known accounts.
#[derive(Clone)]
pub struct Accounts {
    /// Name and SHA-256 of the token: digests compare in constant time whatever the lengths.
    tokens: Option<Vec<(String, [u8; 32])>>,
}

impl Accounts {
    /// Everyone is `local`. For loopback listeners only; `Settings` sees to that.
    pub fn open() -> Self {
        Self { tokens: None }
    }

    /// From the text of a token file: a token a line, or `NAME TOKEN`; `#` starts a comment.
    /// Several tokens may belong to one account, so that one can be replaced without downtime.
    pub fn from_file(secret: &Secret) -> Result<Self, ConfigError> {
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
            tokens.push((name.to_owned(), Sha256::digest(token.as_bytes()).into()));
        }
        if tokens.is_empty() {
            return Err(bad("holds no token".to_owned()));
        }
        Ok(Self { tokens: Some(tokens) })
    }

    /// Whether anyone at all is let in.
    pub fn is_open(&self) -> bool {
        self.tokens.is_none()
    }

    /// Finds the account of a request. Looks at every token, so that timing says nothing.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Account, Unauthenticated> {
        let Some(tokens) = &self.tokens else { return Ok(Account(LOCAL.to_owned())) };
        let given: [u8; 32] = Sha256::digest(bearer(headers).unwrap_or_default().as_bytes()).into();
        let mut found = 0u32;
        for ((_, token), place) in tokens.iter().zip(1u32..) {
            let same: Choice = token.ct_eq(&given);
            found.conditional_assign(&place, same);
        }
        let place = usize::try_from(found).unwrap_or(0).checked_sub(1).ok_or(Unauthenticated)?;
        tokens.get(place).map(|(name, _)| Account(name.clone())).ok_or(Unauthenticated)
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Option<Vec<&str>> =
            self.tokens.as_ref().map(|t| t.iter().map(|(name, _)| name.as_str()).collect());
        f.debug_struct("Accounts").field("names", &names).finish_non_exhaustive()
    }
}

/// The subject named by the caller; absent and empty are the same. `Err` is a header that cannot
/// be an auth id.
pub fn auth_id(headers: &HeaderMap) -> Result<Option<AuthId>, &'static str> {
    const BAD: &str = "invalid Signer-Auth-Id: 1 to 128 printable ASCII characters without spaces";
    let Some(value) = headers.get(AUTH_ID_HEADER) else { return Ok(None) };
    let text = value.to_str().map_err(|_| BAD)?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    AuthId::new(text).map(Some).map_err(|_| BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::header::AUTHORIZATION,
            format!("Bearer {token}").parse().unwrap(),
        )])
    }

    #[test]
    fn tokens_belong_to_accounts() {
        let file = Secret::new("# ours\nalpha t1\nalpha t2\n\nt3\n");
        let accounts = Accounts::from_file(&file).unwrap();
        for (token, account) in [("t1", "alpha"), ("t2", "alpha"), ("t3", "default")] {
            assert_eq!(accounts.authenticate(&headers(token)).unwrap().name(), account);
        }
        for bad in ["", "t", "t11", "alpha", "alpha t1", "# ours"] {
            assert_eq!(accounts.authenticate(&headers(bad)), Err(Unauthenticated), "{bad}");
        }
        assert_eq!(accounts.authenticate(&HeaderMap::new()), Err(Unauthenticated));
        assert!(!format!("{accounts:?}").contains("t1"));
        assert_eq!(Accounts::open().authenticate(&HeaderMap::new()).unwrap().name(), "local");
    }

    #[test]
    fn bad_files_are_refused() {
        for bad in ["# only a comment", "a b c", &format!("{} t", "n".repeat(65))] {
            assert!(Accounts::from_file(&Secret::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn auth_ids_are_bounded() {
        let with =
            |v: &str| HeaderMap::from_iter([(AUTH_ID_HEADER.parse().unwrap(), v.parse().unwrap())]);
        assert_eq!(auth_id(&with("a:b")).unwrap().unwrap().as_str(), "a:b");
        assert_eq!(auth_id(&with("")), Ok(None));
        assert_eq!(auth_id(&HeaderMap::new()), Ok(None));
        assert!(auth_id(&with(&"x".repeat(129))).is_err());
        assert!(auth_id(&with("a b")).is_err());
    }
}
