//! Limits, quotas and places.

use super::{GRACE_MS, RedisStore, args, codec, keep_ms, link::Keep, script};
use crate::{Limit, LimitStore, OwnerId, Rule, StoreError, Taken, UnixMs, limit::Rate};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Limits that one script takes.
#[derive(Default)]
struct Group<'a> {
    keys: Vec<String>,
    limits: Vec<Member<'a>>,
}

struct Member<'a> {
    /// Place among the request's limits.
    index: usize,
    /// Place among the group's keys.
    key: usize,
    /// How far a rate's time moves, microseconds; what a quota's sum grows by.
    amount: u64,
    limit: &'a Limit,
}

impl<'a> Group<'a> {
    fn add(&mut self, key: String, index: usize, amount: u64, limit: &'a Limit) {
        let place = self.keys.iter().position(|k| *k == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        self.limits.push(Member { index, key: place, amount, limit });
    }

    fn taking(&self, now: UnixMs) -> Vec<Vec<u8>> {
        let now_us = codec::time(UnixMs(now.0.saturating_mul(1_000)));
        let mut args = vec![now_us, codec::time(now), GRACE_MS.to_string()];
        for Member { key, amount, limit, .. } in &self.limits {
            let (most, ends) = match limit.rule {
                Rule::Rate { per_ms, burst } => {
                    (Rate { per_ms, burst }.period_us(), "0".to_owned())
                }
                Rule::Quota { per_ms, most } => {
                    (most.min(Rule::MOST), codec::wide_time(now.plus_ms(per_ms)))
                }
            };
            let (place, kind) = ((key + 1).to_string(), kind(limit).to_owned());
            args.extend([place, kind, amount.to_string(), most.to_string(), ends]);
        }
        args.into_iter().map(String::into_bytes).collect()
    }

    fn giving(&self) -> Vec<Vec<u8>> {
        let mut sums = vec![("r", 0_u64); self.keys.len()];
        for Member { key, amount, limit, .. } in &self.limits {
            if let Some((what, sum)) = sums.get_mut(*key) {
                (*what, *sum) = (kind(limit), sum.saturating_add(*amount));
            }
        }
        sums.into_iter().flat_map(|(what, sum)| [what.into(), sum.to_string().into()]).collect()
    }
}

fn kind(limit: &Limit) -> &'static str {
    match limit.rule {
        Rule::Rate { .. } => "r",
        Rule::Quota { .. } => "q",
    }
}

impl RedisStore {
    /// `Ok` is how far ahead each rate is (and 0), or what is left of each quota and in how many milliseconds
    /// it ends; `Err` the refusal.
    async fn take_group(
        &self,
        group: &Group<'_>,
        now: UnixMs,
    ) -> Result<Result<Vec<(u64, u64)>, (usize, u64)>, StoreError> {
        let args = group.taking(now);
        let answer: Vec<u64> = self.link.run(&script::TAKE, &group.keys, &args, Keep::Here).await?;
        match answer.split_first() {
            Some((1, numbers)) => {
                let (left, ends) = numbers.split_at(numbers.len() / 2);
                Ok(Ok(left.iter().copied().zip(ends.iter().copied()).collect()))
            }
            Some((_, [index, retry])) => {
                Ok(Err((usize::try_from(*index).unwrap_or(usize::MAX), *retry)))
            }
            _ => Err(StoreError::Corrupt("answer")),
        }
    }
}

impl RedisStore {
    /// What is taken together. `Err`: the place of one that can never be taken, and its period.
    fn groups<'a>(
        &self,
        limits: &'a [Limit],
    ) -> Result<BTreeMap<&'a str, Group<'a>>, (usize, u64)> {
        let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
        for (index, limit) in limits.iter().enumerate() {
            let (key, amount) = match limit.rule {
                Rule::Rate { per_ms, burst } => {
                    let step = (Rate { per_ms, burst }).step_us(limit.cost);
                    let step = step.ok_or((index, per_ms))?;
                    (self.keys.limit(limit.group(), &limit.key), step)
                }
                Rule::Quota { .. } => {
                    (self.keys.quota(limit.group(), &limit.key), u64::from(limit.cost))
                }
            };
            // One server has all of them; a cluster's has those with one tag.
            let together = if self.link.options().url.is_cluster() { limit.group() } else { "" };
            groups.entry(together).or_default().add(key, index, amount, limit);
        }
        Ok(groups)
    }

    async fn give_group(&self, group: &Group<'_>) -> Result<(), StoreError> {
        let amounts = group.giving();
        self.link.run::<u8, _>(&script::GIVE, &group.keys, &amounts, Keep::Here).await.map(drop)
    }
}

#[async_trait]
impl LimitStore for RedisStore {
    async fn take(&self, limits: &[Limit], now: UnixMs) -> Result<Taken, StoreError> {
        let groups = match self.groups(limits) {
            Ok(groups) => groups,
            Err((index, retry_after_ms)) => return Ok(Taken::Limited { index, retry_after_ms }),
        };
        let (mut left, mut reset_ms) = (vec![0; limits.len()], vec![0; limits.len()]);
        let mut taken: Vec<&Group<'_>> = Vec::new();
        for group in groups.values() {
            match self.take_group(group, now).await? {
                Ok(numbers) => {
                    for (member, (number, ends)) in group.limits.iter().zip(numbers) {
                        let (free, whole_in) = match member.limit.rule {
                            Rule::Rate { per_ms, burst } => {
                                (Rate { per_ms, burst }.left(number), number.div_ceil(1_000))
                            }
                            Rule::Quota { .. } => (number, ends),
                        };
                        if let (Some(left), Some(reset_ms)) =
                            (left.get_mut(member.index), reset_ms.get_mut(member.index))
                        {
                            (*left, *reset_ms) = (free, whole_in);
                        }
                    }
                    taken.push(group);
                }
                Err((place, retry_after_ms)) => {
                    for group in taken {
                        self.give_group(group).await?;
                    }
                    let index = group.limits.get(place).map_or(0, |member| member.index);
                    return Ok(Taken::Limited { index, retry_after_ms });
                }
            }
        }
        Ok(Taken::Allowed { left, reset_ms })
    }

    async fn give(&self, limits: &[Limit], _now: UnixMs) -> Result<(), StoreError> {
        // What can never be taken was not.
        for group in self.groups(limits).unwrap_or_default().values() {
            self.give_group(group).await?;
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
