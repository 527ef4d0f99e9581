//! Which certificate each peer showed last.
//!
//! Orchestrators of the Go node make a new certificate at every start, so a changed one is by itself
//! no reason to refuse; it is logged and counted, and whoever keeps the pins takes the changed ones
//! with [`Pins::take_changed`] to ask for the key again. Strict pins refuse instead.

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
    strict: bool,
    last: Mutex<HashMap<String, Pin>>,
    /// Pins of each host, over its ports: at a TLS handshake an HTTP client knows no more.
    hosts: Mutex<HashMap<String, Vec<Pin>>>,
    changed: Mutex<Vec<String>>,
    changes: AtomicU64,
}

impl Pins {
    /// Origins remembered; beyond it new ones are seen as first every time.
    const MAX_ORIGINS: usize = 16_384;
    /// Ports of one host remembered.
    const MAX_PORTS: usize = 64;
    /// Changed origins kept for [`Self::take_changed`].
    const MAX_CHANGED: usize = 1_024;

    /// Pins that refuse another certificate than the first one of an origin.
    pub fn strict() -> Self {
        Self { strict: true, ..Self::default() }
    }

    /// Whether others than the first are refused.
    pub fn are_strict(&self) -> bool {
        self.strict
    }

    /// Whether a certificate of this origin has to be refused. An unknown origin's is not.
    pub fn refuses(&self, origin: &str, certificate_der: &[u8]) -> bool {
        self.strict && self.get(origin).is_some_and(|known| known != Pin::of(certificate_der))
    }

    /// The same where only the host is known: refused is what none of its known ports shows. A host's
    /// first certificate is noted.
    pub fn refuses_at_host(&self, host: &str, certificate_der: &[u8]) -> bool {
        if !self.strict {
            return false;
        }
        let pin = Pin::of(certificate_der);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(host) {
            return !known.contains(&pin);
        }
        if hosts.len() < Self::MAX_ORIGINS {
            hosts.insert(host.to_owned(), vec![pin]);
        }
        false
    }

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
        if self.strict && sighting == Sighting::First {
            self.note_host(origin, pin);
        }
        if let Sighting::Changed { before } = sighting {
            self.changes.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(origin, %before, now = %pin, "peer shows another certificate");
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            if changed.len() < Self::MAX_CHANGED && !changed.iter().any(|o| o == origin) {
                changed.push(origin.to_owned());
            }
        }
        sighting
    }

    fn note_host(&self, origin: &str, pin: Pin) {
        let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= Self::MAX_ORIGINS && !hosts.contains_key(host) {
            return;
        }
        let known = hosts.entry(host.to_owned()).or_default();
        if known.len() < Self::MAX_PORTS && !known.contains(&pin) {
            known.push(pin);
        }
    }

    /// Origins whose certificate changed since this was last asked.
    pub fn take_changed(&self) -> Vec<String> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
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
        assert_eq!(pins.take_changed(), ["https://o:1"]);
        assert!(pins.take_changed().is_empty());
        assert!(!pins.refuses("https://o:1", b"c"), "not strict");
    }

    #[test]
    fn strict_pins_keep_the_first() {
        let pins = Pins::strict();
        assert!(!pins.refuses("https://[::1]:1", b"a"));
        pins.observe("https://[::1]:1", b"a");
        pins.observe("https://[::1]:2", b"b");
        assert!(pins.refuses("https://[::1]:1", b"b"));
        assert!(!pins.refuses("https://[::1]:1", b"a"));
        // HTTP clients see the host only.
        assert!(!pins.refuses_at_host("::1", b"b"));
        assert!(pins.refuses_at_host("::1", b"c"));
        assert!(!pins.refuses_at_host("storage", b"x"), "trusted when first met");
        assert!(pins.refuses_at_host("storage", b"y"));
    }
}
