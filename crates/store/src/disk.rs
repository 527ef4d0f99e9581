//! Media bytes as files: one file a key, written under another name first and then moved, so that
//! nobody reads half of one. Bounded in bytes; what is over goes with a sweep.
//!
//! Replicas on a shared file system see each other's files: reading looks at the file itself, and a
//! sweep counts what others wrote. Each replica keeps the bound by what its last sweep saw and what
//! it wrote since, so together they may be above it by what they write between two sweeps.

use crate::{SegmentKey, SegmentStore, StoreError, StoredSegment, UnixMs, names};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_domain::SegmentFormat;
use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Begins every file: what, and which version of it.
const MAGIC: &[u8; 8] = b"PENSEG1\n";
/// Magic, end in 16 digits, format, length in 16 digits.
const HEAD: usize = 41;
/// Most files: more than any live window needs, little enough to hold their names in memory.
const MOST_FILES: usize = 1_000_000;
/// How often the folder is looked through.
const SWEEP_MS: u64 = 60_000;
/// A half-written file so old belongs to nobody.
const LEFT_BEHIND_MS: u64 = 600_000;

/// See the module.
#[derive(Debug, Clone)]
pub struct DiskSegments {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    max_bytes: u64,
    known: Mutex<Known>,
    written: AtomicU64,
    /// Names this process's half-written files.
    process: String,
}

/// The files as far as this process knows.
#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<String, (UnixMs, u64)>,
    by_expiry: BTreeSet<(UnixMs, String)>,
    bytes: u64,
    swept_at: UnixMs,
}

impl Known {
    fn add(&mut self, name: String, ends: UnixMs, len: u64) {
        self.forget(&name);
        self.bytes = self.bytes.saturating_add(len);
        self.by_expiry.insert((ends, name.clone()));
        self.by_name.insert(name, (ends, len));
    }

    fn forget(&mut self, name: &str) {
        if let Some((ends, len)) = self.by_name.remove(name) {
            self.bytes = self.bytes.saturating_sub(len);
            self.by_expiry.remove(&(ends, name.to_owned()));
        }
    }

    /// The next file to go: over, or in the way of `len` more bytes.
    fn next_to_go(&self, now: UnixMs, len: u64, max_bytes: u64) -> Option<String> {
        let (ends, name) = self.by_expiry.first()?;
        let full = self.bytes.saturating_add(len) > max_bytes || self.by_name.len() >= MOST_FILES;
        (*ends <= now || full).then(|| name.clone())
    }
}

fn unavailable(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::Full("the segment store's disk")
        }
        _ => StoreError::Unavailable(format!("segment files: {error}")),
    }
}

impl DiskSegments {
    /// In a folder, which is made if needed and belongs to the store alone. At most `max_bytes`.
    pub async fn open(root: &Path, max_bytes: usize, now: UnixMs) -> Result<Self, StoreError> {
        let inner = Arc::new(Inner {
            root: root.to_owned(),
            max_bytes: max_bytes as u64,
            known: Mutex::default(),
            written: AtomicU64::new(0),
            process: format!("{:016x}", rand::random::<u64>()),
        });
        let store = Self { inner };
        store.blocking(move |inner| inner.sweep(now)).await?;
        Ok(store)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|e| StoreError::Unavailable(e.to_string()))?.map_err(unavailable)
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashed, so that no name is too long, none leads elsewhere, and none differs from another by
    /// the case of its letters only; in 256 folders.
    fn name(key: &SegmentKey) -> String {
        names::hashed(&key.0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.get(..2).unwrap_or_default()).join(name)
    }

    fn remove_file(&self, name: &str) -> std::io::Result<()> {
        self.known().forget(name);
        gone_is_fine(std::fs::remove_file(self.path(name)))
    }

    fn make_room(&self, now: UnixMs, len: u64) -> std::io::Result<()> {
        loop {
            let next = self.known().next_to_go(now, len, self.max_bytes);
            let Some(next) = next else { return Ok(()) };
            self.remove_file(&next)?;
        }
    }

    /// Looks at every file: removes what is over or left behind, counts the rest.
    fn sweep(&self, now: UnixMs) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.root)?;
        let mut seen = Known { swept_at: now, ..Known::default() };
        for folder in std::fs::read_dir(&self.root)? {
            let folder = folder?;
            let is_ours = folder.file_name().to_str().is_some_and(|n| n.len() == 2);
            if !is_ours || !folder.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let file = file?;
                let Ok(name) = file.file_name().into_string() else { continue };
                let Ok(meta) = file.metadata() else { continue };
                if name.len() != 32 {
                    let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
                    if age.is_some_and(|age| age.as_millis() as u64 > LEFT_BEHIND_MS) {
                        gone_is_fine(std::fs::remove_file(file.path()))?;
                    }
                    continue;
                }
                match read_head(&file.path()) {
                    Ok(Some(head)) if head.ends > now => seen.add(name, head.ends, meta.len()),
                    // Not whole: the machine stopped before it was on the disk.
                    Ok(_) => gone_is_fine(std::fs::remove_file(file.path()))?,
                    Err(_) => {}
                }
            }
        }
        *self.known() = seen;
        Ok(())
    }

    fn put(
        &self,
        key: &SegmentKey,
        segment: &StoredSegment,
        ends: UnixMs,
        now: UnixMs,
    ) -> std::io::Result<()> {
        if now.since_ms(self.known().swept_at) >= SWEEP_MS {
            self.sweep(now)?;
        }
        let name = Self::name(key);
        let len = (HEAD + segment.data.len()) as u64;
        // What is replaced makes room as well.
        self.known().forget(&name);
        self.make_room(now, len)?;
        let path = self.path(&name);
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let half = path.with_extension(format!("{}-{count}", self.process));
        let written = (|| {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = std::fs::File::create_new(&half)?;
            file.write_all(&head(segment, ends))?;
            file.write_all(&segment.data)?;
            drop(file);
            std::fs::rename(&half, &path)
        })();
        if let Err(error) = written {
            let _ = std::fs::remove_file(&half);
            return Err(error);
        }
        self.known().add(name, ends, len);
        Ok(())
    }
}

