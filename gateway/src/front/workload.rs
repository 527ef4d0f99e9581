//! Two workloads, each with its own places, queue and share of memory, so that a flood of AI jobs
//! leaves a video segment's place free, and the reverse.
//!
//! A place is taken before a body is read and kept until the job is done. Who finds no place waits in
//! line, for a while and among at most so many; beyond that the answer is 503 with `Retry-After`.
//! A request that is read before it is known whether there is anything to do ([`Workloads::ask`]) has no
//! place yet; of these each caller may have as many as of jobs.

use crate::{
    config::front::{FrontSettings, LaneSettings},
    front::{
        caller::Caller,
        timing::{self, Phase},
    },
};
use penstock_domain::AuthId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Which kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Live video: a segment that is late is worth nothing.
    Video,
    /// AI jobs.
    Ai,
}

impl Workload {
    /// As in metrics and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Ai => "ai",
        }
    }
}

/// No place: the caller is to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Busy {
    /// As many wait as may.
    #[error("too many {} jobs are waiting", .0.name())]
    QueueFull(Workload),
    /// No place came free in time.
    #[error("no {} job ended in time to make room", .0.name())]
    Waited(Workload),
    /// This caller has as many jobs at work as one caller may have.
    #[error("{most} jobs of this caller are at work")]
    Caller {
        /// `--caller-max-in-flight`.
        most: usize,
    },
    /// The bodies of requests take as much memory as they may.
    #[error("too many uploads at a time")]
    Memory,
}

/// One workload's places.
#[derive(Debug)]
struct Lane {
    which: Workload,
    places: Arc<Semaphore>,
    /// One for each that may stand in line.
    line: Arc<Semaphore>,
    wait: Duration,
    /// KiB of bodies that this workload may hold.
    memory: Arc<Semaphore>,
}

impl Lane {
    fn new(which: Workload, settings: &LaneSettings, memory_kib: usize) -> Self {
        Self {
            which,
            places: Arc::new(Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS))),
            line: Arc::new(Semaphore::new(settings.queue.min(Semaphore::MAX_PERMITS))),
            wait: settings.queue_wait,
            memory: Arc::new(Semaphore::new(share(memory_kib))),
        }
    }
}

/// Three quarters: neither workload can take the last quarter from the other.
fn share(memory_kib: usize) -> usize {
    memory_kib.saturating_sub(memory_kib / 4).clamp(1, Semaphore::MAX_PERMITS)
}

/// Jobs at work of each caller.
type ByCaller = Arc<Mutex<HashMap<AuthId, usize>>>;

/// The places of this replica.
#[derive(Debug)]
pub struct Workloads {
    video: Lane,
    ai: Lane,
    memory: Arc<Semaphore>,
    callers: ByCaller,
    asking: ByCaller,
    per_caller: Option<usize>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    which: Workload,
    _place: OwnedSemaphorePermit,
    _caller: Option<CallerPlace>,
    memory: Memory,
}

/// Memory for the bodies of a workload's requests.
#[derive(Debug, Clone)]
pub struct Memory {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Workloads {
    /// From the settings.
    pub fn new(settings: &FrontSettings) -> Self {
        let kib = settings.max_buffered_bytes.div_ceil(1024).min(u32::MAX as usize);
        Self {
            video: Lane::new(Workload::Video, &settings.video, kib),
            ai: Lane::new(Workload::Ai, &settings.ai, kib),
            memory: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            callers: ByCaller::default(),
            asking: ByCaller::default(),
            per_caller: settings.caller_max_in_flight,
        }
    }

    /// A place for a job of this kind, after waiting in line if need be.
    pub async fn enter(&self, which: Workload, caller: &Caller) -> Result<Permit, Busy> {
        let lane = self.lane(which);
        let entered = self.place(lane, caller).await;
        note_busy(which, entered.as_ref().err());
        entered
    }

    /// One of a caller's requests that are read, or wait for another's answer, before they have a place:
    /// nobody's slow or many bodies take the memory from the others. Counted beside the jobs at work, so
    /// that a request may wait for one of them. Over when dropped; `None`: callers are not told apart.
    pub fn ask(&self, which: Workload, caller: &Caller) -> Result<Option<CallerPlace>, Busy> {
        let counted = self.count(&self.asking, caller);
        note_busy(which, counted.as_ref().err());
        counted
    }

