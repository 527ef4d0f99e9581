//! Transcoding sessions: how many at once, one segment after the other in each, a short queue, and
//! an end after idle time (video-transcode-worker.md section 5.3).

use futures::future::BoxFuture;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::mpsc;

/// Segments of one session that may wait.
const QUEUE: usize = 4;

/// Why a segment is not taken. The texts go to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SessionError {
    /// A new session and no room.
    #[error("OrchestratorCapped")]
    Capped,
    /// Four segments of this session are waiting already.
    #[error("OrchestratorBusy")]
    Busy,
}

type Work = BoxFuture<'static, ()>;

/// All sessions.
#[derive(Clone)]
pub struct Sessions {
    queues: Arc<Mutex<HashMap<String, Queue>>>,
    max: usize,
    idle: Duration,
}

struct Queue {
    id: u64,
    work: mpsc::Sender<Work>,
}

impl Sessions {
    /// At most `max` at once; each ends after `idle` without a segment.
    pub fn new(max: usize, idle: Duration) -> Self {
        Self { queues: Arc::default(), max, idle }
    }

    /// Whether a segment of this session would be let in.
    pub fn has_room_for(&self, session_id: &str) -> bool {
        let queues = self.lock();
        queues.contains_key(session_id) || queues.len() < self.max
    }

    /// Whether a new session would be let in.
    pub fn has_room(&self) -> bool {
        self.lock().len() < self.max
    }

    /// How many there are, and how many there may be.
    pub fn used(&self) -> (u64, u64) {
        (self.lock().len() as u64, self.max as u64)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Queues the work of one segment, opening the session if needed. `ended` runs once, when the
    /// session ends by itself; an [`Self::end`] does not run it.
    pub fn submit(
        &self,
        session_id: &str,
        work: Work,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<(), SessionError> {
        let mut queues = self.lock();
        if let Some(queue) = queues.get(session_id) {
            return queue.work.try_send(work).map_err(|_| SessionError::Busy);
        }
        if queues.len() >= self.max {
            return Err(SessionError::Capped);
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        // An empty queue of four takes one.
        sender.try_send(work).map_err(|_| SessionError::Busy)?;
        let id = rand::random();
        queues.insert(session_id.to_owned(), Queue { id, work: sender });
        metrics::gauge!("orchestrator_sessions").set(queues.len() as f64);
        drop(queues);
        tokio::spawn(self.clone().run(session_id.to_owned(), id, receiver, ended));
        Ok(())
    }

    /// Ends a session now; what is queued is still worked off.
    pub fn end(&self, session_id: &str) {
        let mut queues = self.lock();
        queues.remove(session_id);
        metrics::gauge!("orchestrator_sessions").set(queues.len() as f64);
    }

    async fn run(
        self,
        session_id: String,
        id: u64,
        mut queue: mpsc::Receiver<Work>,
        ended: impl FnOnce() + Send + 'static,
    ) {
        loop {
            match tokio::time::timeout(self.idle, queue.recv()).await {
                Ok(Some(work)) => work.await,
                // Ended from outside: whoever did it cleans up.
                Ok(None) => return,
                Err(_) => {
                    let mut queues = self.lock();
                    // Work that came at the last moment keeps the session.
                    if !queue.is_empty() {
                        continue;
                    }
                    if queues.get(&session_id).is_some_and(|queue| queue.id == id) {
                        queues.remove(&session_id);
                        metrics::gauge!("orchestrator_sessions").set(queues.len() as f64);
                        drop(queues);
                        ended();
                    }
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::{Semaphore, oneshot};

    fn idle_forever(max: usize) -> Sessions {
        Sessions::new(max, Duration::from_secs(1 << 30))
    }

    #[tokio::test]
    async fn one_after_the_other_and_four_waiting() {
        let sessions = idle_forever(1);
        let gate = Arc::new(Semaphore::new(0));
        let (started, began) = oneshot::channel();
        let done = Arc::new(AtomicUsize::new(0));
        let held = {
            let gate = gate.clone();
            async move {
                started.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
            }
        };
        sessions.submit("s", Box::pin(held), || {}).unwrap();
        began.await.unwrap();
        let (last, finished) = oneshot::channel();
        let mut last = Some(last);
        for n in 0..4 {
            let (done, last) = (done.clone(), if n == 3 { last.take() } else { None });
            let work = async move {
                assert_eq!(done.fetch_add(1, Ordering::SeqCst), n, "in order");
                if let Some(last) = last {
                    last.send(()).unwrap();
                }
            };
            sessions.submit("s", Box::pin(work), || {}).unwrap();
        }
        let busy = sessions.submit("s", Box::pin(async {}), || {}).unwrap_err();
        assert_eq!(busy.to_string(), "OrchestratorBusy");
        assert!(sessions.has_room_for("s") && !sessions.has_room_for("t") && !sessions.has_room());
        let capped = sessions.submit("t", Box::pin(async {}), || {}).unwrap_err();
        assert_eq!(capped.to_string(), "OrchestratorCapped");
        gate.add_permits(1);
        finished.await.unwrap();
        sessions.end("s");
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_sessions_end_once() {
        let sessions = Sessions::new(1, Duration::from_secs(70));
        let (tell, ended) = oneshot::channel();
        sessions.submit("s", Box::pin(async {}), || tell.send(()).unwrap()).unwrap();
        ended.await.unwrap();
        assert_eq!(sessions.count(), 0);
        let (tell, ended) = oneshot::channel::<()>();
        sessions.submit("s", Box::pin(async {}), || drop(tell)).unwrap();
        sessions.end("s");
        assert!(ended.await.is_err(), "an ended session does not end again");
    }
}