fn gone_is_fine(done: std::io::Result<()>) -> std::io::Result<()> {
    match done {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

struct Head {
    ends: UnixMs,
    format: SegmentFormat,
    len: u64,
}

fn head(segment: &StoredSegment, ends: UnixMs) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    let format = match segment.format {
        SegmentFormat::MpegTs => 't',
        SegmentFormat::Mp4 => 'm',
    };
    // Sixteen digits are 300,000 years.
    let ends = ends.0.min(9_999_999_999_999_999);
    head.extend(format!("{ends:016}{format}{:016}", segment.data.len()).bytes());
    head
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let rest = std::str::from_utf8(bytes.strip_prefix(MAGIC)?).ok()?;
    let format = match rest.get(16..17)? {
        "t" => SegmentFormat::MpegTs,
        "m" => SegmentFormat::Mp4,
        _ => return None,
    };
    Some(Head {
        ends: UnixMs(rest.get(..16)?.parse().ok()?),
        format,
        len: rest.get(17..33)?.parse().ok()?,
    })
}

/// The head of a file whose length is as it says; `None` for any other.
fn read_head(path: &Path) -> std::io::Result<Option<Head>> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = [0; HEAD];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let len = file.metadata()?.len();
    Ok(parse_head(&bytes).filter(|head| head.len.checked_add(HEAD as u64) == Some(len)))
}

fn read(path: &Path, now: UnixMs) -> std::io::Result<Option<StoredSegment>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => Bytes::from(other?),
    };
    let Some(head) = bytes.get(..HEAD).and_then(parse_head) else { return Ok(None) };
    let data = bytes.slice(HEAD..);
    let whole = head.len == data.len() as u64;
    Ok((whole && head.ends > now).then_some(StoredSegment { data, format: head.format }))
}

#[async_trait]
impl SegmentStore for DiskSegments {
    async fn put(
        &self,
        key: &SegmentKey,
        segment: StoredSegment,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let most = self.inner.max_bytes.saturating_sub(HEAD as u64);
        if segment.data.len() as u64 > most {
            let limit_bytes = usize::try_from(most).unwrap_or(usize::MAX);
            return Err(StoreError::TooLarge { what: crate::SEGMENT, limit_bytes });
        }
        let key = key.clone();
        self.blocking(move |inner| inner.put(&key, &segment, now.plus_ms(ttl_ms), now)).await
    }

    async fn get(
        &self,
        key: &SegmentKey,
        now: UnixMs,
    ) -> Result<Option<StoredSegment>, StoreError> {
        let name = Inner::name(key);
        self.blocking(move |inner| read(&inner.path(&name), now)).await
    }

    async fn remove(&self, key: &SegmentKey, now: UnixMs) -> Result<bool, StoreError> {
        let name = Inner::name(key);
        self.blocking(move |inner| {
            let live = match read_head(&inner.path(&name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                other => other?.is_some_and(|head| head.ends > now),
            };
            inner.remove_file(&name)?;
            Ok(live)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.blocking(|inner| std::fs::metadata(&inner.root).map(drop)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(len: usize) -> StoredSegment {
        StoredSegment { data: vec![7; len].into(), format: SegmentFormat::Mp4 }
    }

    fn files(root: &Path) -> usize {
        std::fs::read_dir(root)
            .unwrap()
            .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
            .sum()
    }

    #[tokio::test]
    async fn a_second_process_sees_it_and_a_half_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (key, now) = (SegmentKey("../../etc/passwd".into()), UnixMs(1_000));
        let open = || DiskSegments::open(folder.path(), 10_000, now);
        let (a, b) = (open().await.unwrap(), open().await.unwrap());
        a.put(&key, segment(100), 1_000, now).await.unwrap();
        assert_eq!(b.get(&key, now).await.unwrap(), Some(segment(100)));
        assert_eq!(open().await.unwrap().inner.known().bytes, 141);
        let path = a.inner.path(&Inner::name(&key));
        assert!(path.starts_with(folder.path()));
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(120).unwrap();
        assert_eq!(a.get(&key, now).await.unwrap(), None);
        assert_eq!(open().await.unwrap().inner.known().bytes, 0);
        assert_eq!(files(folder.path()), 0, "a sweep clears it away");
    }

    #[tokio::test]
    async fn a_sweep_removes_what_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskSegments::open(folder.path(), 10_000, UnixMs(0)).await.unwrap();
        for n in 0..10u64 {
            let key = SegmentKey(n.to_string());
            store.put(&key, segment(10), 1_000 + n, UnixMs(0)).await.unwrap();
        }
        assert_eq!(files(folder.path()), 10);
        store.put(&SegmentKey("x".into()), segment(10), 1_000, UnixMs(1_005)).await.unwrap();
        assert_eq!(files(folder.path()), 5);
        // Another process would find these, too, after a minute.
        let other = DiskSegments::open(folder.path(), 10_000, UnixMs(SWEEP_MS)).await.unwrap();
        assert_eq!((files(folder.path()), other.inner.known().by_name.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = DiskSegments::open(file.path(), 1, UnixMs(0)).await;
        assert!(matches!(opened, Err(StoreError::Unavailable(_))));
    }
}
