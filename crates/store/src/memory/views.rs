//! Streams, results, standings, pools and windows in memory.

use super::MemoryStore;
use crate::{
    Begin, Cas, HlsEntry, HlsInsert, HlsRules, HlsStore, HlsTrack, HlsWindow, OwnerId, Pool,
    PoolKey, PoolStore, ReputationStore, ResultKey, ResultRecord, ResultStore, Standing,
    StoreError, StreamRecord, StreamStore, UnixMs, Version, Versioned,
};
use async_trait::async_trait;
use penstock_domain::StreamId;
use std::collections::BTreeMap;

#[async_trait]
impl StreamStore for MemoryStore {
    async fn stream(
        &self,
        id: &StreamId,
        now: UnixMs,
    ) -> Result<Option<Versioned<StreamRecord>>, StoreError> {
        Ok(self.lock().streams.get(id, now).cloned())
    }

    async fn put_stream(
        &self,
        id: &StreamId,
        expected: Option<Version>,
        record: &StreamRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Cas<StreamRecord>, StoreError> {
        let mut state = self.lock();
        let current = state.streams.get(id, now);
        if current.map(|c| c.version) != expected {
            return Ok(Cas::Conflict(current.cloned()));
        }
        let version = Version(state.last_version + 1);
        let value = Versioned { version, value: record.clone() };
        state.streams.put_or_refuse(id, value, now.plus_ms(ttl_ms), now, "streams")?;
        state.last_version = version.0;
        Ok(Cas::Stored(version))
    }

    async fn remove_stream(&self, id: &StreamId, now: UnixMs) -> Result<bool, StoreError> {
        Ok(self.lock().streams.remove(id, now).is_some())
    }

    async fn recent_streams(
        &self,
        limit: usize,
        now: UnixMs,
    ) -> Result<Vec<(StreamId, StreamRecord)>, StoreError> {
        let state = self.lock();
        let mut streams: Vec<_> =
            state.streams.iter(now).map(|(id, v)| (id.clone(), v.value.clone())).collect();
        streams.sort_by(|(a_id, a), (b_id, b)| {
            b.last_used_at.cmp(&a.last_used_at).then(a_id.cmp(b_id))
        });
        streams.truncate(limit);
        Ok(streams)
    }
}

#[derive(Debug)]
pub(super) enum ResultSlot {
    Claimed(OwnerId, UnixMs),
    Done(ResultRecord),
}

#[async_trait]
impl ResultStore for MemoryStore {
    async fn begin_result(
        &self,
        key: &ResultKey,
        owner: &OwnerId,
        claim_ms: u64,
        now: UnixMs,
    ) -> Result<Begin, StoreError> {
        let mut state = self.lock();
        match state.results.get(key, now) {
            Some(ResultSlot::Done(record)) => return Ok(Begin::Done(record.clone())),
            Some(ResultSlot::Claimed(holder, until)) if holder != owner => {
                return Ok(Begin::InProgress { until: *until });
            }
            _ => {}
        }
        let until = now.plus_ms(claim_ms);
        state.results.put_or_evict(key, ResultSlot::Claimed(owner.clone(), until), until, now);
        Ok(Begin::Ours)
    }

    async fn finish_result(
        &self,
        key: &ResultKey,
        record: &ResultRecord,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<ResultRecord, StoreError> {
        let mut state = self.lock();
        if let Some(ResultSlot::Done(first)) = state.results.get(key, now) {
            return Ok(first.clone());
        }
        state.results.put_or_evict(key, ResultSlot::Done(record.clone()), now.plus_ms(ttl_ms), now);
        Ok(record.clone())
    }

    async fn abandon_result(
        &self,
        key: &ResultKey,
        owner: &OwnerId,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        if matches!(state.results.get(key, now), Some(ResultSlot::Claimed(holder, _)) if holder == owner)
        {
            state.results.remove(key, now);
        }
        Ok(())
    }
}

/// Standings of one scope, each part with its own end.
#[derive(Debug, Default)]
pub(super) struct Scope {
    scores: BTreeMap<String, (f64, UnixMs)>,
    suspensions: BTreeMap<String, (UnixMs, String)>,
}

impl Scope {
    fn drop_expired(&mut self, now: UnixMs) {
        self.scores.retain(|_, (_, expiry)| *expiry > now);
        self.suspensions.retain(|_, (until, _)| *until > now);
    }

