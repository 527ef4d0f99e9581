//! What many viewers ask for at about the same time: made once for all who ask, kept for a while in
//! bounded memory, and only so many made at a time. Watching is open to strangers, so that a request
//! must not cost the whole work each time. What is too large to be kept is shared for as long as somebody
//! has it in hand: a hundred slow viewers of one file hold it once.

use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// Things kept or in the making, at most.
const MOST: usize = 512;
/// The part of all memory that one thing may take; larger ones are not kept, only shared.
const SHARE: usize = 4;

/// One of so many things in the making.
pub type Place = Arc<OwnedSemaphorePermit>;

/// Why there is nothing.
#[derive(Debug)]
enum Not<E> {
    There,
    Made(E),
}

/// Where one thing is made, for all who wait for it.
type Making<V> = Arc<OnceCell<Arc<V>>>;

#[derive(Debug)]
enum Entry<V> {
    /// Made, or in the making; bytes are 0 until it is.
    Kept { made: Making<V>, bytes: usize },
    /// Too large: there for as long as somebody has it.
    Lent(Weak<V>),
}

impl<V> Entry<V> {
    fn bytes(&self) -> usize {
        match self {
            Self::Kept { bytes, .. } => *bytes,
            Self::Lent(_) => 0,
        }
    }
}

/// What is under a name.
enum Known<V> {
    Made(Arc<V>),
    Making(Making<V>),
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// The oldest leaves first: a live window moves on.
    order: VecDeque<K>,
    bytes: usize,
}

impl<K: Hash + Eq, V> Inner<K, V> {
    fn remove(&mut self, key: &K) {
        if let Some(gone) = self.entries.remove(key) {
            self.bytes -= gone.bytes();
            self.order.retain(|k| k != key);
        }
    }

    fn shrink(&mut self, most_bytes: usize) {
        while self.order.len() > MOST || self.bytes > most_bytes {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.bytes -= gone.bytes();
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Kept<K, V> {
    size: fn(&V) -> usize,
    most_bytes: usize,
    places: Arc<Semaphore>,
    inner: Mutex<Inner<K, V>>,
    made: AtomicU64,
}

impl<K: Hash + Eq + Clone, V> Kept<K, V> {
    /// Keeps so many bytes, as `size` counts them, and makes so many things at a time.
    pub fn new(most_bytes: usize, places: usize, size: fn(&V) -> usize) -> Self {
        let inner = Inner { entries: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Self {
            size,
            most_bytes,
            places: Arc::new(Semaphore::new(places)),
            inner: Mutex::new(inner),
            made: AtomicU64::new(0),
        }
    }

    /// What is kept under a name, or made now. A making that goes on when nobody waits for it any more
    /// keeps the place that it gets until it is done.
    pub async fn get<E, F>(
        &self,
        key: &K,
        make: impl FnOnce(Place) -> F,
    ) -> Result<Option<Arc<V>>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        self.get_fresh(key, |_| true, make).await
    }

    /// The same; what is there and not fresh any more is made anew.
    pub async fn get_fresh<E, F>(
        &self,
        key: &K,
        is_fresh: impl Fn(&V) -> bool,
        make: impl FnOnce(Place) -> F,
    ) -> Result<Option<Arc<V>>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        let cell = match self.entry(key, is_fresh) {
            Known::Made(value) => return Ok(Some(value)),
            Known::Making(cell) => cell,
        };
        let value = cell.get_or_try_init(|| async {
            // It is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return Err(Not::There);
            };
            let place = Arc::new(place);
            self.made.fetch_add(1, Ordering::Relaxed);
            let made = make(Arc::clone(&place)).await;
            drop(place);
            made.map_err(Not::Made)?.map(Arc::new).ok_or(Not::There)
        });
        match value.await {
            Ok(value) => {
                self.note(key, &cell, value);
                Ok(Some(Arc::clone(value)))
            }
            Err(Not::There) => Ok(None),
            Err(Not::Made(error)) => Err(error),
        }
    }

    /// Whoever asks next has it made anew; who is waiting gets what is in the making.
    pub fn forget(&self, key: &K) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// How many were made so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn entry(&self, key: &K, is_fresh: impl Fn(&V) -> bool) -> Known<V> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let known = inner.entries.get(key).and_then(|entry| match entry {
            Entry::Kept { made, .. } => match made.get() {
                Some(value) => is_fresh(value).then(|| Known::Made(Arc::clone(value))),
                None => Some(Known::Making(Arc::clone(made))),
            },
            Entry::Lent(value) => value.upgrade().filter(|v| is_fresh(v)).map(Known::Made),
        });
        if let Some(known) = known {
            return known;
        }
        inner.remove(key);
        let made = Making::default();
        inner.entries.insert(key.clone(), Entry::Kept { made: Arc::clone(&made), bytes: 0 });
        inner.order.push_back(key.clone());
        inner.shrink(self.most_bytes);
        Known::Making(made)
    }

    /// Counts what was made, if it is still the one under this name.
    fn note(&self, key: &K, cell: &Making<V>, value: &Arc<V>) {
        let size = (self.size)(value).max(1);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = inner.entries.get_mut(key) else { return };
        match entry {
            Entry::Kept { made, bytes } if *bytes == 0 && Arc::ptr_eq(made, cell) => {
                if size > self.most_bytes / SHARE {
                    *entry = Entry::Lent(Arc::downgrade(value));
                    return;
                }
                *bytes = size;
            }
            _ => return,
        }
        inner.bytes += size;
        inner.shrink(self.most_bytes);
    }
}

