//! Identifiers, one type each, so that two kinds cannot be mixed up.

use core::fmt;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The text is not allowed as this kind of identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} must be {rule}")]
pub struct BadId {
    /// Which identifier.
    pub kind: &'static str,
    /// What it has to look like.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps the text.
            pub fn new(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(BadId { kind: $kind, rule: $rule }) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn printable_ascii(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

text_id!(
    /// Ties a job to an orchestrator's accounting. At most 64 printable ASCII characters
    /// (architecture.md rule 7: a longer one could shape a credential into a ticket).
    ManifestId, "manifest id", "1 to 64 printable ASCII characters without spaces",
    |t| printable_ascii(t, 64)
);
text_id!(
    /// Id inside an orchestrator's auth token: 8 lowercase hex digits (orchestrator-wire.md section 4), or
    /// 32 where whoever knows it may use what it stands for.
    SessionId, "session id", "8 or 32 lowercase hex digits",
    |t| matches!(t.len(), 8 | 32) && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);
text_id!(
    /// Id of a payment session at the signer: 8 lowercase hex digits (remote-signer.md section 8).
    StateId, "state id", "8 lowercase hex digits",
    |t| t.len() == 8 && t.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);
text_id!(
    /// `0x` and 64 lowercase hex digits of a recipientRandHash (payments.md section 9).
    PmSessionId, "PM session id", "0x and 64 lowercase hex digits",
    |t| t.len() == 66
        && t.starts_with("0x")
        && t.bytes().skip(2).all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);
text_id!(
    /// A stream's name at the gateway, from its push URL: safe as a path element and a store key.
    StreamId, "stream id", "1 to 64 letters, digits, '-', '_' or '.', not starting with '.'",
    |t| !t.is_empty()
        && t.len() <= 64
        && !t.starts_with('.')
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
);
text_id!(
    /// Who a payment is for: `client:subject`, as `Signer-Auth-Id` carries it.
    AuthId, "auth id", "1 to 128 printable ASCII characters without spaces",
    |t| printable_ascii(t, 128)
);

impl From<crate::B256> for PmSessionId {
    fn from(recipient_rand_hash: crate::B256) -> Self {
        Self(format!("{recipient_rand_hash:#x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert!(ManifestId::new("a".repeat(64)).is_ok());
        assert!(ManifestId::new("a".repeat(65)).is_err());
        for bad in ["", "a b", "é", "a\n"] {
            assert!(ManifestId::new(bad).is_err());
        }
        assert!(SessionId::new("0a1b2c3d").is_ok());
        assert!(SessionId::new("0A1b2c3d").is_err());
        assert!(SessionId::new("0a".repeat(16)).is_ok() && SessionId::new("0a".repeat(8)).is_err());
        assert!(StreamId::new("../x").is_err());
        assert!(StreamId::new("my.show-1").is_ok());
        assert_eq!(PmSessionId::from(crate::B256::ZERO).as_str().len(), 66);
        assert!(serde_json::from_str::<SessionId>("\"zz\"").is_err());
    }
}
