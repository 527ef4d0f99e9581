//! One live runner: what it is, how it stands, and its sessions.

use super::{
    error::RunnerError,
    facts::{Facts, Mode, StaticFacts},
    ids::Seed,
    o2r::Messages,
    price::Sold,
    session::Session,
};
use crate::{
    pricing::{around::percent, list::Around},
    signs::LastSign,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;
use url::Url;

/// A runner that failed a session is nobody's for so long: three of its heartbeats.
const BROKEN_FOR: Duration = Duration::from_secs(15);

/// How a runner is known to be there.
pub enum Origin {
    /// It says so itself.
    Dynamic {
        /// When it did last.
        heard: Instant,
    },
    /// The operator says so, and its health is asked for.
    Static {
        /// Where.
        health_url: Url,
        /// What means well.
        healthy_status: u16,
    },
}

/// A runner.
pub struct Runner {
    /// Its id.
    pub id: String,
    /// How clients find it.
    pub route: String,
    /// What it says, or the operator about it.
    pub facts: Facts,
    /// How it is known.
    pub origin: Origin,
    /// When it was last known to be there: it said so, or was asked, or answered somebody.
    pub there: Arc<LastSign>,
    /// Of its secrets.
    pub seed: Seed,
    /// To it; the operator's own have none.
    pub messages: Option<Messages>,
    /// Its sessions, by name.
    pub sessions: BTreeMap<String, Session>,
    broken_until: Option<Instant>,
}

impl Runner {
    /// A new one.
    pub fn new(id: String, route: String, facts: Facts, origin: Origin, seed: Seed) -> Self {
        let (messages, sessions) = (None, BTreeMap::new());
        let there = Arc::new(LastSign::now());
        Self { id, route, facts, origin, there, seed, messages, sessions, broken_until: None }
    }

    /// It is there.
    pub fn is_heard(&self) {
        self.there.note(Instant::now());
    }

    /// Whether the operator configured it.
    pub fn is_static(&self) -> bool {
        matches!(self.origin, Origin::Static { .. })
    }

    /// Whether it has not been heard of for too long.
    pub fn is_expired(&self, now: Instant, ttl: Duration) -> bool {
        match self.origin {
            Origin::Dynamic { heard } => now.saturating_duration_since(heard) > ttl,
            Origin::Static { .. } => false,
        }
    }

    /// Whether clients can have it.
    pub fn is_ready(&self, now: Instant, ttl: Duration) -> bool {
        let broken = self.broken_until.is_some_and(|until| now < until);
        self.facts.ready && !broken && !self.is_expired(now, ttl)
    }

    /// It has failed a session.
    pub fn broke(&mut self, now: Instant) {
        self.broken_until = Some(now + BROKEN_FOR);
    }

    /// The operator's newest word on its own runner.
    pub fn learn_static(&mut self, said: &StaticFacts, well: bool) {
        self.facts = Facts { ready: well, ..said.facts.clone() };
        self.origin = Origin::Static {
            health_url: said.health_url.clone(),
            healthy_status: said.healthy_status,
        };
        if well {
            self.is_heard();
            self.broken_until = None;
        }
    }

    /// What it sells, with its card and its room as they are now; `None` off-chain.
    pub fn sold(&self) -> Option<Sold> {
        let facts = &self.facts;
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let around = Around {
            cards: facts.gpu.iter().map(|gpu| gpu.name.to_lowercase()).collect(),
            load_percent: percent((wide(self.sessions.len()), wide(facts.capacity))),
            units_per_second: 0,
        };
        let (app, lasts) = (facts.app.clone(), facts.mode == Mode::Persistent);
        facts.price.clone().map(|own| Sold { app, own, lasts, around })
    }

    /// Whether it has room for one more session.
    pub fn has_room(&self) -> Result<(), RunnerError> {
        let (used, capacity) = (self.sessions.len(), self.facts.capacity);
        if used < capacity { Ok(()) } else { Err(RunnerError::Full { used, capacity }) }
    }

    /// Whether its sessions are of this kind.
    pub fn must_be(&self, mode: Mode) -> Result<(), RunnerError> {
        match (self.facts.mode == mode, mode) {
            (true, _) => Ok(()),
            (false, Mode::Persistent) => Err(RunnerError::NotPersistent),
            (false, Mode::SingleShot) => Err(RunnerError::NotSingleShot),
        }
    }

    /// Its sessions by age, as its heartbeats are answered with.
    pub fn session_ids(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.sessions.iter().collect();
        all.sort_by_key(|(id, session)| (session.begun, id.as_str()));
        all.into_iter().map(|(id, _)| id.as_str()).collect()
    }
}
