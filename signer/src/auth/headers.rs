//! What the headers of a request say, bounded.

use super::AuthError;
use http::HeaderMap;
use penstock_domain::AuthId;

/// Header that names the subject a trusted account acts for (remote-signer.md section 7).
pub const AUTH_ID_HEADER: &str = "signer-auth-id";
/// Makes repeating a first request safe.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest idempotency key.
const KEY_BYTES: usize = 128;

/// The subject named by the caller; absent and empty are the same.
pub(super) fn auth_id(headers: &HeaderMap) -> Result<Option<AuthId>, AuthError> {
    const BAD: AuthError = AuthError::BadHeader(
        "invalid Signer-Auth-Id: 1 to 128 printable ASCII characters without spaces",
    );
    let Some(value) = headers.get(AUTH_ID_HEADER) else { return Ok(None) };
    let text = value.to_str().map_err(|_| BAD)?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    AuthId::new(text).map(Some).map_err(|_| BAD)
}

/// The `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, AuthError> {
    const BAD: AuthError = AuthError::BadHeader(
        "invalid Idempotency-Key: 1 to 128 printable ASCII characters without spaces",
    );
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let fits = |text: &&str| (1..=KEY_BYTES).contains(&text.len());
    let text = value.to_str().ok().filter(fits);
    let text = text.filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
    text.map(|t| Some(t.to_owned())).ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn idempotency_keys_are_bounded() {
        let with = |v: &str| {
            HeaderMap::from_iter([(IDEMPOTENCY_KEY.parse().unwrap(), v.parse().unwrap())])
        };
        assert_eq!(idempotency_key(&with("k")), Ok(Some("k".to_owned())));
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        for bad in ["", "a b", &"k".repeat(129)] {
            assert!(idempotency_key(&with(bad)).is_err(), "{bad}");
        }
    }
}