    fn lane(&self, which: Workload) -> &Lane {
        match which {
            Workload::Video => &self.video,
            Workload::Ai => &self.ai,
        }
    }

    /// The memory of a workload, for what is read before there is a place.
    pub fn memory(&self, which: Workload) -> Memory {
        Memory { own: Arc::clone(&self.lane(which).memory), all: Arc::clone(&self.memory) }
    }

    async fn place(&self, lane: &Lane, caller: &Caller) -> Result<Permit, Busy> {
        // Before the line: a caller beyond their share must not fill it.
        let counted = self.count(&self.callers, caller)?;
        let place = match Arc::clone(&lane.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => timing::span(Phase::Queue, stand_in_line(lane)).await?,
        };
        Ok(self.permit(lane, place, counted))
    }

    /// A place that is free now, for a job that can as well begin later.
    pub fn enter_at_once(&self, which: Workload, caller: &Caller) -> Option<Permit> {
        let lane = self.lane(which);
        let counted = self.count(&self.callers, caller).ok()?;
        let place = Arc::clone(&lane.places).try_acquire_owned().ok()?;
        Some(self.permit(lane, place, counted))
    }

    fn permit(
        &self,
        lane: &Lane,
        place: OwnedSemaphorePermit,
        counted: Option<CallerPlace>,
    ) -> Permit {
        metrics::gauge!("penstock_gateway_in_flight", "workload" => lane.which.name())
            .increment(1.0);
        Permit {
            which: lane.which,
            _place: place,
            _caller: counted,
            memory: self.memory(lane.which),
        }
    }

    fn count(&self, all: &ByCaller, caller: &Caller) -> Result<Option<CallerPlace>, Busy> {
        let Some(most) = self.per_caller else { return Ok(None) };
        let mut callers = all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = callers.entry(caller.auth_id.clone()).or_default();
        if *count >= most {
            return Err(Busy::Caller { most });
        }
        *count += 1;
        let (callers, who) = (Arc::clone(all), caller.auth_id.clone());
        Ok(Some(CallerPlace { callers, who }))
    }
}

fn note_busy(which: Workload, busy: Option<&Busy>) {
    let Some(busy) = busy else { return };
    metrics::counter!("penstock_gateway_busy_total", "workload" => which.name()).increment(1);
    tracing::debug!(workload = which.name(), %busy, "no place for a job");
}

async fn stand_in_line(lane: &Lane) -> Result<OwnedSemaphorePermit, Busy> {
    let _in_line = lane.line.try_acquire().map_err(|_| Busy::QueueFull(lane.which))?;
    let place = tokio::time::timeout(lane.wait, Arc::clone(&lane.places).acquire_owned());
    match place.await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) | Err(_) => Err(Busy::Waited(lane.which)),
    }
}

impl Permit {
    /// Memory for the request's body.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Memory {
    /// Room for so many more KiB of a body, or `Busy::Memory`. Given back when dropped.
    pub fn room(&self, kib: u32) -> Result<[OwnedSemaphorePermit; 2], Busy> {
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(kib);
        let own = take(&self.own).map_err(|_| Busy::Memory)?;
        Ok([own, take(&self.all).map_err(|_| Busy::Memory)?])
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        metrics::gauge!("penstock_gateway_in_flight", "workload" => self.which.name())
            .decrement(1.0);
    }
}

