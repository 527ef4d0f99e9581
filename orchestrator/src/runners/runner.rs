//! One live runner: what it is, how it stands, and its sessions.

use super::{
    error::RunnerError,
    facts::{Facts, Mode, StaticFacts},
    ids::Seed,
    o2r::Messages,
    price::{Trail, WeiPrice},
    session::Session,
};
use penstock_domain::Rational;
use std::{collections::BTreeMap, time::Duration};
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
    /// Of its secrets.
    pub seed: Seed,
    /// To it; the operator's own have none.
    pub messages: Option<Messages>,
    /// Its sessions, by name.
    pub sessions: BTreeMap<String, Session>,
    /// What it cost lately.
    pub prices: Trail,
    broken_until: Option<Instant>,
}

impl Runner {
    /// A new one.
    pub fn new(id: String, route: String, facts: Facts, origin: Origin, seed: Seed) -> Self {
        let (messages, sessions, prices) = (None, BTreeMap::new(), Trail::default());
        Self { id, route, facts, origin, seed, messages, sessions, prices, broken_until: None }
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

    /// New facts; what was offered for others is forgotten with them.
    pub fn learn(&mut self, facts: Facts) {
        if self.facts.price != facts.price {
            self.prices.clear();
        }
        self.facts = facts;
    }

    /// The operator's newest word on its own runner.
    pub fn learn_static(&mut self, said: &StaticFacts, well: bool) {
        self.learn(Facts { ready: well, ..said.facts.clone() });
        self.origin = Origin::Static {
            health_url: said.health_url.clone(),
            healthy_status: said.healthy_status,
        };
        if well {
            self.broken_until = None;
        }
    }

    /// What it costs now; `None` off-chain.
    pub fn price(
        &mut self,
        micro_usd_per_eth: Option<&Rational>,
        now: Instant,
    ) -> Result<Option<WeiPrice>, RunnerError> {
        let Some(price) = &self.facts.price else { return Ok(None) };
        let eth = micro_usd_per_eth.ok_or(RunnerError::NoPrice(
            "what an ether costs is not known, or too old (--eth-usd, --eth-usd-max-age-ms)",
        ))?;
        let wei = price.wei(eth).ok_or(RunnerError::NoPrice(
            "converted live runner price must be at least one wei, and fit 64 bits",
        ))?;
        self.prices.note(wei, now);
        Ok(Some(WeiPrice { wei, unit: price.unit }))
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
