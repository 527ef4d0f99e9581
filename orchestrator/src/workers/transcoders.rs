//! Remote transcoders: registration, sessions that stick to them, jobs (video-transcode-worker.md
//! sections 1 to 5).

use super::{
    choose::{self, Candidate, NoWorker},
    tasks::Tasks,
};
use crate::trace;
use bytes::Bytes;
use penstock_domain::Capabilities;
use penstock_telemetry::go;
use penstock_wire::net;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Jobs per registered worker that may be lost before the job itself fails.
const MAX_ATTEMPTS: usize = 3;

/// One rendition as the worker made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Its bytes.
    pub data: Bytes,
    /// Pixels encoded.
    pub pixels: u64,
    /// Perceptual hash, if asked for.
    pub perceptual_hash: Option<Bytes>,
}

/// What a worker uploaded for a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcoded {
    /// In the order of the profiles.
    pub renditions: Vec<Rendition>,
    /// Pixels decoded.
    pub decoded_pixels: u64,
}

/// Why a segment was not transcoded. The texts go to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TranscodeError {
    /// Nobody to do it.
    #[error(transparent)]
    NoWorker(#[from] NoWorker),
    /// The worker said so; not tried again.
    #[error("{0}")]
    Worker(String),
    /// No answer in time; the worker is dropped, and the gateway has moved on.
    #[error("Remote transcoder took too long")]
    TooLong,
    /// Worker after worker went away.
    #[error("no transcoders available")]
    WorkersLost,
}

/// A segment for a worker.
#[derive(Debug, Clone)]
pub struct TranscodeJob {
    /// Sticks to one worker.
    pub session_id: String,
    /// What the worker is told, without task id.
    pub notify: net::NotifySegment,
    /// What it must be able to do.
    pub capabilities: Capabilities,
    /// How long it may take.
    pub timeout: Duration,
}

/// A worker's end of its registration.
pub struct Registered {
    /// Its number in this process.
    pub id: u64,
    /// What it is told.
    pub notifications: mpsc::Receiver<net::NotifySegment>,
    /// Cancelled when the pool dropped it.
    pub gone: CancellationToken,
}

/// For operators.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerView {
    /// Its number in this process.
    pub id: u64,
    /// `transcoder` or `ai`.
    pub kind: &'static str,
    /// Sessions or jobs on it now.
    pub load: u32,
    /// Sessions or jobs it takes.
    pub capacity: u32,
    /// Version it told.
    pub version: String,
    /// Models it serves, as `pipeline/model`.
    pub models: Vec<String>,
}

struct Worker {
    load: u32,
    capacity: u32,
    capabilities: Capabilities,
    /// Names, in lower case.
    cards: Vec<String>,
    notify: mpsc::Sender<net::NotifySegment>,
    gone: CancellationToken,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    workers: BTreeMap<u64, Worker>,
    /// Session → worker.
    sticky: HashMap<String, u64>,
}

/// All transcoding workers.
pub struct TranscoderPool {
    inner: Mutex<Inner>,
    tasks: Tasks<Result<Transcoded, String>>,
    /// That wait for one worker to take them.
    messages: usize,
}

impl TranscoderPool {
    /// Nobody yet. `first_task`: see [`Tasks::new`]; `messages`: how many may wait for one worker.
    pub fn new(first_task: i64, messages: usize) -> Self {
        Self { inner: Mutex::default(), tasks: Tasks::new(first_task), messages }
    }

    /// Names of the cards that segments are transcoded on, in lower case, as far as their workers say.
    pub fn cards(&self) -> Vec<String> {
        self.lock().workers.values().flat_map(|worker| worker.cards.iter().cloned()).collect()
    }

    /// A worker came, with cards of these names. It stays until [`Self::remove`].
    pub fn register(
        &self,
        capacity: u32,
        capabilities: Capabilities,
        gpus: &[String],
    ) -> Registered {
        let (notify, notifications) = mpsc::channel(self.messages);
        let gone = CancellationToken::new();
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        let cards = gpus.iter().map(|name| name.to_lowercase()).collect();
        let worker = Worker { load: 0, capacity, capabilities, cards, notify, gone: gone.clone() };
        inner.workers.insert(id, worker);
        inner.show();
        tracing::info!(worker = id, capacity, "transcoder registered");
        Registered { id, notifications, gone }
    }

    /// A worker went: its jobs are retried elsewhere, its sessions choose anew.
    pub fn remove(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(worker) = inner.workers.remove(&id) {
            worker.gone.cancel();
            inner.sticky.retain(|_, w| *w != id);
            inner.show();
            tracing::info!(worker = id, "transcoder gone");
        }
    }

