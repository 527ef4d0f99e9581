//! Tasks under way: a number that a worker sends back with its result.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Tasks that wait for a result of type `T`.
pub struct Tasks<T> {
    inner: Arc<Mutex<Inner<T>>>,
}

struct Inner<T> {
    next: i64,
    waiting: HashMap<i64, Waiting<T>>,
}

struct Waiting<T> {
    sender: oneshot::Sender<T>,
    forgotten: CancellationToken,
}

/// One task; it is forgotten when this is dropped, so a late result finds nobody.
pub struct Task<T> {
    id: i64,
    result: oneshot::Receiver<T>,
    inner: Arc<Mutex<Inner<T>>>,
    _forgotten: DropGuard,
}

impl<T> Tasks<T> {
    /// `first` should differ from start to start: the reference counts from 0, and a result that
    /// arrives after a restart then answers another task.
    pub fn new(first: i64) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { next: first, waiting: HashMap::new() })) }
    }

    /// A new task.
    pub fn open(&self) -> Task<T> {
        let (sender, result) = oneshot::channel();
        let forgotten = CancellationToken::new();
        let mut inner = lock(&self.inner);
        let id = inner.next;
        inner.next = id.checked_add(1).unwrap_or(0);
        inner.waiting.insert(id, Waiting { sender, forgotten: forgotten.clone() });
        let _forgotten = forgotten.drop_guard();
        Task { id, result, inner: Arc::clone(&self.inner), _forgotten }
    }

    /// Hands in a result; `false` if nobody waits for it (any more).
    pub fn finish(&self, id: i64, result: T) -> bool {
        let waiting = lock(&self.inner).waiting.remove(&id);
        waiting.is_some_and(|waiting| waiting.sender.send(result).is_ok())
    }

    /// Whether somebody waits for this task.
    pub fn is_open(&self, id: i64) -> bool {
        lock(&self.inner).waiting.contains_key(&id)
    }

    /// Cancelled when nobody waits for this task any more, for whatever reason; `None`: nobody does.
    pub fn forgotten(&self, id: i64) -> Option<CancellationToken> {
        lock(&self.inner).waiting.get(&id).map(|waiting| waiting.forgotten.clone())
    }
}

impl<T> Task<T> {
    /// Its number.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Waits for the result. `None` cannot happen while this task is registered.
    pub async fn result(&mut self) -> Option<T> {
        (&mut self.result).await.ok()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        lock(&self.inner).waiting.remove(&self.id);
    }
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> std::sync::MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_find_their_task_once() {
        let tasks = Tasks::new(7);
        let (mut a, b) = (tasks.open(), tasks.open());
        assert_eq!((a.id(), b.id()), (7, 8));
        assert!(tasks.is_open(8));
        assert!(tasks.finish(7, "seven"));
        assert!(!tasks.finish(7, "again"));
        let forgotten = tasks.forgotten(8).unwrap();
        assert!(!forgotten.is_cancelled() && tasks.forgotten(7).is_none());
        assert_eq!(a.result().await, Some("seven"));
        drop(b);
        assert!(forgotten.is_cancelled());
        assert!(!tasks.finish(8, "late"));
        assert!(!tasks.is_open(8));
    }
}
