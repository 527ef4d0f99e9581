//! AI workers: registration, reserved model capacity, jobs (ai-pipelines.md section 7).

use super::{choose, tasks::Tasks, transcoders::WorkerView};
use crate::{
    ai::{result::Upload, words::Words},
    release::{Kind, Reason, Taken},
};
use penstock_domain::{Capabilities, Capability};
use penstock_wire::{ai::Pipeline, hardware::Hardware, net};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Notifications that may wait on a worker's stream.
const STREAM_DEPTH: usize = 256;
/// Workers that may be lost before the job fails.
const MAX_ATTEMPTS: usize = 3;

/// What a worker uploaded for a job.
#[derive(Debug)]
pub enum AiResult {
    /// All of it.
    Whole(Upload),
    /// An llm answer that has begun.
    Words(Words),
}

/// Why a job failed. The texts go to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AiError {
    /// All room for this model is taken, or nobody serves it; known before any payment is taken.
    #[error("insufficient capacity")]
    Capacity,
    /// The worker that was reserved went away and no other has room.
    #[error("no workers can process job requested")]
    WorkersLost,
    /// The worker said so; not tried again.
    #[error("{0}")]
    Worker(String),
    /// The gateway hung up on a stream before its first piece.
    #[error("the gateway hung up")]
    Unheard,
    /// No answer in time; the worker is dropped.
    #[error("Remote worker took too long")]
    TooLong,
}

/// A worker's end of its registration.
pub struct Registered {
    /// Its number in this process.
    pub id: u64,
    /// What it is told.
    pub notifications: mpsc::Receiver<net::NotifyAiJob>,
    /// Cancelled when the pool dropped it.
    pub gone: CancellationToken,
}

struct Worker {
    capabilities: Capabilities,
    hardware: Vec<Hardware>,
    /// Jobs by (capability, model).
    in_use: HashMap<(u32, String), u32>,
    notify: mpsc::Sender<net::NotifyAiJob>,
    gone: CancellationToken,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    workers: BTreeMap<u64, Worker>,
}

/// All AI workers.
pub struct AiPool {
    inner: Mutex<Inner>,
    tasks: Tasks<Result<AiResult, String>>,
}

/// Room for one job on one worker; given back when dropped.
pub struct Reservation {
    pool: Arc<AiPool>,
    worker: u64,
    capability: Capability,
    model: String,
    taken: Taken,
}

impl AiPool {
    /// Nobody yet. `first_task`: see [`Tasks::new`].
    pub fn new(first_task: i64) -> Self {
        Self { inner: Mutex::default(), tasks: Tasks::new(first_task) }
    }

    /// A worker came. It stays until [`Self::remove`].
    pub fn register(&self, capabilities: Capabilities, hardware: Vec<Hardware>) -> Registered {
        let capabilities = served(capabilities);
        let (notify, notifications) = mpsc::channel(STREAM_DEPTH);
        let gone = CancellationToken::new();
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        let worker =
            Worker { capabilities, hardware, in_use: HashMap::new(), notify, gone: gone.clone() };
        inner.workers.insert(id, worker);
        metrics::gauge!("orchestrator_workers", "kind" => "ai").set(inner.workers.len() as f64);
        tracing::info!(worker = id, "AI worker registered");
        Registered { id, notifications, gone }
    }

    /// A worker went: its jobs are retried elsewhere.
    pub fn remove(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(worker) = inner.workers.remove(&id) {
            worker.gone.cancel();
            metrics::gauge!("orchestrator_workers", "kind" => "ai").set(inner.workers.len() as f64);
            tracing::info!(worker = id, "AI worker gone");
        }
    }

    /// Ends all registrations, for the drain.
    pub fn remove_all(&self) {
        let ids: Vec<u64> = self.lock().workers.keys().copied().collect();
        for id in ids {
            self.remove(id);
        }
    }

    /// Room for one job of a model, on the worker with most of it free.
    pub fn reserve(
        self: &Arc<Self>,
        capability: Capability,
        model: &str,
    ) -> Result<Reservation, AiError> {
        let mut inner = self.lock();
        let key = (capability.number(), model.to_owned());
        let known: Vec<_> = inner
            .workers
            .values()
            .map(|w| (&w.capabilities, w.in_use.get(&key).copied().unwrap_or(0)))
            .collect();
        let at = choose::ai_worker(&known, capability, model).ok_or(AiError::Capacity)?;
        let id = inner.workers.keys().nth(at).copied().ok_or(AiError::Capacity)?;
        if let Some(worker) = inner.workers.get_mut(&id) {
            *worker.in_use.entry(key).or_default() += 1;
        }
        let pool = Arc::clone(self);
        let (model, taken) = (model.to_owned(), Taken::by(Kind::Ai));
        Ok(Reservation { pool, worker: id, capability, model, taken })
    }

