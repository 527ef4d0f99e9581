//! Which certificate each peer showed last.
//!
//! Orchestrators of the Go node make a new certificate at every start, so a changed one is no
//! reason to refuse; it is logged and counted, and whoever asks for strictness can compare.

use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// SHA-256 of a certificate's DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of a certificate.
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a certificate is to what was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// The first one of this peer.
    First,
    /// The same as last time.
    Same,
    /// Another one than last time.
    Changed {
        /// The last one.
        before: Pin,
    },
}

/// The last pin of each origin (`https://host:port`), for as many origins as any network has.
#[derive(Debug, Default)]
pub struct Pins {
    last: Mutex<HashMap<String, Pin>>,
    changes: AtomicU64,
}

impl Pins {
    /// Origins remembered; beyond it new ones are seen as first every time.
    const MAX_ORIGINS: usize = 16_384;

    /// Notes a certificate that was accepted, and logs it if it is another one.
    pub fn observe(&self, origin: &str, certificate_der: &[u8]) -> Sighting {
        let pin = Pin::of(certificate_der);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let sighting = match last.get(origin) {
            Some(before) if *before == pin => Sighting::Same,
            Some(before) => Sighting::Changed { before: *before },
            None => Sighting::First,
        };
        if last.len() < Self::MAX_ORIGINS || last.contains_key(origin) {
            last.insert(origin.to_owned(), pin);
        }
        drop(last);
        if let Sighting::Changed { before } = sighting {
            self.changes.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(origin, %before, now = %pin, "peer shows another certificate");
        }
        sighting
    }

    /// The last pin of an origin.
    pub fn get(&self, origin: &str) -> Option<Pin> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(origin).copied()
    }

    /// How often a certificate was another one than last time: for a metric.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once() {
        let pins = Pins::default();
        assert_eq!(pins.observe("https://o:1", b"a"), Sighting::First);
        assert_eq!(pins.observe("https://o:1", b"a"), Sighting::Same);
        let before = Pin::of(b"a");
        assert_eq!(pins.observe("https://o:1", b"b"), Sighting::Changed { before });
        assert_eq!(pins.observe("https://o:1", b"b"), Sighting::Same);
        assert_eq!(pins.observe("https://o:2", b"a"), Sighting::First);
        assert_eq!((pins.changes(), pins.get("https://o:1")), (1, Some(Pin::of(b"b"))));
    }
}
