//! What many viewers ask for at about the same time: made once for all who ask, kept for a while in
//! bounded memory, and only so many made at a time. Watching is open to strangers, so that a request
//! must not cost the whole work each time.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

/// Things kept or in the making, at most.
const MOST: usize = 512;
/// The part of all memory that one thing may take; larger ones are only shared while they are made.
const SHARE: usize = 4;

/// One of so many things in the making.
pub type Place = Arc<OwnedSemaphorePermit>;

/// Why there is nothing.
#[derive(Debug)]
enum Not<E> {
    There,
    Made(E),
}

#[derive(Debug)]
struct Entry<V> {
    made: Arc<OnceCell<V>>,
    /// 0 as long as it is in the making.
    bytes: usize,
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
            self.bytes -= gone.bytes;
            self.order.retain(|k| k != key);
        }
    }

    fn shrink(&mut self, most_bytes: usize) {
        while self.order.len() > MOST || self.bytes > most_bytes {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.bytes -= gone.bytes;
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

impl<K: Hash + Eq + Clone, V: Clone> Kept<K, V> {
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
    pub async fn get<E, F>(&self, key: &K, make: impl FnOnce(Place) -> F) -> Result<Option<V>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        let cell = self.entry(key);
        let value = cell.get_or_try_init(|| async {
            // It is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return Err(Not::There);
            };
            let place = Arc::new(place);
            self.made.fetch_add(1, Ordering::Relaxed);
            let made = make(Arc::clone(&place)).await;
            drop(place);
            made.map_err(Not::Made)?.ok_or(Not::There)
        });
        match value.await {
            Ok(value) => {
                self.note(key, &cell, (self.size)(value).max(1));
                Ok(Some(value.clone()))
            }
            Err(Not::There) => Ok(None),
            Err(Not::Made(error)) => Err(error),
        }
    }

    /// How many were made so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn entry(&self, key: &K) -> Arc<OnceCell<V>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = inner.entries.get(key) {
            return Arc::clone(&entry.made);
        }
        let made = Arc::new(OnceCell::new());
        inner.entries.insert(key.clone(), Entry { made: Arc::clone(&made), bytes: 0 });
        inner.order.push_back(key.clone());
        inner.shrink(self.most_bytes);
        made
    }

    /// Counts what was made, if it is still the one under this name.
    fn note(&self, key: &K, cell: &Arc<OnceCell<V>>, bytes: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = inner.entries.get_mut(key) else { return };
        if entry.bytes > 0 || !Arc::ptr_eq(&entry.made, cell) {
            return;
        }
        if bytes > self.most_bytes / SHARE {
            inner.remove(key);
            return;
        }
        entry.bytes = bytes;
        inner.bytes += bytes;
        inner.shrink(self.most_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, future::join_all};
    use std::convert::Infallible;
    use tokio::sync::Notify;

    type Made = Result<Option<Vec<u8>>, Infallible>;

    fn kept(places: usize) -> Kept<u32, Vec<u8>> {
        Kept::new(100, places, Vec::len)
    }

    async fn get(kept: &Kept<u32, Vec<u8>>, key: u32, bytes: usize) -> Option<Vec<u8>> {
        let made: Made = kept.get(&key, |_| async { Ok(Some(vec![0; bytes])) }).await;
        made.unwrap()
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
        assert!(all.await.into_iter().all(|got| got == Some(vec![7])));
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
        let failed = kept.get(&5_002, |_| async { Err("no") }).await;
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
}
