//! Scores and suspensions (one hash per scope), and pools.

use super::{
    RedisStore, args,
    codec::{self, pack, unpack},
    keep_ms,
    link::Keep,
    script,
};
use crate::{OwnerId, Pool, PoolKey, PoolStore, ReputationStore, Standing, StoreError, UnixMs};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// From so many orchestrators or bytes on, a pool is packed and unpacked aside.
const MANY: usize = 64;
const MANY_BYTES: usize = 32 << 10;

/// Work of some milliseconds, apart from the threads that answer requests meanwhile.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Corrupt(POOL)))
}

fn read(bytes: &[u8]) -> Result<(UnixMs, Pool), StoreError> {
    let StoredPool { ends, mut pool, infos } = unpack(bytes, POOL)?;
    for (entry, info) in pool.entries.iter_mut().zip(infos) {
        let info = STANDARD_NO_PAD.decode(info);
        entry.info = info.map_err(|_| StoreError::Corrupt(POOL))?;
    }
    Ok((ends, pool))
}

fn written(mut pool: Pool, ends: UnixMs) -> Result<Vec<u8>, StoreError> {
    let infos = pool
        .entries
        .iter_mut()
        .map(|entry| STANDARD_NO_PAD.encode(std::mem::take(&mut entry.info)));
    let infos = infos.collect();
    pack(&StoredPool { ends, pool, infos }, POOL)
}

const STANDING: StoreError = StoreError::Corrupt("standing");

impl RedisStore {
    /// Writes one score (`s`) or suspension (`b`).
    async fn note(
        &self,
        scope: &str,
        field: String,
        until: UnixMs,
        what: &str,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let args = args![
            field,
            format!("{}{what}", codec::wide_time(until)),
            codec::time(now),
            keep_ms(until.since_ms(now)),
            self.limits.standings.saturating_mul(2).to_string(),
        ];
        let key = [self.keys.standings(scope)];
        match self.link.run(&script::SCORE, &key, args, Keep::Here).await? {
            true => Ok(()),
            false => Err(StoreError::Full("orchestrators of one scope")),
        }
    }
}

#[async_trait]
impl ReputationStore for RedisStore {
    async fn standings(
        &self,
        scope: &str,
        now: UnixMs,
    ) -> Result<BTreeMap<String, Standing>, StoreError> {
        let mut get = redis::cmd("HGETALL");
        get.arg(self.keys.standings(scope));
        let fields: HashMap<String, String> = self.link.ask(get).await?;
        let mut all: BTreeMap<String, Standing> = BTreeMap::new();
        for (field, value) in fields {
            let (until, what) = value.split_at_checked(16).ok_or(STANDING)?;
            let until = codec::read_time(until.as_bytes())?;
            if until <= now {
                continue;
            }
            let (kind, orchestrator) = field.split_at_checked(1).ok_or(STANDING)?;
            let standing = all.entry(orchestrator.to_owned()).or_default();
            match kind {
                "s" => standing.latency_score = Some(what.parse().map_err(|_| STANDING)?),
                _ => {
                    standing.suspended_until = Some(until);
                    standing.suspended_because = Some(what.to_owned());
                }
            }
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
        let field = format!("s{orchestrator}");
        self.note(scope, field, now.plus_ms(ttl_ms), &latency_score.to_string(), now).await
    }

    async fn suspend(
        &self,
        scope: &str,
        orchestrator: &str,
        because: &str,
        until: UnixMs,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        if until <= now {
            return Ok(());
        }
        let because: String = because.chars().take(200).collect();
        self.note(scope, format!("b{orchestrator}"), until, &because, now).await
    }

    async fn release_suspensions(&self, scope: &str, _now: UnixMs) -> Result<(), StoreError> {
        let key = [self.keys.standings(scope)];
        self.link.run::<u8, _>(&script::RELEASE_SUSPENSIONS, &key, &[], Keep::Here).await.map(drop)
    }
}

/// A pool as stored: the same, with its offers in base64.
#[derive(Serialize, Deserialize)]
struct StoredPool {
    ends: UnixMs,
    pool: Pool,
    infos: Vec<String>,
}

const POOL: &str = "pool";
/// Pools remembered: as many as are kept warm, and some.
const SEEN_POOLS: usize = 256;

/// Pools by key, with the version that they were read at.
#[derive(Debug, Default)]
pub(super) struct SeenPools(Mutex<HashMap<String, SeenPool>>);

#[derive(Debug, Clone)]
struct SeenPool {
    version: String,
    ends: UnixMs,
    pool: Arc<Pool>,
}

impl SeenPools {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, SeenPool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: String, seen: SeenPool) {
        let mut pools = self.lock();
        if pools.len() >= SEEN_POOLS && !pools.contains_key(&key) {
            pools.clear();
        }
        pools.insert(key, seen);
    }
}

#[async_trait]
impl PoolStore for RedisStore {
    async fn pool(&self, key: &PoolKey, now: UnixMs) -> Result<Option<Pool>, StoreError> {
        let key = self.keys.pool(key);
        let seen = self.pools.lock().get(&key).cloned();
        let known = seen.as_ref().map(|s| s.version.as_str()).unwrap_or_default();
        let (version, bytes): (String, Vec<u8>) =
            self.link.run(&script::POOL, &[&key], args![known], Keep::Here).await?;
        if version.is_empty() {
            self.pools.lock().remove(&key);
            return Ok(None);
        }
        let seen = match seen {
            Some(seen) if seen.version == version => seen,
            _ => {
                let (ends, pool) = match bytes.len() {
                    ..MANY_BYTES => read(&bytes)?,
                    _ => aside(move || read(&bytes)).await?,
                };
                let seen = SeenPool { version, ends, pool: Arc::new(pool) };
                self.pools.keep(key, seen.clone());
                seen
            }
        };
        Ok((seen.ends > now).then(|| Pool::clone(&seen.pool)))
    }

    async fn put_pool(
        &self,
        key: &PoolKey,
        pool: &Pool,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let (ends, pool) = (now.plus_ms(ttl_ms), pool.clone());
        let packed = match pool.entries.len() {
            ..MANY => written(pool, ends)?,
            _ => aside(move || written(pool, ends)).await?,
        };
        let mut bytes = codec::fresh_token(now).into_bytes();
        bytes.extend(packed);
        let mut set = redis::cmd("SET");
        set.arg(self.keys.pool(key)).arg(bytes).arg("PX").arg(keep_ms(ttl_ms));
        self.link.ask::<String>(set).await.map(drop)
    }

    async fn begin_pool_refresh(
        &self,
        key: &PoolKey,
        owner: &OwnerId,
        hold_ms: u64,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let until = codec::wide_time(now.plus_ms(hold_ms));
        let args = args![owner.0, until, codec::time(now), keep_ms(hold_ms)];
        self.link.run(&script::LOCK, &[self.keys.pool_lock(key)], args, Keep::Here).await
    }

    async fn end_pool_refresh(
        &self,
        key: &PoolKey,
        owner: &OwnerId,
        _now: UnixMs,
    ) -> Result<(), StoreError> {
        let key = [self.keys.pool_lock(key)];
        self.link.run::<u8, _>(&script::UNLOCK, &key, args![owner.0], Keep::Here).await.map(drop)
    }
}