/// One of a caller's places.
#[derive(Debug)]
pub struct CallerPlace {
    callers: ByCaller,
    who: AuthId,
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = callers.get_mut(&self.who) {
            *count = count.saturating_sub(1);
            // Nobody at work is not remembered, so that names cannot pile up.
            if *count == 0 {
                callers.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn caller(name: &str) -> Caller {
        Caller {
            auth_id: AuthId::new(name).unwrap(),
            tier: None,
            max_price: None,
            capabilities: None,
            idempotency_key: None,
            requests_per_second: None,
            requests_per_day: None,
        }
    }

    fn workloads(per_caller: Option<usize>) -> Workloads {
        patient(per_caller, Duration::from_secs(3_600))
    }

    fn patient(per_caller: Option<usize>, queue_wait: Duration) -> Workloads {
        let lane = |queue| LaneSettings { max_in_flight: 2, queue, queue_wait };
        Workloads::new(&FrontSettings {
            video: lane(4),
            ai: lane(1),
            caller_max_in_flight: per_caller,
            max_buffered_bytes: 8 << 20,
            ..crate::config::front::tests::settings(&[]).unwrap()
        })
    }

    #[tokio::test]
    async fn a_flood_of_ai_jobs_takes_no_place_of_videos() {
        let (all, bob) = (workloads(None), caller("a:bob"));
        // Three times what there is room for: two at work, one in line, three turned away at once.
        let mut flood: Vec<_> = (0..6).map(|_| Box::pin(all.enter(Workload::Ai, &bob))).collect();
        let mut at_work = Vec::new();
        let mut refused = 0;
        let mut waiting = Vec::new();
        for mut one in flood.drain(..) {
            match (&mut one).now_or_never() {
                Some(Ok(permit)) => at_work.push(permit),
                Some(Err(busy)) => {
                    assert_eq!(busy, Busy::QueueFull(Workload::Ai));
                    refused += 1;
                }
                None => waiting.push(one),
            }
        }
        assert_eq!((at_work.len(), waiting.len(), refused), (2, 1, 3));
        // Video finds every place of its own free, without a moment's wait.
        let video = [(); 2].map(|()| all.enter(Workload::Video, &bob).now_or_never().unwrap());
        assert!(video.iter().all(Result::is_ok));
        // Whoever is in line gets the first place that comes free.
        at_work.pop();
        assert!(waiting.pop().unwrap().now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn the_line_is_not_forever() {
        let (all, bob) = (patient(None, Duration::ZERO), caller("a:bob"));
        let _held = [(); 2].map(|()| all.enter(Workload::Ai, &bob).now_or_never().unwrap());
        assert_eq!(all.enter(Workload::Ai, &bob).await.unwrap_err(), Busy::Waited(Workload::Ai));
    }

    #[tokio::test]
    async fn one_caller_leaves_room_for_others() {
        let all = workloads(Some(1));
        let (bob, eve) = (caller("a:bob"), caller("a:eve"));
        let first = all.enter(Workload::Ai, &bob).await.unwrap();
        assert_eq!(all.enter(Workload::Video, &bob).await.unwrap_err(), Busy::Caller { most: 1 });
        let other = all.enter(Workload::Ai, &eve).await.unwrap();
        drop(first);
        let _again = all.enter(Workload::Video, &bob).await.unwrap();
        drop(other);
        assert_eq!(all.callers.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_one_caller_asks_before_there_is_a_place_is_counted() {
        let all = workloads(Some(1));
        let (bob, eve) = (caller("a:bob"), caller("a:eve"));
        let at_work = all.enter(Workload::Ai, &bob).await.unwrap();
        let asking = all.ask(Workload::Ai, &bob).unwrap();
        assert!(asking.is_some(), "beside the job at work, whose answer it may wait for");
        assert_eq!(all.ask(Workload::Ai, &bob).unwrap_err(), Busy::Caller { most: 1 });
        assert!(all.ask(Workload::Ai, &eve).is_ok());
        drop(asking);
        assert!(all.ask(Workload::Ai, &bob).is_ok());
        drop(at_work);
        assert!(all.asking.lock().unwrap().is_empty());
        assert!(workloads(None).ask(Workload::Ai, &bob).unwrap().is_none());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line() {
        let (all, bob) = (workloads(None), caller("a:bob"));
        let _held = [(); 2].map(|()| all.enter(Workload::Ai, &bob).now_or_never().unwrap());
        let mut first = Box::pin(all.enter(Workload::Ai, &bob));
        assert!((&mut first).now_or_never().is_none());
        drop(first);
        let mut second = Box::pin(all.enter(Workload::Ai, &bob));
        assert!((&mut second).now_or_never().is_none(), "the line had room again");
    }

    #[tokio::test]
    async fn a_quarter_of_the_memory_stays_for_the_other_workload() {
        let (all, bob) = (workloads(None), caller("a:bob"));
        let (ai, video) =
            (all.memory(Workload::Ai), all.enter(Workload::Video, &bob).await.unwrap());
        let video = video.memory();
        let held: Vec<_> = std::iter::from_fn(|| ai.room(1024).ok()).collect();
        assert_eq!(held.len(), 6, "of 8 MiB");
        let rest: Vec<_> = std::iter::from_fn(|| video.room(1024).ok()).collect();
        assert_eq!(rest.len(), 2);
        assert_eq!(video.room(1).unwrap_err(), Busy::Memory);
        drop(held);
        assert!(video.room(1024).is_ok());
    }
}
