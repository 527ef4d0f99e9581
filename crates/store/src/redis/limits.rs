//! Limits, quotas and places.

use super::{GRACE_MS, RedisStore, args, codec, keep_ms, link::Keep, script};
use crate::{Limit, LimitStore, OwnerId, QuotaTaken, StoreError, Taken, UnixMs};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Limits that one script takes.
#[derive(Default)]
struct Group<'a> {
    keys: Vec<String>,
    /// Place among the request's limits, place among `keys`, step.
    limits: Vec<(usize, usize, u64, &'a Limit)>,
}

impl Group<'_> {
    fn steps(&self) -> Vec<Vec<u8>> {
        let mut steps = vec![0u64; self.keys.len()];
        for (_, key, step, _) in &self.limits {
            if let Some(sum) = steps.get_mut(*key) {
                *sum = sum.saturating_add(*step);
            }
        }
        steps.into_iter().map(|s| s.to_string().into_bytes()).collect()
    }
}

impl RedisStore {
    /// `Ok` is how far ahead each limit is, `Err` the refusal.
    async fn take_group(
        &self,
        group: &Group<'_>,
        now: UnixMs,
    ) -> Result<Result<Vec<u64>, (usize, u64)>, StoreError> {
        let now_us = UnixMs(now.0.saturating_mul(1_000));
        let mut args = vec![codec::time(now_us).into_bytes(), GRACE_MS.to_string().into_bytes()];
        for (_, key, step, limit) in &group.limits {
            let numbers = [*key as u64 + 1, *step, limit.period_us()];
            args.extend(numbers.map(|n| n.to_string().into_bytes()));
        }
        let answer: Vec<u64> = self.link.run(&script::TAKE, &group.keys, &args, Keep::Here).await?;
        match answer.split_first() {
            Some((1, ahead)) => Ok(Ok(ahead.to_vec())),
            Some((_, [index, retry])) => {
                Ok(Err((usize::try_from(*index).unwrap_or(usize::MAX), *retry)))
            }
            _ => Err(StoreError::Corrupt("answer")),
        }
    }
}

#[async_trait]
impl LimitStore for RedisStore {
    async fn take(&self, limits: &[Limit], now: UnixMs) -> Result<Taken, StoreError> {
        let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
        for (index, limit) in limits.iter().enumerate() {
            let Some(step) = limit.step_us() else {
                return Ok(Taken::Limited { index, retry_after_ms: limit.per_ms });
            };
            // One server has all of them; a cluster's has those with one tag.
            let together = if self.link.options().url.is_cluster() { limit.group() } else { "" };
            let group = groups.entry(together).or_default();
            let key = self.keys.limit(limit.group(), &limit.key);
            let place = group.keys.iter().position(|k| *k == key).unwrap_or_else(|| {
                group.keys.push(key);
                group.keys.len() - 1
            });
            group.limits.push((index, place, step, limit));
        }
        let mut left = vec![0; limits.len()];
        let mut taken: Vec<&Group<'_>> = Vec::new();
        for group in groups.values() {
            match self.take_group(group, now).await? {
                Ok(ahead) => {
                    for ((index, _, _, limit), ahead) in group.limits.iter().zip(ahead) {
                        if let Some(left) = left.get_mut(*index) {
                            *left = limit.left(ahead);
                        }
                    }
                    taken.push(group);
                }
                Err((place, retry_after_ms)) => {
                    for group in taken {
                        let steps = group.steps();
                        self.link
                            .run::<u8, _>(&script::GIVE, &group.keys, &steps, Keep::Here)
                            .await?;
                    }
                    let index = group.limits.get(place).map_or(0, |(index, ..)| *index);
                    return Ok(Taken::Limited { index, retry_after_ms });
                }
            }
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
        let most = cap.unwrap_or(u64::MAX).min(QuotaTaken::MAX_TOTAL);
        // An amount beyond what is counted is beyond what is allowed.
        let args = args![
            amount.min(QuotaTaken::MAX_TOTAL + 1).to_string(),
            most.to_string(),
            codec::wide_time(now.plus_ms(ttl_ms)),
            codec::time(now),
            keep_ms(ttl_ms),
        ];
        let key = [self.keys.quota(key)];
        let (added, total, ends): (bool, u64, Vec<u8>) =
            self.link.run(&script::QUOTA, &key, args, Keep::Here).await?;
        Ok(match added {
            true => QuotaTaken::Added { total },
            false => QuotaTaken::Over { total, resets_at: codec::read_time(&ends)? },
        })
    }

    async fn take_slot(
        &self,
        key: &str,
        holder: &OwnerId,
        most: u32,
        hold_ms: u64,
        now: UnixMs,
    ) -> Result<bool, StoreError> {
        let args = args![
            holder.0,
            most.to_string(),
            codec::time(now.plus_ms(hold_ms)),
            codec::time(now),
            keep_ms(hold_ms),
        ];
        self.link.run(&script::TAKE_SLOT, &[self.keys.slots(key)], args, Keep::Here).await
    }

    async fn free_slot(&self, key: &str, holder: &OwnerId, _now: UnixMs) -> Result<(), StoreError> {
        let mut free = redis::cmd("ZREM");
        free.arg(self.keys.slots(key)).arg(&holder.0);
        self.link.ask::<u64>(free).await.map(drop)
    }
}
