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
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, AuthError> {
    const BAD: AuthError = AuthError::BadHeader(
        "invalid Idempotency-Key: 1 to 128 printable ASCII characters without spaces",
    );
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let fits = |text: &&str| (1..=KEY_BYTES).contains(&text.len());
    let text = value.to_str().ok().filter(fits);
    let text = text.filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
    text.map(|t| Some(t.to_owned())).ok_or(BAD)
}

/// What an auth webhook may see of a request's headers: everything, but not a credential that only
/// we should see, and no `Signer-*` unless the account may name subjects.
pub(super) fn for_webhook(headers: &HeaderMap, trusted: bool, ours: bool) -> HeaderMap {
    let mut shown = headers.clone();
    if ours {
        shown.remove(http::header::AUTHORIZATION);
    }
    if !trusted {
        let names = headers.keys().filter(|name| name.as_str().starts_with("signer-"));
        for name in names {
            shown.remove(name);
        }
    }
    shown
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
    fn a_webhook_sees_no_credential_of_ours_and_no_claims_of_strangers() {
        let names = ["authorization", "signer-auth-id", "signer-x", "x-request-id"];
        let headers: HeaderMap =
            names.iter().map(|n| (n.parse().unwrap(), "v".parse().unwrap())).collect();
        let seen = |trusted, ours| {
            let shown = for_webhook(&headers, trusted, ours);
            names.map(|n| shown.contains_key(n))
        };
        assert_eq!(seen(true, false), [true, true, true, true]);
        assert_eq!(seen(false, true), [false, false, false, true]);
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
