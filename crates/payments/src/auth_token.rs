//! The auth token that ties a job to an orchestrator's answer (orchestrator-wire.md section 4).

use crate::rand::hmac_sha256;
use core::fmt;
use penstock_domain::{SessionId, U256, be_bytes};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Life of a token in seconds.
pub const TOKEN_LIFETIME_S: i64 = 30 * 60;
/// A gateway or signer asks for a new one when this many seconds are left.
pub const TOKEN_REFRESH_MARGIN_S: i64 = 180;

/// Why a token is not accepted. In the order of the checks: the HMAC is compared before the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AuthTokenError {
    /// Not issued by this orchestrator.
    #[error("invalid auth token")]
    Invalid,
    /// Was issued, too long ago.
    #[error("expired auth token")]
    Expired,
}

/// The orchestrator's 32-byte HMAC key for tokens. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AuthTokenSecret([u8; 32]);

impl AuthTokenSecret {
    /// From 32 bytes of a secure generator.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The token of a session id and an expiration in Unix seconds.
    pub fn issue(&self, session_id: &SessionId, expiration_s: i64) -> [u8; 32] {
        self.token(session_id.as_str().as_bytes(), expiration_s)
    }

    /// Whether this token is ours and still lives; it lives through its last second. The session
    /// id is as received; ours have 8 or 32 characters and the number at most 8 bytes, so that one cannot
    /// be taken for a part of the other.
    pub fn check(
        &self,
        token: &[u8],
        session_id: &str,
        expiration_s: i64,
        now_s: i64,
    ) -> Result<(), AuthTokenError> {
        self.check_origin(token, session_id, expiration_s)?;
        if now_s > expiration_s { Err(AuthTokenError::Expired) } else { Ok(()) }
    }

    /// The same without the time, as EndTranscodingSession wants it.
    pub fn check_origin(
        &self,
        token: &[u8],
        session_id: &str,
        expiration_s: i64,
    ) -> Result<(), AuthTokenError> {
        let id = SessionId::new(session_id).map_err(|_| AuthTokenError::Invalid)?;
        let expected = self.issue(&id, expiration_s);
        if bool::from(expected.as_slice().ct_eq(token)) {
            Ok(())
        } else {
            Err(AuthTokenError::Invalid)
        }
    }

    fn token(&self, session_id: &[u8], expiration_s: i64) -> [u8; 32] {
        hmac_sha256(&self.0, &auth_token_message(session_id, expiration_s))
    }
}

/// The authenticated bytes: the id, and the absolute value of the time, minimal.
pub fn auth_token_message(session_id: &[u8], expiration_s: i64) -> Vec<u8> {
    let mut message = session_id.to_vec();
    message.extend_from_slice(&be_bytes(U256::from(expiration_s.unsigned_abs())));
    message
}

/// Whether a token's holder should ask for a new one: `now > expiration − 180 s`.
pub fn token_needs_refresh(now_s: i64, expiration_s: i64) -> bool {
    now_s > expiration_s.saturating_sub(TOKEN_REFRESH_MARGIN_S)
}

impl fmt::Debug for AuthTokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthTokenSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hmac_is_compared_before_the_time() {
        let secret = AuthTokenSecret::new([1; 32]);
        let id = SessionId::new("a1b2c3d4").unwrap();
        let token = secret.issue(&id, 1_000);
        let check = |token: &[u8], id: &str, expiration, now| {
            secret.check(token, id, expiration, now).map_err(|error| error.to_string())
        };
        assert_eq!(check(&token, "a1b2c3d4", 1_000, 1_000), Ok(()));
        let invalid = Err("invalid auth token".to_owned());
        assert_eq!(check(&token, "a1b2c3d4", 1_000, 1_001), Err("expired auth token".to_owned()));
        // An expiration moved to the past is an altered token first.
        assert_eq!(check(&token, "a1b2c3d4", 999, 1_001), invalid);
        assert_eq!(check(&token[..31], "a1b2c3d4", 1_000, 0), invalid);
        assert_eq!(check(&[], "a1b2c3d4", 1_000, 0), invalid);
        assert_eq!(check(&token, "a1b2c3d5", 1_000, 0), invalid);
        assert_eq!(secret.check_origin(&token, "a1b2c3d4", 1_000), Ok(()));
        let restarted = AuthTokenSecret::new([2; 32]);
        assert!(restarted.check(&token, "a1b2c3d4", 1_000, 0).is_err());
    }

    /// Id and number run together without a separator; only ids of lengths that are far apart are accepted.
    #[test]
    fn ids_of_another_length_cannot_borrow_from_the_number() {
        let secret = AuthTokenSecret::new([1; 32]);
        let id = SessionId::new("a1b2c3d4").unwrap();
        let token = secret.issue(&id, 0x6161);
        assert_eq!(auth_token_message(b"a1b2c3d4", 0x6161), auth_token_message(b"a1b2c3d4a", 0x61));
        assert!(secret.check(&token, "a1b2c3d4a", 0x61, 0).is_err());
        let long = SessionId::new("a1b2c3d4".repeat(4)).unwrap();
        let token = secret.issue(&long, i64::MAX);
        assert_eq!(secret.check(&token, long.as_str(), i64::MAX, 0), Ok(()));
        assert!(auth_token_message(b"a1b2c3d4", i64::MAX).len() < long.as_str().len());
    }

    #[test]
    fn numbers_are_minimal_and_without_sign() {
        assert_eq!(auth_token_message(b"", 0), b"");
        assert_eq!(auth_token_message(b"", -255), [0xff]);
        assert_eq!(auth_token_message(b"", i64::MIN).len(), 8);
    }

    #[test]
    fn refresh_comes_three_minutes_early() {
        assert!(!token_needs_refresh(820, 1_000));
        assert!(token_needs_refresh(821, 1_000));
        assert!(token_needs_refresh(0, i64::MIN));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert_eq!(format!("{:?}", AuthTokenSecret::new([7; 32])), "AuthTokenSecret(…)");
    }
}