    fn ends(&self) -> UnixMs {
        let scores = self.scores.values().map(|(_, expiry)| *expiry);
        scores.chain(self.suspensions.values().map(|(until, _)| *until)).max().unwrap_or_default()
    }
}

impl MemoryStore {
    fn change_scope(
        &self,
        scope: &str,
        now: UnixMs,
        change: impl FnOnce(&mut Scope),
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        let name = scope.to_owned();
        let mut standings = state.scopes.remove(&name, now).unwrap_or_default();
        standings.drop_expired(now);
        change(&mut standings);
        if standings.scores.len().max(standings.suspensions.len()) > self.limits.scopes {
            return Err(StoreError::Full("orchestrators of one scope"));
        }
        let ends = standings.ends();
        if ends > now {
            state.scopes.put_or_evict(&name, standings, ends, now);
        }
        Ok(())
    }
}

#[async_trait]
impl ReputationStore for MemoryStore {
    async fn standings(
        &self,
        scope: &str,
        now: UnixMs,
    ) -> Result<BTreeMap<String, Standing>, StoreError> {
        let state = self.lock();
        let mut all: BTreeMap<String, Standing> = BTreeMap::new();
        let Some(scope) = state.scopes.get(&scope.to_owned(), now) else { return Ok(all) };
        for (orchestrator, (score, _)) in
            scope.scores.iter().filter(|(_, (_, expiry))| *expiry > now)
        {
            all.entry(orchestrator.clone()).or_default().latency_score = Some(*score);
        }
        for (orchestrator, (until, because)) in
            scope.suspensions.iter().filter(|(_, (until, _))| *until > now)
        {
            let standing = all.entry(orchestrator.clone()).or_default();
            standing.suspended_until = Some(*until);
            standing.suspended_because = Some(because.clone());
        }
        Ok(all)
    }

    async fn record_score(
        &self,
        scope: &str,
        orchestrator: &str,
        latency_score: f64,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.change_scope(scope, now, |s| {
            s.scores.insert(orchestrator.to_owned(), (latency_score, now.plus_ms(ttl_ms)));
        })
    }

    async fn suspend(
        &self,
        scope: &str,
        orchestrator: &str,
        because: &str,
        until: UnixMs,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.change_scope(scope, now, |s| {
            let known = s.suspensions.get(orchestrator).map(|(until, _)| *until);
            if known.is_none_or(|known| known < until) {
                let because: String = because.chars().take(200).collect();
                s.suspensions.insert(orchestrator.to_owned(), (until, because));
            }
        })
    }

    async fn release_suspensions(&self, scope: &str, now: UnixMs) -> Result<(), StoreError> {
        self.change_scope(scope, now, |s| s.suspensions.clear())
    }
}

#[async_trait]
impl PoolStore for MemoryStore {
    async fn pool(&self, key: &PoolKey, now: UnixMs) -> Result<Option<Pool>, StoreError> {
        Ok(self.lock().pools.get(key, now).cloned())
    }

    async fn put_pool(
        &self,
        key: &PoolKey,
        pool: &Pool,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        self.lock().pools.put_or_evict(key, pool.clone(), now.plus_ms(ttl_ms), now);
        Ok(())
    }

    async fn begin_pool_refresh(
        &self,
        key: &PoolKey,
        owner: &OwnerId,
        hold_ms: u64,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        if state.refreshes.get(key, now).is_some_and(|holder| holder != owner) {
            return Ok(false);
        }
        state.refreshes.put_or_evict(key, owner.clone(), now.plus_ms(hold_ms), now);
        Ok(true)
    }

    async fn end_pool_refresh(
        &self,
        key: &PoolKey,
        owner: &OwnerId,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.refreshes.get(key, now) == Some(owner) {
            state.refreshes.remove(key, now);
        }
        Ok(())
    }
}

#[async_trait]
impl HlsStore for MemoryStore {
    async fn publish(
        &self,
        stream: &StreamId,
        tracks: &[HlsTrack],
        entry: HlsEntry,
        rules: HlsRules,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<HlsInsert, StoreError> {
        let mut state = self.lock();
        let mut window = state.windows.get(stream, now).cloned().unwrap_or_default();
        let outcome = window.insert(tracks, entry, rules, now);
        state.windows.put_or_evict(stream, window, now.plus_ms(ttl_ms), now);
        Ok(outcome)
    }

    async fn window(
        &self,
        stream: &StreamId,
        now: UnixMs,
    ) -> Result<Option<HlsWindow>, StoreError> {
        Ok(self.lock().windows.get(stream, now).cloned())
    }
}
