//! The sessions of live runners that ended last, and why: for the operator's list, and for the answers to whoever
//! asks for one afterwards.

use crate::release::Reason;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicU64},
};

/// The sessions that ended last.
#[derive(Debug, Default)]
pub struct Ended {
    last: VecDeque<EndedSession>,
    most: usize,
}

/// A session that ended.
#[derive(Debug, Clone)]
pub struct EndedSession {
    /// Its runner's route.
    pub route: String,
    /// Its name.
    pub session: String,
    /// Why.
    pub reason: Reason,
    /// Unix ms.
    pub at_ms: i64,
    /// Units that it was charged for; the last ones may come after its end.
    pub units: Arc<AtomicU64>,
}

impl Ended {
    /// At most so many.
    pub fn new(most: usize) -> Self {
        Self { last: VecDeque::new(), most }
    }

    /// One more.
    pub fn add(&mut self, ended: EndedSession) {
        if self.last.len() >= self.most {
            self.last.pop_front();
        }
        self.last.push_back(ended);
    }

    /// Why a session ended, if that is remembered.
    pub fn reason(&self, route: &str, session: &str) -> Option<Reason> {
        let is = |ended: &&EndedSession| ended.session == session && ended.route == route;
        self.last.iter().rev().find(is).map(|ended| ended.reason)
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = &EndedSession> {
        self.last.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_for_a_while() {
        const REMEMBERED: usize = 10;
        let mut ended = Ended::new(REMEMBERED);
        let one = |n: usize| EndedSession {
            route: "r".into(),
            session: n.to_string(),
            reason: Reason::LeaseExpired,
            at_ms: 0,
            units: Arc::default(),
        };
        (0..=REMEMBERED).for_each(|n| ended.add(one(n)));
        assert_eq!(ended.reason("r", "1"), Some(Reason::LeaseExpired));
        assert_eq!((ended.reason("r", "0"), ended.reason("x", "1")), (None, None));
        assert_eq!(ended.newest().count(), REMEMBERED);
    }
}
