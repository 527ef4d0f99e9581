//! Names and secrets of live runners (live-runner.md section 1): base32 in lower case without padding,
//! random or an HMAC of a runner's seed.

use crate::secrets::{self, SecretError};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// RFC 4648 base32, lower case, unpadded.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(8).div_ceil(5));
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut put = |five: u32| {
        if let Some(letter) = ALPHABET.get((five & 31) as usize) {
            text.push(char::from(*letter));
        }
    };
    for byte in bytes {
        held = (held << 8 | u32::from(*byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            put(held >> bits);
        }
    }
    if bits > 0 {
        put(held << (5 - bits));
    }
    text
}

/// A new runner's id: `runner_` and 8 characters.
pub fn runner_id() -> Result<String, SecretError> {
    Ok(format!("runner_{}", base32(&secrets::random::<5>()?)))
}

/// A new session's id. Who knows it may use the session, so it has 128 random bits (the
/// reference's has 40).
pub fn session_id() -> Result<String, SecretError> {
    Ok(format!("session_{}", base32(&secrets::random::<16>()?)))
}

/// A new proxy's id: 26 characters, 128 random bits, fit for a host name.
pub fn proxy_id() -> Result<String, SecretError> {
    Ok(base32(&secrets::random::<16>()?))
}

/// What a runner's secrets are made of.
#[derive(Clone)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A new one.
    pub fn new() -> Result<Self, SecretError> {
        Ok(Self(secrets::random()?))
    }

    /// What the runner's heartbeats carry.
    pub fn heartbeat_secret(&self) -> String {
        self.derive("heartbeat")
    }

    /// What the runner shows to act for a session.
    pub fn session_token(&self, session: &str) -> String {
        self.derive(&format!("session:{session}"))
    }

    /// The part of the name of its channel that nobody else knows.
    pub fn channel_secret(&self) -> String {
        self.derive("trickle:o2r").chars().take(16).collect()
    }

    fn derive(&self, label: &str) -> String {
        // A key of any length is fine for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(label.as_bytes());
        base32(&mac.finalize().into_bytes())
    }
}

/// Compares secrets without telling by the time how much was right. An empty one is never right.
pub fn is_secret(given: &str, right: &str) -> bool {
    !right.is_empty() && bool::from(given.as_bytes().ct_eq(right.as_bytes()))
}

/// An id that a runner chose: fit for a path, for a channel's name and for the log.
pub fn is_runner_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~:@".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(fits) && !matches!(text, "." | "..")
}

/// The begin of a session's id, for the log: who knows all of it may use the session.
pub fn shown(session: &str) -> &str {
    session.get(..12.min(session.len() / 2)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_as_in_the_standard() {
        for (text, coded) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(text.as_bytes()), coded);
        }
        assert_eq!(base32(&[0xff; 32]).len(), 52);
    }

    #[test]
    fn secrets_differ_by_runner_and_label() {
        let (a, b) = (Seed([1; 32]), Seed([2; 32]));
        assert_eq!(a.heartbeat_secret().len(), 52);
        assert_ne!(a.heartbeat_secret(), b.heartbeat_secret());
        assert_ne!(a.session_token("s"), a.session_token("t"));
        assert!(is_secret(&a.session_token("s"), &a.session_token("s")));
        assert!(!is_secret("", "") && !is_secret("x", "y") && !is_secret("x", ""));
        assert_eq!(a.channel_secret().len(), 16);
        assert_eq!(proxy_id().unwrap().len(), 26);
        assert_eq!(runner_id().unwrap().len(), 15);
        assert!(is_runner_id(&runner_id().unwrap()) && is_runner_id("gpu-1:9000"));
        for bad in ["", "..", "a/b", "a b", "ü", &"x".repeat(129)] {
            assert!(!is_runner_id(bad), "{bad}");
        }
        assert!(shown(&session_id().unwrap()).len() < 13);
    }
}
