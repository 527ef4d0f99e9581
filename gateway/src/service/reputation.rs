//! What is remembered of orchestrators, as choices need it: read from the store, and kept for a
//! moment.
//!
//! A choice among a thousand orchestrators should not read a thousand scores for each job. What
//! another replica has learned may be `--selection-cache-ms` old here before it is read again, which costs
//! a try at worst; what this replica learns counts here at once. Of a pool it is read behind the back of
//! the choices (module `refresh`), unless nobody used it for longer.

use penstock_selection::Breakers;
use penstock_store::Standing;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Scopes kept of each kind: pools, and callers and streams of the last moment.
const MAX_SCOPES: usize = 4_096;

/// So many times as long as it is fresh, what was read of a pool may be used while it is read again.
const BELIEVED: u32 = 10;

/// How often what nobody will use any more is dropped, at most; and not before some of it is as old as that.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// By service URI.
pub type Standings = BTreeMap<String, Standing>;

/// What was read in the last moment.
#[derive(Debug)]
pub struct Reputation {
    /// Scores and suspensions by scope.
    pub standings: Recent<Standings>,
    /// Circuits that are not closed, by pool.
    pub breakers: Recent<Breakers>,
}

impl Reputation {
    /// What was read is believed for so long.
    pub fn new(fresh: Duration) -> Self {
        Self { standings: Recent::new(fresh), breakers: Recent::new(fresh) }
    }
}

/// Things that were read in the last moment, by name.
#[derive(Debug)]
pub struct Recent<T> {
    fresh: Duration,
    all: Mutex<HashMap<String, Kept<T>>>,
    swept_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Kept<T> {
    read_at: Instant,
    /// When this replica last changed it.
    learned_at: Option<Instant>,
    value: Arc<T>,
}

impl<T> Kept<T> {
    /// Since something was last heard of it.
    fn age(&self, now: Instant) -> Duration {
        let heard_at = self.learned_at.map_or(self.read_at, |at| at.max(self.read_at));
        now.saturating_duration_since(heard_at)
    }
}

impl<T: Clone> Recent<T> {
    /// What was read is believed for so long.
    pub fn new(fresh: Duration) -> Self {
        Self { fresh, all: Mutex::default(), swept_at: Mutex::default() }
    }

