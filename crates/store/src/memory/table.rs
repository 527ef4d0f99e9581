//! A map whose entries expire and whose size is bounded.

use crate::{StoreError, UnixMs};
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Entries by key, each with the time it stops existing.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    max: usize,
    /// What an entry weighs, and how much all of them may: for tables whose entries differ in size.
    weigh: fn(&V) -> usize,
    max_weight: usize,
    weight: usize,
    by_key: HashMap<K, (V, UnixMs)>,
    by_expiry: BTreeSet<(UnixMs, K)>,
}

impl<K: Clone + Ord + Hash, V> Table<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self::weighed(max, usize::MAX, |_| 0)
    }

    pub(super) fn weighed(max: usize, max_weight: usize, weigh: fn(&V) -> usize) -> Self {
        let (by_key, by_expiry) = (HashMap::new(), BTreeSet::new());
        Self { max, weigh, max_weight, weight: 0, by_key, by_expiry }
    }

    pub(super) fn get(&self, key: &K, now: UnixMs) -> Option<&V> {
        self.by_key.get(key).filter(|(_, expiry)| *expiry > now).map(|(value, _)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K, now: UnixMs) -> Option<&mut V> {
        self.by_key.get_mut(key).filter(|(_, expiry)| *expiry > now).map(|(value, _)| value)
    }

    /// Lets a live entry live at least until `expiry`.
    pub(super) fn extend(&mut self, key: &K, expiry: UnixMs) {
        if let Some((_, old)) = self.by_key.get_mut(key)
            && *old < expiry
        {
            self.by_expiry.remove(&(*old, key.clone()));
            *old = expiry;
            self.by_expiry.insert((expiry, key.clone()));
        }
    }

    /// Writes, or refuses a new key when full: for what must not be forgotten early.
    pub(super) fn put_or_refuse(
        &mut self,
        key: &K,
        value: V,
        expiry: UnixMs,
        now: UnixMs,
        what: &'static str,
    ) -> Result<(), StoreError> {
        self.drop_expired(now);
        let old = self.by_key.get(key).map(|(old, _)| (self.weigh)(old));
        let weight = self.weight.saturating_sub(old.unwrap_or(0)) + (self.weigh)(&value);
        if old.is_none() && self.by_key.len() >= self.max || weight > self.max_weight {
            return Err(StoreError::Full(what));
        }
        self.write(key, value, expiry);
        Ok(())
    }

    /// Writes; when full, what expires first makes room: for caches.
    pub(super) fn put_or_evict(&mut self, key: &K, value: V, expiry: UnixMs, now: UnixMs) {
        self.drop_expired(now);
        if !self.by_key.contains_key(key) {
            while self.by_key.len() >= self.max.max(1) {
                let Some((_, oldest)) = self.by_expiry.pop_first() else { break };
                self.take(&oldest);
            }
        }
        self.write(key, value, expiry);
    }

    pub(super) fn remove(&mut self, key: &K, now: UnixMs) -> Option<V> {
        let (value, expiry) = self.take(key)?;
        self.by_expiry.remove(&(expiry, key.clone()));
        (expiry > now).then_some(value)
    }

    pub(super) fn iter(&self, now: UnixMs) -> impl Iterator<Item = (&K, &V)> {
        self.by_key.iter().filter(move |(_, (_, expiry))| *expiry > now).map(|(k, (v, _))| (k, v))
    }

    fn take(&mut self, key: &K) -> Option<(V, UnixMs)> {
        let taken = self.by_key.remove(key)?;
        self.weight = self.weight.saturating_sub((self.weigh)(&taken.0));
        Some(taken)
    }

    fn write(&mut self, key: &K, value: V, expiry: UnixMs) {
        if let Some((_, old)) = self.take(key) {
            self.by_expiry.remove(&(old, key.clone()));
        }
        self.weight = self.weight.saturating_add((self.weigh)(&value));
        self.by_key.insert(key.clone(), (value, expiry));
        self.by_expiry.insert((expiry, key.clone()));
    }

    fn drop_expired(&mut self, now: UnixMs) {
        while let Some((expiry, key)) = self.by_expiry.first() {
            if *expiry > now {
                break;
            }
            let key = key.clone();
            self.by_expiry.pop_first();
            self.take(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_and_bounds() {
        let mut t = Table::new(2);
        t.put_or_refuse(&1, 'a', UnixMs(10), UnixMs(0), "x").unwrap();
        t.put_or_refuse(&2, 'b', UnixMs(20), UnixMs(0), "x").unwrap();
        assert_eq!(
            t.put_or_refuse(&3, 'c', UnixMs(30), UnixMs(9), "x"),
            Err(StoreError::Full("x"))
        );
        assert_eq!(t.get(&1, UnixMs(10)), None);
        t.put_or_refuse(&3, 'c', UnixMs(30), UnixMs(10), "x").unwrap();
        t.extend(&2, UnixMs(40));
        t.put_or_evict(&4, 'd', UnixMs(50), UnixMs(10));
        assert_eq!(t.iter(UnixMs(10)).map(|(k, _)| *k).collect::<BTreeSet<_>>(), [2, 4].into());
        assert_eq!((t.by_key.len(), t.by_expiry.len()), (2, 2));
        assert_eq!(t.remove(&2, UnixMs(45)), None);
    }

    #[test]
    fn weight_is_bounded_and_comes_back() {
        let mut t: Table<u8, Vec<u8>> = Table::weighed(9, 10, Vec::len);
        let put = |t: &mut Table<u8, Vec<u8>>, key, len, expiry, now| {
            t.put_or_refuse(&key, vec![0; len], UnixMs(expiry), UnixMs(now), "x").is_ok()
        };
        assert!(put(&mut t, 1, 6, 10, 0) && put(&mut t, 2, 4, 20, 0));
        assert!(!put(&mut t, 3, 1, 20, 0) && !put(&mut t, 2, 5, 20, 0));
        assert!(put(&mut t, 1, 3, 10, 0) && put(&mut t, 3, 3, 20, 0));
        assert_eq!(t.weight, 10);
        assert!(put(&mut t, 4, 3, 20, 10), "what expired weighs nothing");
        t.remove(&4, UnixMs(11));
        assert_eq!(t.weight, 7);
    }
}