    /// A result arrived; `false` if nobody waits for it.
    pub fn finish(&self, task: i64, result: Result<AiResult, String>) -> bool {
        self.tasks.finish(task, result)
    }

    /// Whether a result for this task would still be taken.
    pub fn is_open(&self, task: i64) -> bool {
        self.tasks.is_open(task)
    }

    /// Cancelled when nobody waits for this task's result any more; `None`: nobody does.
    pub fn forgotten(&self, task: i64) -> Option<CancellationToken> {
        self.tasks.forgotten(task)
    }

    /// Adds what the workers can do, with the model slots in use.
    pub fn add_capabilities(&self, sum: &mut Capabilities) {
        for worker in self.lock().workers.values() {
            sum.add(&worker.capabilities);
            for ((number, model), in_use) in &worker.in_use {
                let entry = sum.models.get_mut(number).and_then(|models| models.get_mut(model));
                if let Some(entry) = entry {
                    entry.capacity_in_use = entry.capacity_in_use.saturating_add(*in_use);
                }
            }
        }
    }

    /// Names of the cards that serve a model, in lower case; and how many of its slots are used, of how many.
    pub fn serving(&self, capability: u32, model: &str) -> (Vec<String>, (u64, u64)) {
        let pipeline = Capability::from_number(capability).map(Capability::pipeline);
        let key = (capability, model.to_owned());
        let (mut cards, mut used, mut all) = (Vec::new(), 0, 0);
        for worker in self.lock().workers.values() {
            let models = worker.capabilities.models.get(&capability);
            let Some(offered) = models.and_then(|models| models.get(model)) else { continue };
            all += u64::from(offered.capacity);
            used += u64::from(worker.in_use.get(&key).copied().unwrap_or(0));
            let its = worker.hardware.iter().filter(|hardware| {
                Some(&hardware.pipeline) == pipeline.as_ref() && hardware.model_id == model
            });
            cards.extend(its.flat_map(|h| h.gpus.values()).map(|gpu| gpu.name.to_lowercase()));
        }
        (cards, (used, all))
    }

    /// What the workers run on.
    pub fn hardware(&self) -> Vec<Hardware> {
        self.lock().workers.values().flat_map(|w| w.hardware.iter().cloned()).collect()
    }

    /// For operators.
    pub fn view(&self) -> Vec<WorkerView> {
        let inner = self.lock();
        inner.workers.iter().map(|(id, worker)| worker.view(*id)).collect()
    }

    fn notifier(&self, id: u64) -> Option<(mpsc::Sender<net::NotifyAiJob>, CancellationToken)> {
        self.lock().workers.get(&id).map(|w| (w.notify.clone(), w.gone.clone()))
    }

