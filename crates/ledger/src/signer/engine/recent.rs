//! Rows as this process left them, so that a payment need not read back the reservation and the
//! session that it wrote itself a moment ago.
//!
//! Nothing is believed because of that: a reservation ends only if it is still there, a session moves
//! on only from the sequence number that it was planned with. If a row is not as remembered the
//! batch is stale, and then it is planned again on rows that are read.

use crate::signer::{
    NewPayment, ReservationId, Session,
    plan::{CommitPlan, CommitRead, Held, OpenPlan},
};
use core::hash::Hash;
use penstock_domain::StateId;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Of each kind, about so many are remembered: twice as many at most.
const REMEMBERED: usize = 2_048;
/// What was not written for twice as long is forgotten at the latest, if anything is written: sessions end.
const LASTS: Duration = Duration::from_secs(600);

/// What the writers of one process share.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    reservations: Generations<ReservationId, Held>,
    sessions: Generations<StateId, Session>,
}

impl Recent {
    fn rows<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is remembered of the rows that a batch rests on. A session only if each of its payments
    /// has a remembered reservation and comes right after the remembered payment, so that it either
    /// changes both rows or is stale: anything else is decided on what the books say.
    pub fn of(&self, batch: &[NewPayment]) -> CommitRead {
        self.rows(|rows| {
            let mut known = CommitRead::default();
            for payment in batch {
                let id = &payment.reservation.id;
                if let Some(held) = rows.reservations.get(id) {
                    known.reservations.insert(*id, held.clone());
                }
                if let Some(session) = rows.sessions.get(&payment.state_id) {
                    known.sessions.insert(payment.state_id.clone(), session.clone());
                }
            }
            for payment in batch {
                let follows =
                    |session: &Session| session.sequence.checked_add(1) == Some(payment.sequence);
                // Who has no reservation may have been here before, by way of another process.
                let held = known.reservations.contains_key(&payment.reservation.id);
                if !(held && known.sessions.get(&payment.state_id).is_some_and(follows)) {
                    known.sessions.remove(&payment.state_id);
                }
            }
            known
        })
    }

    /// A batch's rows were not as remembered, or nobody knows what they are.
    pub fn forget(&self, batch: &[NewPayment]) {
        self.rows(|rows| {
            for payment in batch {
                rows.reservations.remove(&payment.reservation.id);
                rows.sessions.remove(&payment.state_id);
            }
        });
    }

    /// A transaction is on the disk. Takes the sessions out of its plan.
    pub fn written(&self, open: &OpenPlan, commit: &mut CommitPlan) {
        let now = Instant::now();
        self.rows(|rows| {
            for id in open.freed.iter().chain(&commit.ended) {
                rows.reservations.remove(id);
            }
            for held in &open.reservations {
                rows.reservations.put(held.id, held.clone(), now);
            }
            let opened = std::mem::take(&mut commit.new_sessions).into_iter();
            let advanced = std::mem::take(&mut commit.advanced).into_iter();
            let opened = opened.map(|(id, (session, _))| (id, session));
            for (id, session) in opened.chain(advanced.map(|(id, (_, session))| (id, session))) {
                rows.sessions.put(id, session, now);
            }
        });
    }
}

/// A map that forgets what was not put for a while.
#[derive(Debug)]
struct Generations<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
    /// When the new one began.
    began: Instant,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new(), began: Instant::now() }
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.new.get(key).or_else(|| self.old.get(key))
    }

    fn put(&mut self, key: K, value: V, now: Instant) {
        self.old.remove(&key);
        self.new.insert(key, value);
        if self.new.len() >= REMEMBERED || now.saturating_duration_since(self.began) >= LASTS {
            self.old = std::mem::take(&mut self.new);
            self.began = now;
        }
    }

    fn remove(&mut self, key: &K) {
        self.new.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let (mut rows, now) = (Generations::default(), Instant::now());
        for n in 0..10 * REMEMBERED {
            rows.put(n, n, now);
            assert!(rows.new.len() + rows.old.len() <= 2 * REMEMBERED);
            assert_eq!(rows.get(&n), Some(&n));
            assert!(rows.get(&n.saturating_sub(REMEMBERED / 2)).is_some());
        }
        assert_eq!(rows.get(&0), None);
        let last = 10 * REMEMBERED - 1;
        rows.remove(&last);
        assert_eq!(rows.get(&last), None);
    }

    #[test]
    fn what_is_not_written_for_long_is_forgotten() {
        let mut rows = Generations::default();
        let began = rows.began;
        rows.put("ended", 0, began);
        rows.put("paying", 0, began + LASTS);
        assert!(rows.get(&"ended").is_some());
        rows.put("paying", 1, began + LASTS * 2);
        assert_eq!((rows.get(&"ended"), rows.get(&"paying")), (None, Some(&1)));
    }
}
