//! A small memory: what was used longest ago makes room, and what is too old is forgotten.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

#[derive(Debug)]
struct Entry<T> {
    put: Instant,
    used: Instant,
    value: T,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept<T> {
    most: usize,
    entries: Mutex<HashMap<String, Entry<T>>>,
}

impl<T: Clone> Kept<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there, unless it was put longer ago than `fresh`.
    pub(super) fn get(&self, key: &str, fresh: Option<Duration>, now: Instant) -> Option<T> {
        let mut entries = self.lock();
        let entry = entries.get_mut(key)?;
        if fresh.is_some_and(|fresh| now.saturating_duration_since(entry.put) >= fresh) {
            entries.remove(key);
            return None;
        }
        entry.used = now;
        Some(entry.value.clone())
    }

    pub(super) fn put(&self, key: &str, value: T, now: Instant) {
        self.insert(&mut self.lock(), key, value, now);
    }

    /// What is there, or what is put there now: one value for all who ask at a time.
    pub(super) fn get_or(&self, key: &str, now: Instant, make: impl FnOnce() -> T) -> T {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(key) {
            entry.used = now;
            return entry.value.clone();
        }
        let made = make();
        self.insert(&mut entries, key, made.clone(), now);
        made
    }

    fn insert(&self, entries: &mut HashMap<String, Entry<T>>, key: &str, value: T, now: Instant) {
        if entries.len() >= self.most
            && !entries.contains_key(key)
            && let Some(oldest) =
                entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(key.to_owned(), Entry { put: now, used: now, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_fresh() {
        let kept = Kept::new(3);
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        for n in 0..3 {
            kept.put(&n.to_string(), n, at(n));
        }
        assert_eq!(kept.get("0", None, at(3)), Some(0));
        kept.put("3", 3, at(4));
        assert_eq!(kept.get("1", None, at(5)), None, "used longest ago");
        assert_eq!(kept.get_or("0", at(6), || 9), 0);
        assert_eq!(kept.get_or("1", at(7), || 9), 9);
        let fresh = |ms| Some(Duration::from_millis(ms));
        assert_eq!(kept.get("0", fresh(101), at(100)), Some(0));
        assert_eq!(kept.get("0", fresh(100), at(100)), None);
    }
}
