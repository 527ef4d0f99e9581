//! Segments of one session run one after the other, and only so many wait
//! (video-transcode-worker.md section 5); sessions run side by side up to the worker's capacity.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// The session's queue is full; the text is the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("TranscoderBusy")]
pub struct Busy;

/// Who may run when.
#[derive(Debug)]
pub struct Sessions {
    running: Arc<Semaphore>,
    by_id: Arc<Mutex<BTreeMap<String, Session>>>,
    /// Segments of one session at once.
    most: usize,
}

#[derive(Debug, Default)]
struct Session {
    turn: Arc<tokio::sync::Mutex<()>>,
    present: usize,
}

/// A place in a session's queue; [`Place::turn`] waits for its turn.
#[derive(Debug)]
pub struct Place {
    id: String,
    turn: Arc<tokio::sync::Mutex<()>>,
    running: Arc<Semaphore>,
    by_id: Arc<Mutex<BTreeMap<String, Session>>>,
}

/// The right to run now.
#[derive(Debug)]
pub struct Turn {
    _session: OwnedMutexGuard<()>,
    _slot: Option<OwnedSemaphorePermit>,
    _place: Place,
}

impl Sessions {
    /// At most `capacity` segments run at once; at most `most` of one session are here, the one that runs included.
    pub fn new(capacity: usize, most: usize) -> Self {
        Self { running: Arc::new(Semaphore::new(capacity)), by_id: Arc::default(), most }
    }

    /// Takes a place in the session's queue, in the order of the calls.
    pub fn enter(&self, session_id: &str) -> Result<Place, Busy> {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        let session = by_id.entry(session_id.to_owned()).or_default();
        if session.present >= self.most {
            return Err(Busy);
        }
        session.present += 1;
        Ok(Place {
            id: session_id.to_owned(),
            turn: session.turn.clone(),
            running: self.running.clone(),
            by_id: self.by_id.clone(),
        })
    }

    /// Sessions with a segment in them.
    pub fn count(&self) -> usize {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Place {
    /// Waits until the session's earlier segments are done and a slot is free.
    pub async fn turn(self) -> Turn {
        let session = self.turn.clone().lock_owned().await;
        // The semaphore is never closed, so the permit is always there.
        let slot = self.running.clone().acquire_owned().await.ok();
        Turn { _session: session, _slot: slot, _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_id = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = by_id.get_mut(&self.id) {
            session.present -= 1;
            if session.present == 0 {
                by_id.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: usize = 5;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_after_the_other_in_a_session() {
        let sessions = Sessions::new(10, QUEUE);
        let first = sessions.enter("a").unwrap().turn().await;
        let mut second = Box::pin(sessions.enter("a").unwrap().turn());
        assert!(second.as_mut().now_or_never().is_none());
        // Another session does not wait.
        let other = sessions.enter("b").unwrap().turn().now_or_never().unwrap();
        drop(first);
        let second = second.await;
        drop((second, other));
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test]
    async fn capacity_is_over_all_sessions() {
        let sessions = Sessions::new(1, QUEUE);
        let first = sessions.enter("a").unwrap().turn().await;
        let mut second = Box::pin(sessions.enter("b").unwrap().turn());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        drop(second.await);
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy() {
        let sessions = Sessions::new(1, QUEUE);
        let places: Vec<_> = (0..QUEUE).map(|_| sessions.enter("a").unwrap()).collect();
        assert_eq!(sessions.enter("a").unwrap_err(), Busy);
        drop(places);
        assert!(sessions.enter("a").is_ok());
    }
}