    fn with<O>(&self, f: impl FnOnce(&mut HashMap<String, Kept<T>>) -> O) -> O {
        f(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was read, if that is not long ago, or else what `read` gives.
    pub async fn get<E>(
        &self,
        name: &str,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let began = Instant::now();
        if let Some(value) = self.fresh(name, began) {
            return Ok(value);
        }
        let value = Arc::new(read.await?);
        self.keep(name, &value, began);
        Ok(value)
    }

    /// What was read, if that is not long ago.
    pub fn fresh(&self, name: &str, now: Instant) -> Option<Arc<T>> {
        let is_fresh = |kept: &&Kept<T>| self.is_fresh(kept, now);
        self.with(|all| all.get(name).filter(is_fresh).map(|kept| Arc::clone(&kept.value)))
    }

    /// The same, and what is a while older: then `again` is called.
    pub async fn get_or_old<E>(
        &self,
        name: &str,
        again: impl FnOnce(),
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let now = Instant::now();
        let old = self.with(|all| {
            let kept = all.get(name)?;
            let age = now.saturating_duration_since(kept.read_at);
            (age < self.fresh * BELIEVED).then(|| (Arc::clone(&kept.value), age >= self.fresh))
        });
        let Some((value, is_old)) = old else { return self.get(name, read).await };
        if is_old {
            again();
        }
        Ok(value)
    }

    fn is_fresh(&self, kept: &Kept<T>, now: Instant) -> bool {
        now.saturating_duration_since(kept.read_at) < self.fresh
    }

    /// Whether it is time to drop what is too old to be used: streams end, and their scopes with them.
    fn sweeps(&self, now: Instant) -> bool {
        let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        let every = SWEPT_EVERY.max(self.fresh * BELIEVED);
        let is_time = swept_at.is_none_or(|at| now.saturating_duration_since(at) >= every);
        if is_time {
            *swept_at = Some(now);
        }
        is_time
    }

    /// What a read that began at `read_at` gave.
    pub fn keep(&self, name: &str, value: &Arc<T>, read_at: Instant) {
        let sweeps = self.sweeps(read_at);
        self.with(|all| {
            if sweeps {
                all.retain(|_, kept| kept.age(read_at) < self.fresh * BELIEVED);
            }
            if all.len() >= MAX_SCOPES && !all.contains_key(name) {
                all.retain(|_, kept| self.is_fresh(kept, read_at));
                if all.len() >= MAX_SCOPES {
                    return;
                }
            }
            // It may have been read before the store had what was learned meanwhile.
            if all.get(name).is_some_and(|kept| kept.learned_at.is_some_and(|at| at > read_at)) {
                return;
            }
            let kept = Kept { read_at, learned_at: None, value: Arc::clone(value) };
            all.insert(name.to_owned(), kept);
        });
    }

    /// What was read is not so any more.
    pub fn forget(&self, name: &str) {
        self.with(|all| all.remove(name));
    }

    /// This replica has stored a change: it counts here at once.
    pub fn learn(&self, name: &str, change: impl FnOnce(&mut T)) {
        self.with(|all| {
            if let Some(kept) = all.get_mut(name) {
                kept.learned_at = Some(Instant::now());
                change(Arc::make_mut(&mut kept.value));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::convert::Infallible;

    const FRESH: Duration = Duration::from_secs(3_600);

    #[test]
    fn what_is_old_is_used_while_it_is_read_again() {
        let recent = Recent::new(FRESH);
        let read = |there: u8, wanted: &mut u8| {
            let read = async { Ok::<_, Infallible>(there) };
            let again = || *wanted += 1;
            *recent.get_or_old("video", again, read).now_or_never().unwrap().unwrap()
        };
        let mut wanted = 0;
        assert_eq!((read(1, &mut wanted), read(2, &mut wanted)), (1, 1));
        let ago = |hours| {
            recent.with(|all| {
                let then = Instant::now().checked_sub(FRESH * hours).unwrap();
                all.get_mut("video").unwrap().read_at = then;
            });
        };
        assert_eq!(wanted, 0);
        ago(1);
        assert_eq!((read(2, &mut wanted), wanted), (1, 1), "old, and asked for");
        ago(BELIEVED);
        assert_eq!((read(2, &mut wanted), wanted), (2, 1), "too old");
    }

    fn read(of: &Recent<u8>, there: u8) -> u8 {
        let read = async { Ok::<_, Infallible>(there) };
        *of.get("video", read).now_or_never().unwrap().unwrap()
    }

    #[test]
    fn what_is_learned_here_counts_at_once_and_the_rest_for_a_moment() {
        let (recent, began) = (Recent::new(FRESH), Instant::now());
        // Nothing is made up of what was not read.
        recent.learn("video", |value: &mut u8| *value = 7);
        assert_eq!(read(&recent, 1), 1);
        assert_eq!(read(&recent, 2), 1, "kept");
        recent.learn("video", |value| *value = 3);
        assert_eq!(read(&recent, 2), 3);
        // A read from before that time says nothing of it.
        recent.keep("video", &Arc::new(2), began);
        assert_eq!(read(&recent, 2), 3);
        assert!(recent.fresh("video", Instant::now() + FRESH).is_none());
        recent.keep("video", &Arc::new(4), Instant::now() + FRESH);
        assert_eq!(read(&recent, 5), 4);
    }

    #[test]
    fn what_is_too_old_to_be_used_is_dropped() {
        let (recent, began) = (Recent::<u8>::new(FRESH), Instant::now());
        let at = |count| began + FRESH * count;
        let keep = |name: &str, at| recent.keep(name, &Arc::default(), at);
        let names = || {
            let mut names = recent.with(|all| all.keys().cloned().collect::<Vec<_>>());
            names.sort();
            names
        };
        keep("a", at(0));
        keep("b", at(0));
        recent.learn("b", |_| ());
        recent.with(|all| all.get_mut("b").unwrap().learned_at = Some(at(BELIEVED - 1)));
        keep("c", at(BELIEVED - 1));
        assert_eq!(names(), ["a", "b", "c"], "nobody looked yet");
        keep("d", at(BELIEVED));
        assert_eq!(names(), ["b", "c", "d"], "what was learned or read later may be used still");
        keep("e", at(2 * BELIEVED));
        assert_eq!(names(), ["e"]);
    }

    #[test]
    fn names_are_bounded() {
        let (recent, began) = (Recent::<u8>::new(FRESH), Instant::now());
        for n in 0..MAX_SCOPES + 10 {
            recent.keep(&format!("video@{n}"), &Arc::default(), began);
        }
        assert_eq!(recent.with(|all| all.len()), MAX_SCOPES);
        recent.keep("video", &Arc::default(), began + FRESH);
        assert_eq!(recent.with(|all| all.len()), 1);
    }
}