/// The bytes of something shared: who has them, or a part of them, has it in hand.
pub fn bytes_of<V: AsRef<[u8]> + Send + Sync + 'static>(shared: Arc<V>) -> Bytes {
    struct Shared<V>(Arc<V>);
    impl<V: AsRef<[u8]>> AsRef<[u8]> for Shared<V> {
        fn as_ref(&self) -> &[u8] {
            (*self.0).as_ref()
        }
    }
    Bytes::from_owner(Shared(shared))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::join_all};
    use std::convert::Infallible;
    use tokio::sync::Notify;

    type Made = Result<Option<Arc<Vec<u8>>>, Infallible>;

    fn kept(places: usize) -> Kept<u32, Vec<u8>> {
        Kept::new(100, places, Vec::len)
    }

    async fn get(kept: &Kept<u32, Vec<u8>>, key: u32, bytes: usize) -> Option<Vec<u8>> {
        let made: Made = kept.get(&key, |_| async { Ok(Some(vec![0; bytes])) }).await;
        made.unwrap().map(|made| made.to_vec())
    }

    #[tokio::test]
    async fn many_who_ask_are_served_by_one() {
        let (kept, gate) = (kept(5), Notify::new());
        let ask = || async {
            let made: Made = kept
                .get(&1, |_| async {
                    gate.notified().await;
                    Ok(Some(vec![7]))
                })
                .await;
            made.unwrap()
        };
        let all = join_all((0..10).map(|_| ask()));
        let mut all = Box::pin(all);
        assert!(all.as_mut().now_or_never().is_none());
        gate.notify_one();
        assert!(all.await.into_iter().all(|got| got == Some(Arc::new(vec![7]))));
        assert_eq!(get(&kept, 1, 9).await, Some(vec![7]), "kept");
        assert_eq!(kept.made(), 1);
    }

    #[tokio::test]
    async fn only_so_many_are_made_at_a_time() {
        let (kept, gate) = (kept(2), Notify::new());
        let ask = |key: u32| {
            let (kept, gate) = (&kept, &gate);
            async move {
                let made: Made = kept
                    .get(&key, |_| async {
                        gate.notified().await;
                        Ok(Some(vec![0]))
                    })
                    .await;
                made.unwrap()
            }
        };
        let mut all = Box::pin(join_all((0..10).map(ask)));
        assert!(all.as_mut().now_or_never().is_none());
        assert_eq!(kept.made(), 2);
        gate.notify_one();
        assert!(all.as_mut().now_or_never().is_none());
        assert_eq!(kept.made(), 3);
        // Who is gone makes room for others, and leaves nothing that they would wait for.
        drop(all);
        assert_eq!(get(&kept, 9, 1).await, Some(vec![0]));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let kept = kept(1);
        for key in 0..2_000 {
            assert!(get(&kept, key, 20).await.is_some());
        }
        assert_eq!(kept.inner.lock().unwrap().bytes, 100);
        assert_eq!(kept.inner.lock().unwrap().entries.len(), 5);
        get(&kept, 1_999, 20).await;
        assert_eq!(kept.made(), 2_000, "the newest are kept");
        // Too large to be kept, nothing at all, and a failure.
        assert_eq!(get(&kept, 5_000, 26).await.map(|v| v.len()), Some(26));
        let nothing: Made = kept.get(&5_001, |_| async { Ok(None) }).await;
        assert_eq!(nothing.unwrap(), None);
        let failed: Result<_, &str> = kept.get(&5_002, |_| async { Err("no") }).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(get(&kept, 5_002, 1).await, Some(vec![0]));
        assert_eq!(kept.inner.lock().unwrap().bytes, 81);
        // Names alone are bounded too.
        for key in 10_000..12_000 {
            let _: Made = kept.get(&key, |_| async { Ok(None) }).await;
        }
        let inner = kept.inner.lock().unwrap();
        assert!(inner.entries.len() <= MOST && inner.order.len() == inner.entries.len());
    }

    /// Slow viewers have it in hand for long; a part of its bytes is enough.
    #[tokio::test]
    async fn what_is_too_large_to_be_kept_is_shared_while_somebody_has_it() {
        let kept = kept(1);
        let fetch = || async {
            let made: Made = kept.get(&1, |_| async { Ok(Some(vec![7; 26])) }).await;
            bytes_of(made.unwrap().unwrap())
        };
        let slow = fetch().await.slice(20..);
        let other = fetch().await;
        assert_eq!((kept.made(), kept.inner.lock().unwrap().bytes), (1, 0));
        assert_eq!(slow.as_ptr(), other.slice(20..).as_ptr(), "the same memory");
        drop(other);
        fetch().await;
        assert_eq!(kept.made(), 1);
        drop(slow);
        fetch().await;
        assert_eq!(kept.made(), 2, "nobody had it");
    }

    #[tokio::test]
    async fn what_is_not_fresh_or_forgotten_is_made_anew() {
        let kept = kept(1);
        let ask = async |fresh: bool| {
            let make = |_| async { Ok(Some(vec![0; 20])) };
            let made: Made = kept.get_fresh(&1, |_| fresh, make).await;
            made.unwrap();
        };
        for (fresh, made) in [(true, 1), (true, 1), (false, 2), (true, 2)] {
            ask(fresh).await;
            assert_eq!(kept.made(), made);
        }
        kept.forget(&1);
        ask(true).await;
        assert_eq!((kept.made(), kept.inner.lock().unwrap().bytes), (3, 20));
    }
}
