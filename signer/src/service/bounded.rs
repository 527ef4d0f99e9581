//! A bounded map that forgets what was not used for longest, roughly: two generations, of which
//! the older one is dropped when the newer one is full, or has lasted long enough: streams and sessions end, and what is
//! known of them would stay until there are as many others.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was not used for twice as long is forgotten at the latest, if anything is.
const LASTS: Duration = Duration::from_secs(600);

/// At most `2 × half` entries. For hints only: an entry may be gone at any time.
pub struct Bounded<K, V> {
    half: usize,
    generations: Mutex<Generations<K, V>>,
}

struct Generations<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
    /// When the newer one began.
    began: Instant,
}

impl<K: Eq + Hash + Clone, V: Clone> Bounded<K, V> {
    /// With room for `2 × half`.
    pub fn new(half: usize) -> Self {
        let (newer, older, began) = (HashMap::new(), HashMap::new(), Instant::now());
        let generations = Generations { newer, older, began };
        Self { half: half.max(1), generations: Mutex::new(generations) }
    }

    /// What is known; using it keeps it.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.with(|g| match g.newer.get(key) {
            Some(value) => Some(value.clone()),
            None => {
                let (key, value) = g.older.remove_entry(key)?;
                g.put(key, value.clone(), self.half);
                Some(value)
            }
        })
    }

    /// Remembers.
    pub fn put(&self, key: K, value: V) {
        self.with(|g| {
            g.older.remove(&key);
            g.put(key, value, self.half);
        });
    }

    /// Forgets.
    pub fn remove(&self, key: &K) {
        self.with(|g| {
            g.newer.remove(key);
            g.older.remove(key);
        });
    }

    // Every change is one that leaves the maps whole, so a panic elsewhere poisons nothing.
    fn with<T>(&self, work: impl FnOnce(&mut Generations<K, V>) -> T) -> T {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.age(Instant::now());
        work(&mut generations)
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn put(&mut self, key: K, value: V, half: usize) {
        if self.newer.len() >= half && !self.newer.contains_key(&key) {
            self.turn(Instant::now());
        }
        self.newer.insert(key, value);
    }

    fn age(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= LASTS {
            self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) {
        self.older = std::mem::take(&mut self.newer);
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_used_stays() {
        let map = Bounded::new(2);
        map.put("kept", 0);
        for n in 0..10 {
            map.put(["a", "b", "c", "d", "e"][n % 5], n);
            assert_eq!(map.get(&"kept"), Some(0));
        }
        map.remove(&"kept");
        assert_eq!(map.get(&"kept"), None);
    }

    #[test]
    fn what_is_not_used_for_long_is_forgotten() {
        let map = Bounded::new(100);
        let began = map.with(|generations| generations.began);
        let age = |times| map.with(|generations| generations.age(began + LASTS * times));
        map.put("ended", 0);
        map.put("used", 0);
        age(1);
        assert_eq!(map.get(&"used"), Some(0), "and is of the newer generation now");
        assert_eq!(map.with(|generations| generations.older.len()), 1);
        age(2);
        assert_eq!((map.get(&"ended"), map.get(&"used")), (None, Some(0)));
        age(3);
        age(4);
        assert_eq!(map.with(|generations| generations.newer.len() + generations.older.len()), 0);
    }

    proptest! {
        #[test]
        fn never_too_many_and_never_wrong(steps in prop::collection::vec((0u8..40, any::<bool>()), 0..300)) {
            let map = Bounded::new(4);
            let mut newest = HashMap::new();
            for (step, (key, put)) in steps.into_iter().enumerate() {
                if put {
                    map.put(key, step);
                    newest.insert(key, step);
                }
                if let Some(value) = map.get(&key) {
                    prop_assert_eq!(Some(&value), newest.get(&key));
                }
                let held = map.with(|g| g.newer.len() + g.older.len());
                prop_assert!(held <= 8, "{held}");
            }
        }
    }
}
