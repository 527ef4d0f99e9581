//! Live runners that workers bring: who is there, for as long as its worker is heard of. A worker that loses its
//! connection has the lease's time to come back; its sessions go on. Times are arguments.

use super::{
    line::{Connected, Line},
    runner_api::RunnerApi,
    runners::{Runner, Runners},
};
use penstock_wire::live_worker::{Brought, LiveAnswer};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Silence is looked for so often in a lease.
const LOOKS: u32 = 4;

/// A worker's runners are not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotTaken {
    /// It is not known, or not any more: it has to come anew.
    #[error("no such worker")]
    Unknown,
    /// A bound is met; later there may be room.
    #[error("no more than {0} live runners of workers (--max-worker-live-runners)")]
    TooMany(usize),
}

struct Worker {
    line: Arc<Line>,
    runners: BTreeMap<u64, Arc<Runner>>,
    /// Runners that there was no room for.
    left_out: usize,
    heard: Instant,
}

/// All workers with live runners.
pub struct LiveWorkers {
    runners: Arc<Runners>,
    max_runners: usize,
    /// Calls that may wait for one worker.
    messages: usize,
    /// Silence that ends a worker.
    pub lease: Duration,
    workers: Mutex<HashMap<String, Worker>>,
}

impl LiveWorkers {
    /// Nobody yet; what they bring goes to `runners`.
    pub fn new(
        runners: Arc<Runners>,
        max_runners: usize,
        messages: usize,
        lease: Duration,
    ) -> Self {
        Self { runners, max_runners, messages, lease, workers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a worker is there, or may still come back.
    pub fn knows(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// A worker comes, or comes back. One that comes back is taken, whatever it brings; see [`Self::update`].
    pub fn serve(
        &self,
        id: &str,
        brought: &[Brought],
        now: Instant,
    ) -> Result<Connected, NotTaken> {
        let mut workers = self.lock();
        let (known, room) = (workers.contains_key(id), self.room(&workers, id));
        // There are as many workers as runners, at most: each costs an entry.
        if !known && (brought.len() > room || workers.len() >= self.max_runners) {
            return Err(NotTaken::TooMany(self.max_runners));
        }
        let worker = workers.entry(id.to_owned()).or_insert_with(|| Worker {
            line: Arc::default(),
            runners: BTreeMap::new(),
            left_out: 0,
            heard: now,
        });
        worker.heard = now;
        // Before its runners are there for others.
        let connected = worker.line.connect(self.messages);
        self.put(id, worker, brought, room);
        let runners = worker.runners.len();
        tracing::info!(worker = shown(id), runners, known, "a worker brings live runners");
        gauge(&workers);
        Ok(connected)
    }

    /// A worker says that it is there, and what it has: how much of it was left out for want of room. Its other
    /// runners, and their sessions, have nothing to do with that.
    pub fn update(&self, id: &str, brought: &[Brought], now: Instant) -> Result<usize, NotTaken> {
        let mut workers = self.lock();
        let room = self.room(&workers, id);
        let worker = workers.get_mut(id).ok_or(NotTaken::Unknown)?;
        worker.heard = now;
        self.put(id, worker, brought, room);
        let left_out = worker.left_out;
        gauge(&workers);
        Ok(left_out)
    }

    /// A runner's answer to a call.
    pub fn answer(&self, id: &str, answer: LiveAnswer) {
        let line = self.lock().get(id).map(|worker| Arc::clone(&worker.line));
        if let Some(line) = line {
            line.answer(answer);
        }
    }

    /// Forgets who was not heard of for the lease.
    pub fn sweep(&self, now: Instant) {
        let mut workers = self.lock();
        workers.retain(|id, worker| {
            let is_there = now.duration_since(worker.heard) < self.lease;
            if !is_there {
                tracing::warn!(worker = shown(id), "a worker with live runners is gone");
                self.runners.remove(worker.runners.values());
                worker.line.hang_up();
            }
            is_there
        });
        gauge(&workers);
    }

    /// The same, again and again until `stop`.
    pub async fn watch(&self, stop: CancellationToken) {
        let mut ticks = interval((self.lease / LOOKS).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.sweep(Instant::now()),
            }
        }
    }

    /// Hangs up on all of them, for the drain.
    pub fn stop(&self) {
        let mut workers = self.lock();
        for (_, worker) in workers.drain() {
            self.runners.remove(worker.runners.values());
            worker.line.hang_up();
        }
    }

    /// How many runners a worker may have beside those of the others.
    fn room(&self, workers: &HashMap<String, Worker>, id: &str) -> usize {
        let others = workers.iter().filter(|(other, _)| *other != id);
        let others: usize = others.map(|(_, worker)| worker.runners.len()).sum();
        self.max_runners.saturating_sub(others)
    }

    /// Those that are there already stay, with their sessions; what a runner is does not change in its life. New
    /// ones come for as long as there is room.
    fn put(&self, id: &str, worker: &mut Worker, brought: &[Brought], room: usize) {
        let is_named = |number: &u64| brought.iter().any(|b| b.runner_id == *number);
        let (gone, stay): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut worker.runners).into_iter().partition(|(n, _)| !is_named(n));
        self.runners.remove(gone.values());
        worker.runners = stay;
        let new = brought.iter().filter(|b| !worker.runners.contains_key(&b.runner_id));
        let new: Vec<_> = new
            .take(room.saturating_sub(worker.runners.len()))
            .map(|b| {
                let api = RunnerApi::at_worker(Arc::clone(&worker.line), id, b.runner_id);
                let runner = Runner::new(api, b.model_id.clone(), b.capacity);
                (b.runner_id, Arc::new(runner.described(&b.version, b.hardware.clone())))
            })
            .collect();
        self.runners.add(new.iter().map(|(_, runner)| Arc::clone(runner)));
        worker.runners.extend(new);
        let left_out = brought.len().saturating_sub(worker.runners.len());
        // At each sign of life it would be too much.
        if left_out > worker.left_out {
            let most = NotTaken::TooMany(self.max_runners);
            tracing::warn!(worker = shown(id), left_out, "{most}");
        }
        worker.left_out = left_out;
    }
}

/// A worker's name for the log: its begin.
fn shown(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(workers: &HashMap<String, Worker>) {
    let runners: usize = workers.values().map(|worker| worker.runners.len()).sum();
    metrics::gauge!("orchestrator_workers", "kind" => "live").set(workers.len() as f64);
    metrics::gauge!("orchestrator_worker_live_runners").set(runners as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(20);

    fn brought(numbers: &[u64]) -> Vec<Brought> {
        let one = |runner_id: &u64| Brought {
            runner_id: *runner_id,
            model_id: "noop".to_owned(),
            capacity: 1,
            version: String::new(),
            hardware: None,
        };
        numbers.iter().map(one).collect()
    }

    fn room(workers: &LiveWorkers) -> u64 {
        workers.runners.used("noop").1
    }

    #[tokio::test]
    async fn they_come_change_and_run_out() {
        let workers = LiveWorkers::new(Arc::default(), 3, 256, LEASE);
        let begin = Instant::now();
        assert_eq!(workers.update("a", &brought(&[1]), begin), Err(NotTaken::Unknown));
        let a = workers.serve("a", &brought(&[1, 2]), begin).unwrap();
        let _b = workers.serve("b", &brought(&[1]), begin).unwrap();
        assert_eq!(room(&workers), 3);
        assert_eq!(workers.serve("c", &brought(&[1]), begin).err(), Some(NotTaken::TooMany(3)));
        assert_eq!(workers.update("b", &brought(&[1, 2]), begin), Ok(1), "there is room for one");
        assert_eq!(room(&workers), 3);

        // One that was started again is another one; who stays is the same, with its sessions.
        let first = Arc::clone(&workers.lock()["a"].runners[&1]);
        workers.update("a", &brought(&[1, 3]), begin).unwrap();
        assert!(Arc::ptr_eq(&first, &workers.lock()["a"].runners[&1]));
        assert_eq!((room(&workers), workers.lock()["a"].runners.len()), (3, 2));

        // Without a connection it is remembered for the lease, and comes back as it was.
        drop(a);
        let later = begin + LEASE - Duration::from_millis(1);
        workers.sweep(later);
        let _again = workers.serve("a", &brought(&[1, 3]), later).unwrap();
        assert!(Arc::ptr_eq(&first, &workers.lock()["a"].runners[&1]));
        workers.sweep(begin + LEASE);
        assert_eq!((room(&workers), workers.lock().len()), (2, 1), "b has said nothing");
        workers.update("a", &[], later).unwrap();
        assert_eq!(room(&workers), 0);
        workers.sweep(later + LEASE);
        assert!(workers.lock().is_empty());
    }

    #[tokio::test]
    async fn what_has_no_room_costs_a_worker_nothing_else() {
        let workers = LiveWorkers::new(Arc::default(), 3, 256, LEASE);
        let begin = Instant::now();
        let a = workers.serve("a", &brought(&[1, 2]), begin).unwrap();
        let first = Arc::clone(&workers.lock()["a"].runners[&1]);
        // A runner of it dies, another worker takes the place, and the runner comes again as another one.
        workers.update("a", &brought(&[1]), begin).unwrap();
        let _b = workers.serve("b", &brought(&[1, 2]), begin).unwrap();
        let numbers = || workers.lock()["a"].runners.keys().copied().collect::<Vec<_>>();
        for beat in 1..9 {
            let now = begin + LEASE / 4 * beat;
            assert_eq!(workers.update("a", &brought(&[1, 3]), now), Ok(1));
            workers.update("b", &brought(&[1, 2]), now).unwrap();
            workers.sweep(now);
            assert_eq!((numbers(), room(&workers)), (vec![1], 3));
        }
        // Its stream may be lost meanwhile.
        drop(a);
        let now = begin + LEASE * 2;
        let _again = workers.serve("a", &brought(&[1, 3]), now).unwrap();
        assert!(Arc::ptr_eq(&first, &workers.lock()["a"].runners[&1]));
        // What is gone is taken away, and there is room as soon as others leave some.
        assert_eq!(workers.update("a", &brought(&[3, 4]), now), Ok(1));
        assert_eq!(numbers(), [3]);
        workers.update("b", &brought(&[]), now).unwrap();
        assert_eq!(workers.update("a", &brought(&[3, 4]), now), Ok(0));
        assert!(workers.knows("a") && !workers.knows("c"));
    }

    #[tokio::test]
    async fn workers_without_runners_are_bounded_too() {
        let workers = LiveWorkers::new(Arc::default(), 1, 256, LEASE);
        let _a = workers.serve("a", &[], Instant::now()).unwrap();
        let full = workers.serve("b", &[], Instant::now());
        assert_eq!(full.err(), Some(NotTaken::TooMany(1)));
        let again = workers.serve("a", &brought(&[1]), Instant::now()).unwrap();
        workers.stop();
        assert!(again.replaced.is_cancelled() && room(&workers) == 0);
    }
}
