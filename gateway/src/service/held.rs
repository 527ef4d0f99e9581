//! A record that one task holds and writes again and again by compare-and-swap: a key's request, an
//! asynchronous job, a publication. A write whose answer is lost may have been applied all the same, or
//! count for nothing because no replica has it; its version is then one that nobody here knows. So
//! whoever loses a swap looks at what is there, and goes on from it if it is its own.

use crate::clock;
use bytes::Bytes;
use penstock_store::{Cas, DocKey, DocStore, StoreError, Version};

/// The record, as its holder last knew it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub key: DocKey,
    /// The newest version that is known to be ours.
    pub version: Version,
}

impl Held {
    /// Writes, for `ttl_ms`. `false`: it is somebody else's by now. `ours` says of a stored record
    /// whether this holder wrote it; the very bytes that are to be written always are. A record that is
    /// gone is nobody's and is made again.
    pub async fn write(
        &mut self,
        store: &dyn DocStore,
        value: &Bytes,
        ttl_ms: u64,
        ours: impl Fn(&Bytes) -> bool + Send + Sync,
    ) -> Result<bool, StoreError> {
        let mut expected = Some(self.version);
        loop {
            let put = store.put_doc(&self.key, expected, value.clone(), ttl_ms, clock::now());
            expected = match put.await? {
                Cas::Stored(version) => {
                    self.version = version;
                    return Ok(true);
                }
                Cas::Conflict(None) => None,
                Cas::Conflict(Some(other)) if other.value == *value || ours(&other.value) => {
                    Some(other.version)
                }
                Cas::Conflict(Some(_)) => return Ok(false),
            };
        }
    }
}

/// Removes a record if it is ours, whichever version of it is there.
pub async fn remove_ours(
    store: &dyn DocStore,
    key: &DocKey,
    ours: impl Fn(&Bytes) -> bool + Send + Sync,
) -> Result<(), StoreError> {
    let now = clock::now();
    while let Some(found) = store.doc(key, now).await?
        && ours(&found.value)
    {
        if store.remove_doc(key, found.version, now).await? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use async_trait::async_trait;
    use penstock_store::{MemoryStore, UnixMs, Versioned};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A store that does what it is told, and says so many times that it cannot be reached.
    #[derive(Debug, Default)]
    pub struct Mumbling {
        pub inner: MemoryStore,
        pub lose: AtomicU32,
    }

    impl Mumbling {
        fn lost(&self) -> Result<(), StoreError> {
            let less = |n: u32| n.checked_sub(1);
            match self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                Ok(_) => Err(StoreError::Unavailable("no answer".to_owned())),
                Err(_) => Ok(()),
            }
        }
    }

    #[async_trait]
    impl DocStore for Mumbling {
        async fn doc(
            &self,
            key: &DocKey,
            now: UnixMs,
        ) -> Result<Option<Versioned<Bytes>>, StoreError> {
            self.inner.doc(key, now).await
        }

        async fn put_doc(
            &self,
            key: &DocKey,
            expected: Option<Version>,
            value: Bytes,
            ttl_ms: u64,
            now: UnixMs,
        ) -> Result<Cas<Bytes>, StoreError> {
            let put = self.inner.put_doc(key, expected, value, ttl_ms, now).await;
            self.lost()?;
            put
        }

        async fn remove_doc(
            &self,
            key: &DocKey,
            expected: Version,
            now: UnixMs,
        ) -> Result<bool, StoreError> {
            let removed = self.inner.remove_doc(key, expected, now).await;
            self.lost()?;
            removed
        }
    }

    /// Has a record made, as `owner`.
    pub async fn hold(store: &Mumbling, key: DocKey, value: Bytes) -> Held {
        let put = store.inner.put_doc(&key, None, value, 60_000, clock::now()).await.unwrap();
        let Cas::Stored(version) = put else { panic!("{put:?}") };
        Held { key, version }
    }

    pub async fn stored(store: &Mumbling, key: &DocKey) -> Option<Bytes> {
        store.inner.doc(key, clock::now()).await.unwrap().map(|found| found.value)
    }

    fn text(s: &'static str) -> Bytes {
        Bytes::from_static(s.as_bytes())
    }

    fn mine(value: &Bytes) -> bool {
        value.starts_with(b"me")
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_ones_own() {
        let store = Mumbling::default();
        let key = DocKey::new("idem", "k");
        let mut held = hold(&store, key.clone(), text("me 1")).await;
        for value in ["me 2", "end"] {
            store.lose.store(1, Ordering::SeqCst);
            assert!(held.write(&store, &text(value), 60_000, mine).await.is_err());
            // Again with the version from before it.
            assert_eq!(held.write(&store, &text(value), 60_000, mine).await, Ok(true));
            assert_eq!(stored(&store, &key).await, Some(text(value)));
        }
        store.lose.store(1, Ordering::SeqCst);
        assert!(held.write(&store, &text("me 3"), 60_000, mine).await.is_err());
        remove_ours(&store, &key, mine).await.unwrap();
        assert_eq!(stored(&store, &key).await, None);
    }

    #[tokio::test]
    async fn what_is_anothers_stays_so() {
        let store = Mumbling::default();
        let key = DocKey::new("idem", "k");
        let mut held = hold(&store, key.clone(), text("me 1")).await;
        let mut other = held.clone();
        assert_eq!(other.write(&store, &text("you 1"), 60_000, |_| false).await, Ok(true));
        assert_eq!(held.write(&store, &text("me 2"), 60_000, mine).await, Ok(false));
        remove_ours(&store, &key, mine).await.unwrap();
        assert_eq!(stored(&store, &key).await, Some(text("you 1")));
        // One that the store has forgotten is made again.
        remove_ours(&store, &key, |_| true).await.unwrap();
        assert_eq!(held.write(&store, &text("me 3"), 60_000, mine).await, Ok(true));
        assert_eq!(stored(&store, &key).await, Some(text("me 3")));
    }
}
