//! `AuthToken` ⇄ a bounded token. Whether it is genuine is the orchestrator's HMAC to say.

use crate::{
    error::{WireError, bounded},
    limits, net,
};

/// Lets a gateway work in one session at one orchestrator (orchestrator-wire.md section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthToken {
    /// Opaque to everyone but its issuer; at least 1 byte.
    pub token: Vec<u8>,
    /// 1 to 64 printable ASCII characters (Go and we issue 8 lowercase hex digits).
    pub session_id: String,
    /// Unix seconds; valid while now ≤ this.
    pub expiration_s: i64,
}

impl AuthToken {
    /// Gateways refresh a session when less than this is left (orchestrator-wire.md section 4).
    pub const REFRESH_MARGIN_S: i64 = 180;

    /// Whether a gateway or signer should ask for a new one first.
    pub fn needs_refresh(&self, now_s: i64) -> bool {
        now_s > self.expiration_s.saturating_sub(Self::REFRESH_MARGIN_S)
    }

    /// Whether an orchestrator refuses it.
    pub fn is_expired(&self, now_s: i64) -> bool {
        now_s > self.expiration_s
    }
}

impl TryFrom<&net::AuthToken> for AuthToken {
    type Error = WireError;

    fn try_from(m: &net::AuthToken) -> Result<Self, WireError> {
        bounded("auth token", m.token.len(), limits::AUTH_TOKEN_BYTES)?;
        bounded("session id", m.session_id.len(), limits::SESSION_ID_BYTES)?;
        if m.token.is_empty() {
            return Err(WireError::invalid("auth token", "must not be empty"));
        }
        let printable = |b: u8| (0x21..=0x7e).contains(&b);
        if m.session_id.is_empty() || !m.session_id.bytes().all(printable) {
            return Err(WireError::invalid("session id", "must be printable ASCII"));
        }
        Ok(Self {
            token: m.token.clone(),
            session_id: m.session_id.clone(),
            expiration_s: m.expiration,
        })
    }
}

impl From<&AuthToken> for net::AuthToken {
    fn from(t: &AuthToken) -> Self {
        Self {
            token: t.token.clone(),
            session_id: t.session_id.clone(),
            expiration: t.expiration_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_edges() {
        let t = AuthToken { token: vec![1], session_id: "a1b2c3d4".into(), expiration_s: 1000 };
        assert!(!t.needs_refresh(820) && t.needs_refresh(821));
        assert!(!t.is_expired(1000) && t.is_expired(1001));
        let oldest = AuthToken { expiration_s: i64::MIN, ..t };
        assert!(oldest.needs_refresh(0));
    }
}
