//! AI workers: registration, reserved model capacity, jobs (ai-pipelines.md section 7).

use super::{choose, tasks::Tasks, transcoders::WorkerView};
use crate::{
    ai::{result::Upload, words::Words},
    private_places::scrubbed,
    release::{Kind, Reason, Taken},
    trace,
};
use penstock_domain::{Capabilities, Capability};
use penstock_wire::{
    ai::Pipeline,
    hardware::{Hardware, Room},
    net,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

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
    /// Its process, if it says.
    instance: Option<String>,
    /// That has registered anew, for what it can do now: this one gets no more jobs, and those that it has take
    /// room of the newer one.
    is_replaced: bool,
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
    /// That wait for one worker to take them.
    messages: usize,
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
    /// Nobody yet. `first_task`: see [`Tasks::new`]; `messages`: how many may wait for one worker.
    pub fn new(first_task: i64, messages: usize) -> Self {
        Self { inner: Mutex::default(), tasks: Tasks::new(first_task), messages }
    }

    /// A worker came. It stays until [`Self::remove`], and takes the place of an earlier registration of the same
    /// `instance`.
    pub fn register(
        &self,
        capabilities: Capabilities,
        hardware: Vec<Hardware>,
        instance: Option<String>,
    ) -> Registered {
        let capabilities = served(capabilities);
        let (notify, notifications) = mpsc::channel(self.messages);
        let gone = CancellationToken::new();
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        for earlier in
            inner.workers.values_mut().filter(|earlier| earlier.is_of(instance.as_deref()))
        {
            earlier.is_replaced = true;
        }
        let worker = Worker {
            instance,
            is_replaced: false,
            capabilities,
            hardware,
            in_use: HashMap::new(),
            notify,
            gone: gone.clone(),
        };
        inner.workers.insert(id, worker);
        inner.record();
        tracing::info!(worker = id, "AI worker registered");
        Registered { id, notifications, gone }
    }

    /// A worker went: its jobs are retried elsewhere.
    pub fn remove(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(worker) = inner.workers.remove(&id) {
            worker.gone.cancel();
            inner.record();
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
        let known: Vec<_> =
            inner.newest().map(|(_, w)| (&w.capabilities, inner.in_use(w, &key))).collect();
        let at = choose::ai_worker(&known, capability, model).ok_or(AiError::Capacity)?;
        let id = inner.newest().nth(at).map(|(id, _)| *id).ok_or(AiError::Capacity)?;
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
        let inner = self.lock();
        inner.newest().for_each(|(_, worker)| sum.add(&worker.capabilities));
        for worker in inner.workers.values() {
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
        let inner = self.lock();
        for (_, worker) in inner.newest() {
            let models = worker.capabilities.models.get(&capability);
            let Some(offered) = models.and_then(|models| models.get(model)) else { continue };
            all += u64::from(offered.capacity);
            used += u64::from(inner.in_use(worker, &key));
            let its = worker.hardware.iter().filter(|hardware| {
                Some(&hardware.pipeline) == pipeline.as_ref() && hardware.model_id == model
            });
            cards.extend(its.flat_map(|h| h.gpus.values()).map(|gpu| gpu.name.to_lowercase()));
        }
        (cards, (used, all))
    }

    /// What the workers run on, as far as there is room for it.
    pub fn hardware(&self, room: &mut Room) -> Vec<Hardware> {
        let inner = self.lock();
        let all = inner.newest().flat_map(|(_, worker)| &worker.hardware);
        all.filter(|hardware| room.takes(hardware)).cloned().collect()
    }

    /// For operators.
    pub fn view(&self) -> Vec<WorkerView> {
        let inner = self.lock();
        inner.newest().map(|(id, worker)| worker.view(*id, inner.load(worker))).collect()
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

impl Inner {
    /// Those that get jobs.
    fn newest(&self) -> impl Iterator<Item = (&u64, &Worker)> {
        self.workers.iter().filter(|(_, worker)| !worker.is_replaced)
    }

    /// A worker's registrations: its newest, and those before that have jobs still.
    fn of<'a>(&'a self, newest: &'a Worker) -> impl Iterator<Item = &'a Worker> {
        let name = newest.instance.as_deref();
        let before = self.workers.values();
        let before = before.filter(move |other| other.is_replaced && other.is_of(name));
        std::iter::once(newest).chain(before)
    }

    /// Jobs of a model on a worker.
    fn in_use(&self, newest: &Worker, key: &(u32, String)) -> u32 {
        self.of(newest).filter_map(|worker| worker.in_use.get(key)).sum()
    }

    /// All jobs on a worker.
    fn load(&self, newest: &Worker) -> u32 {
        self.of(newest).flat_map(|worker| worker.in_use.values()).sum()
    }

    fn record(&self) {
        let workers = self.newest().count() as f64;
        metrics::gauge!("orchestrator_workers", "kind" => "ai").set(workers);
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
    /// Whether it is a process that has a name, and this one.
    fn is_of(&self, instance: Option<&str>) -> bool {
        instance.is_some() && self.instance.as_deref() == instance
    }

    fn view(&self, id: u64, load: u32) -> WorkerView {
        let all = || {
            self.capabilities.models.iter().flat_map(|(number, models)| {
                models.iter().map(|(model, constraint)| (*number, model, constraint.capacity))
            })
        };
        WorkerView {
            id,
            kind: "ai",
            load,
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
                let message = net::NotifyAiJob {
                    task_id: task.id(),
                    ai_job_data: Some(job.clone()),
                    traceparent: trace::for_worker(),
                };
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
                                    // Words of its own, and of its runners', for gateways.
                                    Err(AiError::Worker(scrubbed(&why, None)))
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

    fn register(pool: &AiPool, capacity: u32) -> Registered {
        pool.register(model(capacity), Vec::new(), None)
    }

    /// Places, and those that are taken.
    fn offered(pool: &AiPool) -> (u32, u32) {
        let mut sum = Capabilities::default();
        pool.add_capabilities(&mut sum);
        let model = sum.model(Capability::AudioToText, "m");
        model.map_or((0, 0), |m| (m.capacity, m.capacity_in_use))
    }

    fn in_use(pool: &AiPool) -> u32 {
        offered(pool).1
    }

    #[test]
    fn a_worker_that_registers_anew_has_its_places_once() {
        let pool = Arc::new(AiPool::new(0, 256));
        let again = |name: &str, capacity| {
            pool.register(model(capacity), Vec::new(), Some(name.to_owned()))
        };
        let (first, other) = (again("one", 2), again("two", 1));
        let mut jobs: Vec<_> = (0..3).map(|_| reserve(&pool).unwrap()).collect();
        assert_eq!(offered(&pool), (3, 3));
        // Another model has been loaded, while it is at work: it has two places, which are taken.
        let second = again("one", 2);
        assert_eq!(offered(&pool), (3, 3));
        assert!(matches!(reserve(&pool), Err(AiError::Capacity)));
        assert_eq!(pool.view().len(), 2);
        assert_eq!(pool.view().iter().map(|view| view.load).sum::<u32>(), 3);
        let key = Capability::AudioToText.number();
        assert_eq!(pool.serving(key, "m").1, (3, 3));
        // A place that is given back on the first registration is the second one's.
        let at = jobs.iter().position(|job| job.worker == first.id).unwrap();
        drop(jobs.swap_remove(at));
        let next = reserve(&pool).unwrap();
        assert_eq!((next.worker, offered(&pool)), (second.id, (3, 3)));
        assert!(!first.gone.is_cancelled(), "its job goes on");
        // It loses a card and, with it, a place.
        let third = again("one", 1);
        assert_eq!(offered(&pool), (2, 3));
        assert!(matches!(reserve(&pool), Err(AiError::Capacity)));
        jobs.clear();
        drop(next);
        assert_eq!(offered(&pool), (2, 0));
        pool.remove(first.id);
        pool.remove(second.id);
        let all = [reserve(&pool).unwrap(), reserve(&pool).unwrap()].map(|job| job.worker);
        assert!(all.contains(&third.id) && all.contains(&other.id));
        assert_eq!(offered(&pool), (2, 0));
        // Workers that have no names are each their own.
        let _all = [register(&pool, 1), register(&pool, 1)];
        assert_eq!(offered(&pool), (4, 0));
    }

    #[tokio::test]
    async fn capacity_is_reserved_and_given_back() {
        let pool = Arc::new(AiPool::new(0, 256));
        assert!(matches!(reserve(&pool), Err(AiError::Capacity)));
        let mut worker = register(&pool, 1);
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
        let pool = Arc::new(AiPool::new(0, 256));
        let mut a = register(&pool, 1);
        let reserved = reserve(&pool).unwrap();
        let mut b = register(&pool, 1);
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
        let pool = Arc::new(AiPool::new(0, 256));
        let worker = register(&pool, 2);
        let reserved = reserve(&pool).unwrap();
        let job = net::AiJobData::default();
        let refused = reserved.run(&job, Duration::from_secs(900)).await.err().unwrap();
        assert_eq!(refused.to_string(), "Remote worker took too long");
        assert!(worker.gone.is_cancelled());
        assert!(pool.view().is_empty());
    }
}
