//! Results in memory until the gateway fetches them (orchestrator-wire.md section 12), and sources
//! until the worker has fetched them. Both are bounded.

use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

/// One stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its bytes.
    pub data: Bytes,
    /// Its media type.
    pub content_type: &'static str,
}

/// Files by session, folder and name. Everything of a session goes with the session.
#[derive(Debug)]
pub struct Storage {
    inner: Mutex<Inner>,
    capacity_bytes: usize,
    /// Files kept per folder; the oldest makes room.
    files_per_folder: usize,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<String, HashMap<String, VecDeque<(String, StoredFile)>>>,
    /// In the order of storing, to know what goes first when memory is full.
    order: VecDeque<(String, String, String)>,
    bytes: usize,
}

impl Storage {
    /// At most `capacity_bytes` in all, and `files_per_folder` in each folder.
    pub fn new(capacity_bytes: usize, files_per_folder: usize) -> Self {
        Self { inner: Mutex::default(), capacity_bytes, files_per_folder }
    }

    /// Stores a file, making room by dropping the oldest ones. `false` if it can never fit.
    pub fn save(&self, session: &str, folder: &str, name: &str, file: StoredFile) -> bool {
        if file.data.len() > self.capacity_bytes {
            return false;
        }
        let mut inner = self.lock();
        inner.remove(session, folder, name);
        while inner.bytes + file.data.len() > self.capacity_bytes {
            if !inner.drop_oldest() {
                return false;
            }
        }
        inner.bytes += file.data.len();
        inner.order.push_back((session.to_owned(), folder.to_owned(), name.to_owned()));
        let files = inner
            .sessions
            .entry(session.to_owned())
            .or_default()
            .entry(folder.to_owned())
            .or_default();
        files.push_back((name.to_owned(), file));
        let surplus =
            (files.len() > self.files_per_folder).then(|| files.front().map(|f| f.0.clone()));
        if let Some(oldest) = surplus.flatten() {
            inner.remove(session, folder, &oldest);
        }
        true
    }

    /// A stored file.
    pub fn get(&self, session: &str, folder: &str, name: &str) -> Option<StoredFile> {
        let inner = self.lock();
        let files = inner.sessions.get(session)?.get(folder)?;
        files.iter().find(|(n, _)| n == name).map(|(_, file)| file.clone())
    }

    /// Drops one file.
    pub fn remove(&self, session: &str, folder: &str, name: &str) {
        self.lock().remove(session, folder, name);
    }

    /// Drops everything of a session.
    pub fn end_session(&self, session: &str) {
        let mut inner = self.lock();
        let gone = inner.sessions.remove(session).unwrap_or_default();
        inner.bytes -= gone
            .values()
            .flatten()
            .map(|(_, file)| file.data.len())
            .sum::<usize>()
            .min(inner.bytes);
        inner.order.retain(|(s, _, _)| s != session);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic between two plain map operations leaves at worst a file too many.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, session: &str, folder: &str, name: &str) {
        let Some(folders) = self.sessions.get_mut(session) else { return };
        let Some(files) = folders.get_mut(folder) else { return };
        let Some(at) = files.iter().position(|(n, _)| n == name) else { return };
        if let Some((_, file)) = files.remove(at) {
            self.bytes = self.bytes.saturating_sub(file.data.len());
        }
        if files.is_empty() {
            folders.remove(folder);
        }
        if folders.is_empty() {
            self.sessions.remove(session);
        }
        self.order
            .retain(|(s, f, n)| (s.as_str(), f.as_str(), n.as_str()) != (session, folder, name));
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((session, folder, name)) = self.order.front().cloned() else { return false };
        self.remove(&session, &folder, &name);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: usize) -> StoredFile {
        StoredFile { data: Bytes::from(vec![0; size]), content_type: "video/mp2t" }
    }

    #[test]
    fn twelve_a_folder() {
        let storage = Storage::new(1_000, 12);
        for n in 0..13 {
            assert!(storage.save("s", "p", &format!("{n}.ts"), file(1)));
        }
        assert_eq!(storage.get("s", "p", "0.ts"), None);
        assert!(storage.get("s", "p", "1.ts").is_some());
        assert!(storage.get("s", "p", "12.ts").is_some());
        assert_eq!(storage.bytes(), 12);
        assert!(storage.save("s", "q", "0.ts", file(1)), "another folder has its own twelve");
        storage.end_session("s");
        assert_eq!(storage.bytes(), 0);
        assert_eq!(storage.get("s", "p", "12.ts"), None);
    }

    #[test]
    fn memory_is_bounded_over_all_sessions() {
        let storage = Storage::new(100, 12);
        assert!(storage.save("a", "p", "0", file(60)));
        assert!(storage.save("b", "p", "0", file(60)));
        assert_eq!(storage.get("a", "p", "0"), None, "the oldest made room");
        assert_eq!(storage.bytes(), 60);
        assert!(!storage.save("c", "p", "0", file(101)));
        assert!(storage.save("b", "p", "0", file(10)), "replaced, not added");
        assert_eq!(storage.bytes(), 10);
        storage.remove("b", "p", "0");
        assert_eq!(storage.bytes(), 0);
    }
}