    fn release(&self, id: u64, capability: Capability, model: &str) {
        if let Some(worker) = self.lock().workers.get_mut(&id) {
            let key = (capability.number(), model.to_owned());
            match worker.in_use.get_mut(&key) {
                Some(in_use) if *in_use > 1 => *in_use -= 1,
                _ => drop(worker.in_use.remove(&key)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an offer can be sent to workers: batch pipelines. What else they offer is not advertised,
/// since gateways would be sent here in vain.
fn served(mut offered: Capabilities) -> Capabilities {
    let hidden = |number: u32| {
        Capability::from_number(number).is_some_and(|c| c.is_ai() && Pipeline::of(c).is_none())
    };
    for number in Capability::ALL.iter().map(|c| c.number()).filter(|n| hidden(*n)) {
        offered.set.remove_number(number);
        offered.capacities.remove(&number);
        offered.models.remove(&number);
    }
    offered
}

impl Worker {
    fn view(&self, id: u64) -> WorkerView {
        let all = || {
            self.capabilities.models.iter().flat_map(|(number, models)| {
                models.iter().map(|(model, constraint)| (*number, model, constraint.capacity))
            })
        };
        WorkerView {
            id,
            kind: "ai",
            load: self.in_use.values().sum(),
            capacity: all().map(|(_, _, capacity)| capacity).fold(0, u32::saturating_add),
            version: self.capabilities.version.clone(),
            models: all()
                .map(|(number, model, _)| {
                    let pipeline = Capability::from_number(number)
                        .map_or_else(|| number.to_string(), Capability::pipeline);
                    format!("{pipeline}/{model}")
                })
                .collect(),
        }
    }
}

impl Reservation {
    /// Should it be given back now, this is why.
    pub fn because(&mut self, why: Reason) {
        self.taken.because(why);
    }

    /// Runs the job in the reserved room, which comes back with the result: a stream needs it longer. A
    /// worker that goes away is replaced if another has room.
    pub async fn run(
        mut self,
        job: &net::AiJobData,
        timeout: Duration,
    ) -> Result<(AiResult, Self), AiError> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some((notify, gone)) = self.pool.notifier(self.worker) {
                let pool = Arc::clone(&self.pool);
                let mut task = pool.tasks.open();
                let message =
                    net::NotifyAiJob { task_id: task.id(), ai_job_data: Some(job.clone()) };
                if notify.try_send(message).is_err() {
                    pool.remove(self.worker);
                } else {
                    tokio::select! {
                        biased;
                        result = tokio::time::timeout(timeout, task.result()) => {
                            return match result {
                                Ok(Some(Ok(result))) => Ok((result, self)),
                                Ok(Some(Err(why))) => {
                                    self.because(Reason::WorkerRefused);
                                    Err(AiError::Worker(why))
                                }
                                Ok(None) | Err(_) => {
                                    pool.remove(self.worker);
                                    self.because(Reason::TimedOut);
                                    Err(AiError::TooLong)
                                }
                            };
                        }
                        () = gone.cancelled() => {
                            tracing::warn!(worker = self.worker, "AI worker lost, trying another");
                        }
                    }
                }
            }
            self.because(Reason::WorkerLost);
            self = self
                .pool
                .reserve(self.capability, &self.model)
                .map_err(|_| AiError::WorkersLost)?;
        }
        self.because(Reason::WorkerLost);
        Err(AiError::WorkersLost)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.release(self.worker, self.capability, &self.model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(capacity: u32) -> Capabilities {
        let mut c = Capabilities::ai_job(Capability::AudioToText, "m", true);
        c.models.get_mut(&31).unwrap().get_mut("m").unwrap().capacity = capacity;
        c
    }

    fn answer() -> AiResult {
        AiResult::Whole(Upload::default())
    }

    fn reserve(pool: &Arc<AiPool>) -> Result<Reservation, AiError> {
        pool.reserve(Capability::AudioToText, "m")
    }

    fn in_use(pool: &AiPool) -> u32 {
        let mut sum = Capabilities::default();
        pool.add_capabilities(&mut sum);
        sum.model(Capability::AudioToText, "m").map_or(0, |m| m.capacity_in_use)
    }

    #[tokio::test]
    async fn capacity_is_reserved_and_given_back() {
        let pool = Arc::new(AiPool::new(0));
        assert!(matches!(reserve(&pool), Err(AiError::Capacity)));
        let mut worker = pool.register(model(1), Vec::new());
        let reserved = reserve(&pool).unwrap();
        assert_eq!(in_use(&pool), 1);
        assert!(matches!(reserve(&pool), Err(AiError::Capacity)));
        let job = net::AiJobData::default();
        let running = tokio::spawn(async move { reserved.run(&job, Duration::MAX).await });
        let task = worker.notifications.recv().await.unwrap();
        assert!(pool.finish(task.task_id, Ok(answer())));
        let (_, reserved) = running.await.unwrap().unwrap();
        assert_eq!(in_use(&pool), 1, "until its room is given back");
        drop(reserved);
        assert_eq!(in_use(&pool), 0);
        drop(reserve(&pool).unwrap());
        assert_eq!(in_use(&pool), 0);
    }

    #[tokio::test]
    async fn a_lost_worker_is_replaced_if_another_has_room() {
        let pool = Arc::new(AiPool::new(0));
        let mut a = pool.register(model(1), Vec::new());
        let reserved = reserve(&pool).unwrap();
        let mut b = pool.register(model(1), Vec::new());
        let job = net::AiJobData::default();
        let running = tokio::spawn(async move { reserved.run(&job, Duration::MAX).await });
        a.notifications.recv().await.unwrap();
        pool.remove(a.id);
        let task = b.notifications.recv().await.unwrap();
        pool.remove(b.id);
        assert!(!pool.finish(task.task_id + 99, Ok(answer())));
        assert_eq!(running.await.unwrap().err(), Some(AiError::WorkersLost));
    }

    #[tokio::test(start_paused = true)]
    async fn too_long() {
        let pool = Arc::new(AiPool::new(0));
        let worker = pool.register(model(2), Vec::new());
        let reserved = reserve(&pool).unwrap();
        let job = net::AiJobData::default();
        let refused = reserved.run(&job, Duration::from_secs(900)).await.err().unwrap();
        assert_eq!(refused.to_string(), "Remote worker took too long");
        assert!(worker.gone.is_cancelled());
        assert!(pool.view().is_empty());
    }
}
