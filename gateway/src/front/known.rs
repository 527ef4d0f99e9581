//! What the signer said about credentials lately, bounded, so that neither a known caller nor a flood
//! of made-up ones costs a call each, and a signer that restarts fails no caller.
//!
//! Only hashes of credentials are kept. Good and bad ones have tables of their own: strangers cannot
//! push callers out.

use penstock_wire::json::Verified;
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Credentials kept, good ones and bad ones each.
const MOST: usize = 20_000;
/// A good answer is used for so long after it was asked for, while a newer one is on its way.
const WHILE_ASKING: Duration = Duration::from_secs(10);
/// After a call that failed, the signer is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Hash of a credential.
pub type Key = [u8; 32];

/// The key of a credential.
pub fn key_of(token: &str) -> Key {
    Sha256::digest(token.as_bytes()).into()
}

/// What to do about a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This is so.
    Fresh(Verified),
    /// This is so, but it is time to ask again, behind this request's back.
    Stale(Verified),
    /// The signer has to be asked first. If it cannot be, this was so and may still count.
    Ask(Option<Verified>),
    /// The signer failed a moment ago, and nothing is known: come again.
    Unavailable,
}

#[derive(Debug, Clone)]
struct Entry {
    verified: Verified,
    at: Instant,
    fresh_for: Duration,
}

/// Entries, the oldest leaves first.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    order: VecDeque<Key>,
}

impl Table {
    fn put(&mut self, key: Key, entry: Entry) {
        if self.entries.insert(key, entry).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > MOST {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.entries.remove(key).is_some() {
            self.order.retain(|k| k != key);
        }
    }
}

#[derive(Debug, Default)]
struct Tables {
    good: Table,
    bad: Table,
    alone_until: Option<Instant>,
}

/// The tables.
#[derive(Debug)]
pub struct Known {
    tables: Mutex<Tables>,
    /// A good answer counts for so long while the signer cannot be asked.
    stale_for: Duration,
}

impl Known {
    /// Empty.
    pub fn new(stale_for: Duration) -> Self {
        Self { tables: Mutex::default(), stale_for }
    }

    /// What to do about a credential at `now`.
    pub fn look(&self, key: &Key, now: Instant) -> Lookup {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = tables.alone_until.is_some_and(|until| now < until);
        if let Some(entry) = tables.good.entries.get(key) {
            let age = now.saturating_duration_since(entry.at);
            let verified = entry.verified.clone();
            let counts = age < self.stale_for;
            return match () {
                () if age < entry.fresh_for => Lookup::Fresh(verified),
                () if alone && counts => Lookup::Fresh(verified),
                () if alone => Lookup::Unavailable,
                () if age < WHILE_ASKING && counts => Lookup::Stale(verified),
                () => Lookup::Ask(counts.then_some(verified)),
            };
        }
        let bad = tables.bad.entries.get(key);
        match bad.filter(|e| now.saturating_duration_since(e.at) < e.fresh_for) {
            Some(entry) => Lookup::Fresh(entry.verified.clone()),
            None if alone => Lookup::Unavailable,
            None => Lookup::Ask(None),
        }
    }

    /// The signer answered.
    pub fn learn(&self, key: Key, verified: Verified, fresh_for: Duration, now: Instant) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.alone_until = None;
        let good = matches!(verified, Verified::Valid { .. });
        let entry = Entry { verified, at: now, fresh_for };
        if good {
            tables.bad.remove(&key);
            tables.good.put(key, entry);
        } else {
            // Taken back: what was good is so no more, however long it might have counted.
            tables.good.remove(&key);
            tables.bad.put(key, entry);
        }
    }

    /// The signer could not be asked.
    pub fn failed(&self, now: Instant) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.alone_until = Some(now + LEFT_ALONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::AuthId;
    use penstock_wire::json::VerifiedPolicy;

    const S: Duration = Duration::from_secs(1);

    fn valid() -> Verified {
        let auth_id = AuthId::new("acme:bob").unwrap();
        Verified::Valid { auth_id, policy: VerifiedPolicy::default() }
    }

    fn invalid() -> Verified {
        Verified::Invalid { forbidden: true, reason: "revoked".into() }
    }

    #[test]
    fn a_good_answer_ages() {
        let (known, key, t) = (Known::new(600 * S), key_of("k"), Instant::now());
        assert_eq!(known.look(&key, t), Lookup::Ask(None));
        known.learn(key, valid(), 2 * S, t);
        assert_eq!(known.look(&key, t + S), Lookup::Fresh(valid()));
        assert_eq!(known.look(&key, t + 3 * S), Lookup::Stale(valid()));
        assert_eq!(known.look(&key, t + 11 * S), Lookup::Ask(Some(valid())));
        assert_eq!(known.look(&key, t + 601 * S), Lookup::Ask(None), "too old to count");
    }

    #[test]
    fn while_the_signer_is_away_what_was_known_counts() {
        let (known, key, t) = (Known::new(600 * S), key_of("k"), Instant::now());
        known.learn(key, valid(), 2 * S, t);
        let later = t + 60 * S;
        known.failed(later);
        assert_eq!(known.look(&key, later), Lookup::Fresh(valid()));
        assert_eq!(known.look(&key_of("other"), later), Lookup::Unavailable);
        assert_eq!(known.look(&key, later + 2 * S), Lookup::Ask(Some(valid())), "asked again");
        known.failed(t + 700 * S);
        assert_eq!(known.look(&key, t + 700 * S), Lookup::Unavailable, "not for ever");
    }

    #[test]
    fn what_is_taken_back_counts_no_more() {
        let (known, key, t) = (Known::new(600 * S), key_of("k"), Instant::now());
        known.learn(key, valid(), 2 * S, t);
        known.learn(key, invalid(), 2 * S, t + S);
        assert_eq!(known.look(&key, t + S), Lookup::Fresh(invalid()));
        assert_eq!(known.look(&key, t + 4 * S), Lookup::Ask(None));
        known.failed(t + 4 * S);
        assert_eq!(known.look(&key, t + 4 * S), Lookup::Unavailable);
    }

    #[test]
    fn strangers_push_nobody_out_and_take_bounded_room() {
        let (known, key, t) = (Known::new(600 * S), key_of("k"), Instant::now());
        known.learn(key, valid(), 2 * S, t);
        for n in 0..MOST + 5 {
            known.learn(key_of(&n.to_string()), invalid(), 2 * S, t);
        }
        assert_eq!(known.look(&key, t), Lookup::Fresh(valid()));
        let tables = known.tables.lock().unwrap();
        assert_eq!((tables.bad.entries.len(), tables.bad.order.len()), (MOST, MOST));
        assert!(!tables.bad.entries.contains_key(&key_of("4")));
    }
}
