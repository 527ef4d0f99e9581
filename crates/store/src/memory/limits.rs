//! Records, limits, quotas and slots in memory.

use super::MemoryStore;
use crate::{
    Cas, DocKey, DocStore, Limit, LimitStore, OwnerId, Rule, StoreError, Taken, UnixMs, Version,
    Versioned, limit::Rate,
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
        let mut sums: BTreeMap<&String, (u64, UnixMs)> = BTreeMap::new();
        let mut left = Vec::with_capacity(limits.len());
        let mut reset_ms = Vec::with_capacity(limits.len());
        for (index, Limit { key, rule, cost }) in limits.iter().enumerate() {
            match *rule {
                Rule::Rate { per_ms, burst } => {
                    let rate = Rate { per_ms, burst };
                    let Some(step) = rate.step_us(*cost) else {
                        return Ok(Taken::Limited { index, retry_after_ms: per_ms });
                    };
                    let stored = state.limits.get(key, now).copied().unwrap_or(0);
                    let at = moved.get(key).copied().unwrap_or(stored).max(now_us);
                    let ahead = at.saturating_add(step).saturating_sub(now_us);
                    if ahead > rate.period_us() {
                        let retry_after_ms = (ahead - rate.period_us()).div_ceil(1_000);
                        return Ok(Taken::Limited { index, retry_after_ms });
                    }
                    moved.insert(key, now_us.saturating_add(ahead));
                    left.push(rate.left(ahead));
                    reset_ms.push(ahead.div_ceil(1_000));
                }
                Rule::Quota { per_ms, most } => {
                    let most = most.min(Rule::MOST);
                    let stored = sums.get(key).or_else(|| state.quotas.get(key, now)).copied();
                    let (total, ends) = stored.unwrap_or((0, now.plus_ms(per_ms)));
                    let sum = total.saturating_add(u64::from(*cost));
                    if *cost > 0 && sum > most {
                        return Ok(Taken::Limited { index, retry_after_ms: ends.since_ms(now) });
                    }
                    if *cost > 0 {
                        sums.insert(key, (sum, ends));
                    }
                    left.push(most.saturating_sub(sum));
                    reset_ms.push(ends.since_ms(now));
                }
            }
        }
        for (key, (sum, ends)) in sums {
            state.quotas.put_or_refuse(key, (sum, ends), ends, now, "quotas")?;
        }
        for (key, at_us) in moved {
            // Rounded up: what is over at this very microsecond may be forgotten.
            state.limits.put_or_evict(key, at_us, UnixMs(at_us.div_ceil(1_000)), now);
        }
        Ok(Taken::Allowed { left, reset_ms })
    }

    async fn give(&self, limits: &[Limit], now: UnixMs) -> Result<(), StoreError> {
        let mut state = self.lock();
        for Limit { key, rule, cost } in limits {
            match *rule {
                Rule::Rate { per_ms, burst } => {
                    let step = (Rate { per_ms, burst }).step_us(*cost).unwrap_or_default();
                    if let Some(at) = state.limits.get_mut(key, now) {
                        *at = at.saturating_sub(step);
                    }
                }
                Rule::Quota { .. } => {
                    if let Some((sum, _)) = state.quotas.get_mut(key, now) {
                        *sum = sum.saturating_sub(u64::from(*cost));
                    }
                }
            }
        }
        Ok(())
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
