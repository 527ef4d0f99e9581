//! Transcoding sessions: how many at once, one segment after the other in each, a short queue, and
//! an end after idle time (video-transcode-worker.md section 5.3).

use super::deadline::Pace;
use crate::{
    release::{Kind, Reason, released},
    workers::transcoders::TranscoderPool,
};
use futures::future::BoxFuture;
use penstock_telemetry::go;
use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::{sync::mpsc, time::Instant};

/// Why a segment is not taken. The texts go to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SessionError {
    /// A new session and no room.
    #[error("OrchestratorCapped")]
    Capped,
    /// As many segments of this session are waiting as may.
    #[error("OrchestratorBusy")]
    Busy,
    /// Those that are waiting take longer than its gateway waits.
    #[error("OrchestratorBusy")]
    Late,
}

impl SessionError {
    /// As the metric calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capped => "capped",
            Self::Busy => "queue_full",
            Self::Late => "deadline",
        }
    }
}

/// The largest number that `--max-sessions` takes.
const MOST_SESSIONS: usize = 1_000_000;

/// `--max-sessions`: a number, or as many as the registered workers take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxSessions {
    /// So many.
    Of(usize),
    /// The sum of the workers' capacities now.
    Auto,
}

impl FromStr for MaxSessions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(number)) if number <= MOST_SESSIONS => Ok(Self::Of(number)),
            _ => Err(format!("must be a number up to {MOST_SESSIONS}, or auto")),
        }
    }
}

type Work = BoxFuture<'static, ()>;

/// All sessions.
#[derive(Clone)]
pub struct Sessions {
    queues: Arc<Mutex<HashMap<String, Queue>>>,
    max: MaxSessions,
    workers: Arc<TranscoderPool>,
    idle: Duration,
    /// Segments of one session that may wait.
    waiting: usize,
}

struct Queue {
    id: u64,
    work: mpsc::Sender<Work>,
    pace: Arc<Mutex<Pace>>,
}

impl Queue {
    fn begins_in_time(&self, budget: Duration) -> bool {
        let waiting = self.work.max_capacity().saturating_sub(self.work.capacity());
        lock_pace(&self.pace).begins_in_time(waiting, budget)
    }
}

