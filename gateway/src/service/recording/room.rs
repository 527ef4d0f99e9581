//! Memory for segments that are being stored. A bucket that never answers keeps what is sent to it for a
//! minute, so no bucket that was named by somebody may have more than a share, nor all of these together more than
//! half: the others, and the operator's own store, go on recording.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use url::Url;

/// KiB of all segments that are being stored; beyond it they are left out.
const ALL_KIB: u64 = 256 * 1024;
/// Of those in stores that others named, and in each of these.
const NAMED_KIB: u64 = ALL_KIB / 2;
const STORE_KIB: u64 = NAMED_KIB / 8;

#[derive(Debug, Default)]
struct Used {
    all: u64,
    named: u64,
    /// By address, those that have any.
    stores: HashMap<String, u64>,
}

/// What there is of it.
#[derive(Debug, Default)]
pub(super) struct Room(Arc<Mutex<Used>>);

/// Whose share it is: of one bucket at the usual provider, whose regions many have buckets in; else of all that
/// is at one server. Not of an address: keys and folders can be made up.
fn holder(address: &str) -> String {
    let Ok(url) = Url::parse(address) else { return address.to_owned() };
    let server = url.host_str().unwrap_or_default();
    let bucket = url.path_segments().and_then(|mut path| path.next()).unwrap_or_default();
    match url.scheme() {
        "s3" => format!("{server}/{bucket}"),
        _ => server.to_owned(),
    }
}

/// A segment's part, free again when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    used: Arc<Mutex<Used>>,
    store: String,
    kib: u64,
}

fn lock(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// Room for so much on its way to this store; the operator's own has no address. A store that has
    /// nothing yet may have one segment, however large.
    pub(super) fn take(&self, store: &str, bytes: usize) -> Option<Taken> {
        let kib = bytes as u64 / 1024 + 1;
        let store = if store.is_empty() { String::new() } else { holder(store) };
        let fits = |used: u64, most: u64| used.checked_add(kib).filter(|sum| *sum <= most);
        let mut used = lock(&self.0);
        let all = fits(used.all, ALL_KIB)?;
        if !store.is_empty() {
            let named = fits(used.named, NAMED_KIB)?;
            let of_store = used.stores.get(&store).copied().unwrap_or_default();
            let most = if of_store == 0 { NAMED_KIB } else { STORE_KIB };
            let of_store = fits(of_store, most)?;
            used.named = named;
            used.stores.insert(store.clone(), of_store);
        }
        used.all = all;
        drop(used);
        Some(Taken { used: Arc::clone(&self.0), store, kib })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        used.all = used.all.saturating_sub(self.kib);
        if self.store.is_empty() {
            return;
        }
        used.named = used.named.saturating_sub(self.kib);
        if let Some(left) = used.stores.get_mut(&self.store) {
            *left = left.saturating_sub(self.kib);
            if *left == 0 {
                used.stores.remove(&self.store);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn fill(room: &Room, store: &str) -> Vec<Taken> {
        std::iter::from_fn(|| room.take(store, MIB)).collect()
    }

    #[test]
    fn a_store_that_takes_nothing_leaves_room_for_the_others() {
        let room = Room::default();
        let tarpit = fill(&room, "s3://key:secret@region/tarpit");
        assert_eq!(tarpit.len(), 15, "a share of 16 MiB");
        assert!(
            room.take("s3://key:secret@region/another", 15 * MIB).is_some(),
            "the others go on"
        );
        // However many there are, the operator's own has the other half.
        let more: Vec<_> = (0..100)
            .map(|n| fill(&room, &format!("s3+https://key:secret@tarpit-{n}.example/bucket")))
            .collect();
        let named: usize = more.iter().map(Vec::len).sum::<usize>() + tarpit.len();
        assert_eq!(named, 127);
        assert!(room.take("s3://key:secret@region/another", MIB).is_none());
        let own = fill(&room, "");
        assert_eq!(own.len(), 128);
        drop(tarpit);
        assert!(
            room.take("", MIB).is_some()
                && room.take("s3://key:secret@region/another", MIB).is_some()
        );
        drop((more, own));
        assert_eq!(
            fill(&room, "").len(),
            255,
            "all of it is the operator's while nobody else needs it"
        );
        let used = lock(&room.0);
        assert_eq!((used.all, used.named, used.stores.len()), (0, 0, 0));
    }

    #[test]
    fn no_share_is_had_twice() {
        let of = |addresses: [&str; 2]| addresses.map(holder);
        let [one, other] = of(["s3://k:s@region/bucket/a", "s3://k2:s2@region/bucket/b"]);
        assert_eq!((one.as_str(), one == other), ("region/bucket", true));
        let [one, other] = of(["s3://k:s@region/a", "s3://k:s@region/b"]);
        assert_ne!(one, other);
        let [one, other] = of(["s3+https://k:s@s.example:9000/a", "s3+https://k2:s@s.example/b"]);
        assert_eq!((one.as_str(), one == other), ("s.example", true));
        assert_eq!(holder("?"), "?");
    }

    #[test]
    fn one_large_segment_is_not_refused() {
        let room = Room::default();
        let large = room.take("s3://key:secret@region/a", 100 * MIB).unwrap();
        assert!(room.take("s3://key:secret@region/a", MIB).is_none(), "one");
        drop(large);
        assert!(room.take("s3://key:secret@region/a", 200 * MIB).is_none());
        assert!(room.take("", 300 * MIB).is_none());
    }
}
