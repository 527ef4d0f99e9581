//! The embedded session store: maps in this process, bounded and expiring. The default, and what a
//! single gateway needs; a restart forgets, which costs unspent credit and the live window only.

mod limits;
mod money;
mod table;
mod views;

use crate::{MemberStore, SessionStore, StoreError};
use async_trait::async_trait;
use std::sync::{Mutex, MutexGuard, PoisonError};
use table::Table;

/// How much the store takes of each kind.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Streams; a new one above it is refused.
    pub streams: usize,
    /// Orchestrator sessions; a new one above it is refused.
    pub sessions: usize,
    /// Credit accounts; a new one above it is refused.
    pub accounts: usize,
    /// Reservations not settled and purchases remembered, per account.
    pub per_account: usize,
    /// Results kept for replay; the oldest go first.
    pub results: usize,
    /// Scopes with scores and suspensions, and orchestrators within each; the oldest go first.
    pub scopes: usize,
    /// Pools; the oldest go first.
    pub pools: usize,
    /// Records of other kinds ([`crate::DocStore`]); a new one above it is refused.
    pub docs: usize,
    /// Bytes of all of them; a write above it is refused.
    pub doc_bytes: usize,
    /// Limits, quotas and sets of places, each; limits that are nearest to being unused go first,
    /// the others are refused.
    pub callers: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            streams: 10_000,
            sessions: 20_000,
            accounts: 20_000,
            per_account: 1_024,
            results: 50_000,
            scopes: 20_000,
            pools: 1_000,
            docs: 50_000,
            doc_bytes: 256 << 20,
            callers: 100_000,
        }
    }
}

/// See the module. Cheap to share behind an `Arc`; every operation is one short critical section
/// and none of them waits.
#[derive(Debug)]
pub struct MemoryStore {
    limits: MemoryLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    streams: Table<penstock_domain::StreamId, crate::Versioned<crate::StreamRecord>>,
    sessions: Table<crate::SessionKey, money::SessionSlot>,
    accounts: Table<crate::CreditKey, money::Account>,
    results: Table<crate::ResultKey, views::ResultSlot>,
    scopes: Table<String, views::Scope>,
    pools: Table<crate::PoolKey, crate::Pool>,
    refreshes: Table<crate::PoolKey, crate::OwnerId>,
    windows: Table<penstock_domain::StreamId, crate::HlsWindow>,
    docs: Table<crate::DocKey, crate::Versioned<bytes::Bytes>>,
    /// Limits by key: the time at which nothing is used up, in microseconds.
    limits: Table<String, u64>,
    /// Sums, and when each begins anew.
    quotas: Table<String, (u64, crate::UnixMs)>,
    slots: Table<String, std::collections::BTreeMap<crate::OwnerId, crate::UnixMs>>,
    /// One counter for the versions of all records, for the same reason as the fences'.
    last_version: u64,
    /// One counter for all fences: it outlives every record, so a fence is never given twice.
    last_fence: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: MemoryLimits) -> Self {
        let state = State {
            streams: Table::new(limits.streams),
            sessions: Table::new(limits.sessions),
            accounts: Table::new(limits.accounts),
            results: Table::new(limits.results),
            scopes: Table::new(limits.scopes),
            pools: Table::new(limits.pools),
            refreshes: Table::new(limits.pools),
            windows: Table::new(limits.streams),
            docs: Table::weighed(limits.docs, limits.doc_bytes, |doc| doc.value.len()),
            limits: Table::new(limits.callers),
            quotas: Table::new(limits.callers),
            slots: Table::new(limits.callers),
            last_version: 0,
            last_fence: 0,
        };
        Self { limits, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No operation panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(MemoryLimits::default())
    }
}

/// One process.
impl MemberStore for MemoryStore {}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