fn lock_pace(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// At most `max` at once; each ends after `idle` without a segment, and has at most `waiting` that wait.
    pub fn new(
        max: MaxSessions,
        workers: Arc<TranscoderPool>,
        idle: Duration,
        waiting: usize,
    ) -> Self {
        let sessions = Self { queues: Arc::default(), max, workers, idle, waiting };
        sessions.show(0);
        sessions
    }

    fn max(&self) -> usize {
        match self.max {
            MaxSessions::Of(max) => max,
            MaxSessions::Auto => self.workers.capacity(),
        }
    }

    /// Whether other work is refused as well when there is no room: with a number, as in the reference. Without
    /// transcoders `auto` leaves no room, and AI workers may be there all the same.
    pub fn bounds_all_work(&self) -> bool {
        self.max != MaxSessions::Auto
    }

    /// Whether a segment of this session would be let in.
    pub fn has_room_for(&self, session_id: &str) -> bool {
        let max = self.max();
        let queues = self.lock();
        queues.contains_key(session_id) || queues.len() < max
    }

    /// Whether a new session would be let in.
    pub fn has_room(&self) -> bool {
        let max = self.max();
        self.lock().len() < max
    }

    /// How many there are, and how many there may be.
    pub fn used(&self) -> (u64, u64) {
        let max = self.max();
        (self.lock().len() as u64, max as u64)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Queues the work of one segment whose gateway waits for `budget`, opening the session if needed. `ended` runs
    /// once, when the session ends by itself; an [`Self::end`] does not run it.
    pub fn submit(
        &self,
        session_id: &str,
        budget: Duration,
        work: Work,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<(), SessionError> {
        let taken = self.try_submit(session_id, budget, work, ended);
        if let Err(error) = taken {
            metrics::counter!("orchestrator_segments_refused_total", "why" => error.as_str())
                .increment(1);
        }
        taken
    }

    fn try_submit(
        &self,
        session_id: &str,
        budget: Duration,
        work: Work,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<(), SessionError> {
        let max = self.max();
        let mut queues = self.lock();
        if let Some(queue) = queues.get(session_id) {
            if !queue.begins_in_time(budget) {
                return Err(SessionError::Late);
            }
            return queue.work.try_send(work).map_err(|_| SessionError::Busy);
        }
        if queues.len() >= max {
            return Err(SessionError::Capped);
        }
        let (sender, receiver) = mpsc::channel(self.waiting);
        // An empty queue of four takes one.
        sender.try_send(work).map_err(|_| SessionError::Busy)?;
        let id = rand::random();
        let pace = Arc::<Mutex<Pace>>::default();
        let queue = Queue { id, work: sender, pace: Arc::clone(&pace) };
        queues.insert(session_id.to_owned(), queue);
        self.show(queues.len());
        drop(queues);
        tokio::spawn(self.clone().run(session_id.to_owned(), id, receiver, pace, ended));
        Ok(())
    }

    /// Ends a session now; what is queued is still worked off.
    pub fn end(&self, session_id: &str, why: Reason) {
        let mut queues = self.lock();
        if queues.remove(session_id).is_some() {
            released(Kind::Transcoding, why);
        }
        self.show(queues.len());
    }

    /// Workers came or went: there may be more, or fewer.
    pub fn workers_changed(&self) {
        self.show(self.lock().len());
    }

    /// How many there are, under our name and the Go node's.
    fn show(&self, sessions: usize) {
        metrics::gauge!("orchestrator_sessions").set(sessions as f64);
        metrics::gauge!("livepeer_current_sessions_total", go::labels([])).set(sessions as f64);
        metrics::gauge!("livepeer_max_sessions_total", go::labels([])).set(self.max() as f64);
    }

    async fn run(
        self,
        session_id: String,
        id: u64,
        mut queue: mpsc::Receiver<Work>,
        pace: Arc<Mutex<Pace>>,
        ended: impl FnOnce() + Send + 'static,
    ) {
        loop {
            match tokio::time::timeout(self.idle, queue.recv()).await {
                Ok(Some(work)) => {
                    let began = Instant::now();
                    work.await;
                    lock_pace(&pace).note(began.elapsed());
                }
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
                        self.show(queues.len());
                        drop(queues);
                        released(Kind::Transcoding, Reason::LeaseExpired);
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

    const LONG: Duration = Duration::from_secs(3600);

    fn sessions(max: usize, idle: Duration) -> Sessions {
        Sessions::new(MaxSessions::Of(max), Arc::new(TranscoderPool::new(0, 256)), idle, 4)
    }

    fn idle_forever(max: usize) -> Sessions {
        sessions(max, Duration::from_secs(1 << 30))
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
        sessions.submit("s", LONG, Box::pin(held), || {}).unwrap();
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
            sessions.submit("s", LONG, Box::pin(work), || {}).unwrap();
        }
        let busy = sessions.submit("s", LONG, Box::pin(async {}), || {}).unwrap_err();
        assert_eq!(busy.to_string(), "OrchestratorBusy");
        assert!(sessions.has_room_for("s") && !sessions.has_room_for("t") && !sessions.has_room());
        let capped = sessions.submit("t", LONG, Box::pin(async {}), || {}).unwrap_err();
        assert_eq!(capped.to_string(), "OrchestratorCapped");
        gate.add_permits(1);
        finished.await.unwrap();
        sessions.end("s", Reason::ClientStopped);
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_sessions_end_once() {
        let sessions = sessions(1, Duration::from_secs(70));
        let (tell, ended) = oneshot::channel();
        sessions.submit("s", LONG, Box::pin(async {}), || tell.send(()).unwrap()).unwrap();
        ended.await.unwrap();
        assert_eq!(sessions.count(), 0);
        let (tell, ended) = oneshot::channel::<()>();
        sessions.submit("s", LONG, Box::pin(async {}), || drop(tell)).unwrap();
        sessions.end("s", Reason::ClientStopped);
        assert!(ended.await.is_err(), "an ended session does not end again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_segment_that_cannot_be_begun_in_time_is_refused_at_once() {
        let sessions = idle_forever(1);
        let submit = |seconds: u64, budget: u64| {
            let work = Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
            sessions.submit("s", Duration::from_secs(budget), work, || {})
        };
        // The first shows how long they take here.
        submit(3, 8).unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        submit(3, 8).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..3 {
            submit(3, 8).unwrap();
        }
        assert_eq!(submit(3, 8), Err(SessionError::Late), "three wait, for nine seconds");
        submit(3, 10).unwrap();
        assert_eq!(SessionError::Late.to_string(), SessionError::Busy.to_string());
    }

    #[test]
    fn as_many_as_the_workers_take() {
        let workers = Arc::new(TranscoderPool::new(0, 256));
        let sessions = Sessions::new("auto".parse().unwrap(), Arc::clone(&workers), LONG, 4);
        assert!(!sessions.has_room() && !sessions.bounds_all_work());
        let first = workers.register(2, Default::default(), &[]);
        let _second = workers.register(3, Default::default(), &[]);
        assert_eq!((sessions.used(), sessions.has_room()), ((0, 5), true));
        workers.remove(first.id);
        assert_eq!(sessions.used(), (0, 3));
        assert_eq!("12".parse(), Ok(MaxSessions::Of(12)));
        assert!(["", "Auto", "-1", "1.5"].iter().all(|bad| bad.parse::<MaxSessions>().is_err()));
    }
}
