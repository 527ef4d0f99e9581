//! The session store on Redis: one server, a primary that sentinels name, or a cluster.
//!
//! Each operation is one script, which decides and writes in one step by the time it is told
//! (the HLS window is read, changed here by its pure rules, and swapped by its version). A record's
//! end is stored in it and compared with `now`; the key's own TTL only clears away what is over, a
//! little later, so that clocks may differ.
//!
//! **A failover may lose the last writes.** What that may cost is in `docs/session-store.md`; what
//! it must never do is let two holders write. Versions and fences therefore hold the time and chance:
//! a primary that never heard of a fence gives out another one, and the first holder is refused.

mod codec;
mod connect;
mod credit;
mod docs;
mod keys;
mod lane;
mod limits;
mod link;
mod options;
mod replicated;
mod results;
mod script;
mod segments;
mod sentinel;
mod sessions;
mod standings;
mod streams;

pub use options::{BadRedisUrl, RedisOptions, RedisUrl};
pub use segments::RedisSegments;

use crate::{MemberStore, SessionStore, Sight, StoreError};
use async_trait::async_trait;
use keys::Keys;
use link::{Link, Purpose};
use std::sync::Arc;

/// How long a key stays after its record ended: replicas' clocks may differ by less than that, and
/// a new record of the same name still finds the old one's version.
const GRACE_MS: u64 = 60_000;
/// Longest life of a key: a year.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RedisStore {
    link: Arc<Link>,
    keys: Keys,
    limits: RedisLimits,
    /// Pools as last read: large, read by each job, and changed by a few refreshes a minute.
    pools: Arc<standings::SeenPools>,
}

/// How much the store takes of each kind; whole keys are bounded by Redis' own `maxmemory` and by
/// their TTL.
#[derive(Debug, Clone, Copy)]
pub struct RedisLimits {
    /// Streams in the list of streams; the ones used longest ago leave it.
    pub listed_streams: usize,
    /// Reservations not settled, per account.
    pub holds: usize,
    /// Scores and suspensions of one scope, each.
    pub standings: usize,
    /// Answers kept for replay, per stream; the oldest go first.
    pub results: usize,
}

impl Default for RedisLimits {
    fn default() -> Self {
        Self { listed_streams: 10_000, holds: 1_024, standings: 10_000, results: 32 }
    }
}

impl RedisStore {
    /// Connects; a server that is away is no error: calls fail until it is there.
    pub async fn open(options: RedisOptions) -> Self {
        let keys = Keys::new(&options.prefix);
        let (link, limits) = (Link::open(options, Purpose::Records).await, RedisLimits::default());
        Self { link, keys, limits, pools: Arc::default() }
    }

    /// What it was opened with.
    pub fn options(&self) -> &RedisOptions {
        self.link.options()
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: RedisLimits) -> Self {
        Self { limits, ..self }
    }

    /// A segment store on the same servers, of segments of at most `max_segment_bytes` each; with
    /// connections of its own, so that no record waits behind media.
    pub async fn segments(&self, max_segment_bytes: usize) -> RedisSegments {
        RedisSegments::open(self.options().clone(), max_segment_bytes).await
    }
}

/// How long to keep a key whose record lives so long.
fn keep_ms(ttl_ms: u64) -> String {
    ttl_ms.saturating_add(GRACE_MS).min(LONGEST_MS).to_string()
}

/// Arguments of a script.
macro_rules! args {
    ($($arg:expr),* $(,)?) => {
        &[$(AsRef::<[u8]>::as_ref(&$arg).to_vec()),*]
    };
}
use args;

#[async_trait]
impl MemberStore for RedisStore {
    fn seen_as(&self) -> Option<String> {
        self.link.seen_as()
    }

    async fn sight(&self, name: &str) -> Result<Sight, StoreError> {
        self.link.sight(name).await
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.link.ping().await
    }
}
