//! Records, limits, quotas and slots in memory.

use super::MemoryStore;
use crate::{
    Cas, DocKey, DocStore, Limit, LimitStore, OwnerId, QuotaTaken, StoreError, Taken, UnixMs,
    Version, Versioned,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;

#[async_trait]
impl DocStore for MemoryStore {
    async fn doc(&self, key: &DocKey, now: UnixMs) -> Result<Option<Versioned<Bytes>>, StoreError> {
        key.check_size()?;
        Ok(self.lock().docs.get(key, now).cloned())
    }

    async fn put_doc(
        &self,
        key: &DocKey,
        expected: Option<Version>,
        value: Bytes,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<Cas<Bytes>, StoreError> {
        key.check_value(&value)?;
        let mut state = self.lock();
        let current = state.docs.get(key, now);
        if current.map(|c| c.version) != expected {
            return Ok(Cas::Conflict(current.cloned()));
        }
        let version = Version(state.last_version + 1);
        let doc = Versioned { version, value };
        state.docs.put_or_refuse(key, doc, now.plus_ms(ttl_ms), now, "records")?;
        state.last_version = version.0;
        Ok(Cas::Stored(version))
    }

    async fn remove_doc(
        &self,
        key: &DocKey,
        expected: Version,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        key.check_size()?;
        let mut state = self.lock();
        Ok(state.docs.get(key, now).is_some_and(|c| c.version == expected)
            && state.docs.remove(key, now).is_some())
    }
}

#[async_trait]
impl LimitStore for MemoryStore {
    async fn take(&self, limits: &[Limit], now: UnixMs) -> Result<Taken, StoreError> {
        let now_us = now.0.saturating_mul(1_000);
        let mut state = self.lock();
        // The same key twice in one request counts twice.
        let mut moved: BTreeMap<&String, u64> = BTreeMap::new();
        let mut left = Vec::with_capacity(limits.len());
        for (index, limit) in limits.iter().enumerate() {
            let Some(step) = limit.step_us() else {
                return Ok(Taken::Limited { index, retry_after_ms: limit.per_ms });
            };
            let stored = state.limits.get(&limit.key, now).copied().unwrap_or(0);
            let at = moved.get(&limit.key).copied().unwrap_or(stored).max(now_us);
            let ahead = at.saturating_add(step).saturating_sub(now_us);
            if ahead > limit.period_us() {
                let retry_after_ms = (ahead - limit.period_us()).div_ceil(1_000);
                return Ok(Taken::Limited { index, retry_after_ms });
            }
            moved.insert(&limit.key, now_us.saturating_add(ahead));
            left.push(limit.left(ahead));
        }
        for (key, at_us) in moved {
            // Rounded up: what is over at this very microsecond may be forgotten.
            state.limits.put_or_evict(key, at_us, UnixMs(at_us.div_ceil(1_000)), now);
        }
        Ok(Taken::Allowed { left })
    }

    async fn quota_add(
        &self,
        key: &str,
        amount: u64,
        cap: Option<u64>,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<QuotaTaken, StoreError> {
        let (key, mut state) = (key.to_owned(), self.lock());
        let stored = state.quotas.get(&key, now).copied();
        let (total, resets_at) = stored.unwrap_or((0, now.plus_ms(ttl_ms)));
        let most = cap.unwrap_or(u64::MAX).min(QuotaTaken::MAX_TOTAL);
        match total.checked_add(amount).filter(|sum| amount == 0 || *sum <= most) {
            None => Ok(QuotaTaken::Over { total, resets_at }),
            Some(sum) => {
                if amount > 0 {
                    let quota = (sum, resets_at);
                    state.quotas.put_or_refuse(&key, quota, resets_at, now, "quotas")?;
                }
                Ok(QuotaTaken::Added { total: sum })
            }
        }
    }

    async fn take_slot(
        &self,
        key: &str,
        holder: &OwnerId,
        most: u32,
        hold_ms: u64,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let (key, mut state) = (key.to_owned(), self.lock());
        let mut held = state.slots.remove(&key, now).unwrap_or_default();
        held.retain(|_, until| *until > now);
        let taken = held.contains_key(holder) || held.len() < most as usize;
        if taken {
            held.insert(holder.clone(), now.plus_ms(hold_ms));
        }
        if let Some(ends) = held.values().max().copied() {
            state.slots.put_or_refuse(&key, held, ends, now, "places")?;
        }
        Ok(taken)
    }

    async fn free_slot(&self, key: &str, holder: &OwnerId, now: UnixMs) -> Result<(), StoreError> {
        if let Some(held) = self.lock().slots.get_mut(&key.to_owned(), now) {
            held.remove(holder);
        }
        Ok(())
    }
}