    /// Sessions that all workers take together.
    pub fn capacity(&self) -> usize {
        let all =
            self.lock().workers.values().map(|worker| u64::from(worker.capacity)).sum::<u64>();
        usize::try_from(all).unwrap_or(usize::MAX)
    }

    /// Ends all registrations, for the drain.
    pub fn remove_all(&self) {
        let ids: Vec<u64> = self.lock().workers.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Ends a session: its worker is told, its load given back.
    pub fn end_session(&self, session_id: &str) {
        let mut inner = self.lock();
        if let Some(id) = inner.release(session_id)
            && let Some(worker) = inner.workers.get(&id)
        {
            let token = net::AuthToken { session_id: session_id.to_owned(), ..Default::default() };
            let seg_data = net::SegData { auth_token: Some(token), ..Default::default() };
            let end = net::NotifySegment { seg_data: Some(seg_data), ..Default::default() };
            // A worker that does not read its stream learns it by its own idle timeout.
            let _ = worker.notify.try_send(end);
        }
    }

    /// Has a segment transcoded. A worker that goes away is replaced; one that takes too long is
    /// dropped and the job given up.
    pub async fn transcode(&self, job: &TranscodeJob) -> Result<Transcoded, TranscodeError> {
        for _ in 0..MAX_ATTEMPTS {
            let (id, notify, gone) = self.assign(job)?;
            let mut task = self.tasks.open();
            let traceparent = trace::for_worker();
            let message =
                net::NotifySegment { task_id: task.id(), traceparent, ..job.notify.clone() };
            if notify.try_send(message).is_err() {
                self.remove(id);
                continue;
            }
            tokio::select! {
                // A result that is there counts, even if its worker has just left.
                biased;
                result = tokio::time::timeout(job.timeout, task.result()) => match result {
                    Ok(Some(Ok(transcoded))) => return Ok(transcoded),
                    Ok(Some(Err(text))) => {
                        self.lock().release(&job.session_id);
                        return Err(TranscodeError::Worker(text));
                    }
                    Ok(None) | Err(_) => {
                        self.remove(id);
                        return Err(TranscodeError::TooLong);
                    }
                },
                () = gone.cancelled() => {
                    tracing::warn!(worker = id, session = job.session_id, "transcoder lost, trying another");
                }
            }
        }
        Err(TranscodeError::WorkersLost)
    }

    fn assign(
        &self,
        job: &TranscodeJob,
    ) -> Result<(u64, mpsc::Sender<net::NotifySegment>, CancellationToken), TranscodeError> {
        let mut inner = self.lock();
        let id = match inner.sticky.get(&job.session_id) {
            Some(id) => *id,
            None => inner.choose(job)?,
        };
        let worker = inner.workers.get(&id).ok_or(NoWorker::Available)?;
        Ok((id, worker.notify.clone(), worker.gone.clone()))
    }

    /// A result arrived; `false` if nobody waits for it.
    pub fn finish(&self, task: i64, result: Result<Transcoded, String>) -> bool {
        self.tasks.finish(task, result)
    }

    /// Whether a result for this task would still be taken.
    pub fn is_open(&self, task: i64) -> bool {
        self.tasks.is_open(task)
    }

    /// Adds what the workers can do.
    pub fn add_capabilities(&self, sum: &mut Capabilities) {
        for worker in self.lock().workers.values() {
            sum.add(&worker.capabilities);
        }
    }

    /// For operators.
    pub fn view(&self) -> Vec<WorkerView> {
        let inner = self.lock();
        let view = |(id, w): (&u64, &Worker)| WorkerView {
            id: *id,
            kind: "transcoder",
            load: w.load,
            capacity: w.capacity,
            version: w.capabilities.version.clone(),
            models: Vec::new(),
        };
        inner.workers.iter().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// How many there are, under our name and the Go node's.
    fn show(&self) {
        metrics::gauge!("orchestrator_workers", "kind" => "transcoder")
            .set(self.workers.len() as f64);
        let sum =
            |of: fn(&Worker) -> u32| self.workers.values().map(|w| f64::from(of(w))).sum::<f64>();
        metrics::gauge!("livepeer_transcoders_number", go::labels([]))
            .set(self.workers.len() as f64);
        metrics::gauge!("livepeer_transcoders_capacity", go::labels([])).set(sum(|w| w.capacity));
        metrics::gauge!("livepeer_transcoders_load", go::labels([])).set(sum(|w| w.load));
    }

    fn choose(&mut self, job: &TranscodeJob) -> Result<u64, NoWorker> {
        let candidates: Vec<_> = self
            .workers
            .values()
            .map(|w| Candidate {
                load: w.load,
                capacity: w.capacity,
                capabilities: &w.capabilities,
            })
            .collect();
        let at = choose::transcoder(&candidates, &job.capabilities)?;
        let id = self.workers.keys().nth(at).copied().ok_or(NoWorker::Available)?;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.load += 1;
        }
        self.sticky.insert(job.session_id.clone(), id);
        self.show();
        Ok(id)
    }

    /// Unsticks a session; returns the worker it was on.
    fn release(&mut self, session_id: &str) -> Option<u64> {
        let id = self.sticky.remove(session_id)?;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.load = worker.load.saturating_sub(1);
        }
        self.show();
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::CapabilitySet;
    use std::sync::Arc;

    fn pool() -> Arc<TranscoderPool> {
        Arc::new(TranscoderPool::new(0, 256))
    }

    fn video() -> Capabilities {
        Capabilities::of_set(CapabilitySet::default_video())
    }

    fn job(session: &str) -> TranscodeJob {
        TranscodeJob {
            session_id: session.into(),
            notify: net::NotifySegment { url: "u".into(), ..Default::default() },
            capabilities: Capabilities::default(),
            timeout: Duration::from_secs(3600),
        }
    }

    fn done() -> Transcoded {
        Transcoded { renditions: Vec::new(), decoded_pixels: 1 }
    }

    fn spawn(
        pool: &Arc<TranscoderPool>,
        job: TranscodeJob,
    ) -> tokio::task::JoinHandle<Result<Transcoded, TranscodeError>> {
        let pool = Arc::clone(pool);
        tokio::spawn(async move { pool.transcode(&job).await })
    }

    #[tokio::test]
    async fn sessions_stick_and_give_their_load_back() {
        let pool = pool();
        let (mut a, mut b) = (pool.register(1, video(), &[]), pool.register(1, video(), &[]));
        let one = spawn(&pool, job("s1"));
        let first = a.notifications.recv().await.unwrap();
        assert!(pool.finish(first.task_id, Ok(done())));
        assert_eq!(one.await.unwrap(), Ok(done()));
        let again = spawn(&pool, job("s1"));
        let second = a.notifications.recv().await.unwrap();
        assert_ne!(second.task_id, first.task_id);
        assert!(!pool.finish(first.task_id, Ok(done())), "a late copy finds nobody");
        pool.finish(second.task_id, Ok(done()));
        again.await.unwrap().unwrap();
        let two = spawn(&pool, job("s2"));
        let other = b.notifications.recv().await.unwrap();
        pool.finish(other.task_id, Err("broken".into()));
        assert_eq!(two.await.unwrap(), Err(TranscodeError::Worker("broken".into())));
        assert_eq!(pool.view().iter().map(|w| w.load).collect::<Vec<_>>(), [1, 0]);
        pool.end_session("s1");
        let end = a.notifications.recv().await.unwrap();
        assert_eq!(end.url, "");
        assert_eq!(end.seg_data.unwrap().auth_token.unwrap().session_id, "s1");
        assert_eq!(pool.view()[0].load, 0);
    }

    #[tokio::test]
    async fn full_and_absent_workers() {
        let pool = pool();
        let refused = pool.transcode(&job("s")).await.unwrap_err();
        assert_eq!(refused.to_string(), "no transcoders available");
        let _bare = pool.register(5, Capabilities::default(), &[]);
        let mut needy = job("s");
        needy.capabilities = video();
        let refused = pool.transcode(&needy).await.unwrap_err();
        assert_eq!(refused.to_string(), "no transcoders can provide requested capabilities");
        let mut full = pool.register(1, video(), &[]);
        let running = spawn(&pool, {
            let mut j = job("a");
            j.capabilities = video();
            j
        });
        let task = full.notifications.recv().await.unwrap();
        needy.session_id = "b".into();
        assert_eq!(
            pool.transcode(&needy).await,
            Err(TranscodeError::NoWorker(NoWorker::Available))
        );
        pool.finish(task.task_id, Ok(done()));
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_lost_worker_is_replaced() {
        let pool = pool();
        let (mut a, mut b) = (pool.register(1, video(), &[]), pool.register(1, video(), &[]));
        let running = spawn(&pool, job("s"));
        a.notifications.recv().await.unwrap();
        pool.remove(a.id);
        let retried = b.notifications.recv().await.unwrap();
        pool.finish(retried.task_id, Ok(done()));
        assert_eq!(running.await.unwrap(), Ok(done()));
        pool.remove(b.id);
        assert!(a.gone.is_cancelled() && b.gone.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_worker_is_dropped_and_not_replaced() {
        let pool = pool();
        let slow = pool.register(1, video(), &[]);
        let _other = pool.register(1, video(), &[]);
        let refused = pool.transcode(&job("s")).await.unwrap_err();
        assert_eq!(refused.to_string(), "Remote transcoder took too long");
        assert!(slow.gone.is_cancelled());
        assert_eq!(pool.view().len(), 1);
    }
}
