//! All runners of this worker: who is up, who is free.
//!
//! A runner that has just died counts as there while it is restarted, so that one crash neither
//! fails the jobs of the next seconds nor makes the worker register anew. Of models in containers the
//! pool knows only how many jobs they take; a lender has the containers.

use super::{client::Endpoint, models::ModelEntry};
use futures::future::BoxFuture;
use penstock_domain::Capability;
use penstock_wire::hardware::Gpu;
use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

/// A runner that takes jobs.
#[derive(Debug)]
pub struct Live {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its version.
    pub version: String,
    /// The cards it sees.
    pub gpus: BTreeMap<String, Gpu>,
}

/// What is known of one runner.
#[derive(Debug, Clone)]
pub enum State {
    /// Not there; why, for the operator.
    Down(String),
    /// Takes jobs.
    Live(Arc<Live>),
    /// Was live, died, is coming back, presumably as it was.
    Restarting(Arc<Live>),
    /// The lender has one, or starts one for a job.
    OnDemand(Arc<Known>),
}

/// What is known of a runner that is not the pool's.
#[derive(Debug, Default)]
pub struct Known {
    /// Its version, as far as one has run.
    pub version: String,
    /// The cards it sees.
    pub gpus: BTreeMap<String, Gpu>,
}

/// A runner for one job, and what gives it back when it is dropped.
pub type Borrowed = (Arc<Live>, Box<dyn Any + Send + Sync>);

/// Has runners that the pool does not.
pub trait Lender: std::fmt::Debug + Send + Sync {
    /// A free runner of the model; starts one if there is room.
    fn borrow(
        &self,
        capability: Capability,
        model_id: &str,
    ) -> BoxFuture<'_, Result<Borrowed, NoCapacity>>;
}

/// One runner of the pool.
#[derive(Debug)]
pub struct Member {
    /// Its pipeline.
    pub capability: Capability,
    /// Its model.
    pub model_id: String,
    /// What the models file says about it.
    pub warm: bool,
    /// Jobs at once.
    pub capacity: u32,
    free: Arc<Semaphore>,
}

impl Member {
    /// A runner for `entry` that takes `capacity` jobs at once.
    pub fn new(entry: &ModelEntry, capacity: u32) -> Self {
        Self {
            capability: entry.capability,
            model_id: entry.model_id.clone(),
            warm: entry.warm,
            capacity,
            free: Arc::new(Semaphore::new(capacity as usize)),
        }
    }

    /// Whether it has sessions of live video, not jobs.
    pub fn is_live_video(&self) -> bool {
        self.capability == Capability::LiveVideoToVideo
    }
}

/// No runner can take the job; the text is the reference's (ai-pipelines.md section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no workers can process job requested")]
pub struct NoCapacity;

/// All runners.
#[derive(Debug)]
pub struct Pool {
    members: Vec<Member>,
    states: watch::Sender<Vec<State>>,
    lender: OnceLock<Arc<dyn Lender>>,
}

/// A runner with one of its slots; giving it back is dropping it.
#[derive(Debug)]
pub struct Lease {
    /// The runner.
    pub live: Arc<Live>,
    _slot: OwnedSemaphorePermit,
    _held: Option<Box<dyn Any + Send + Sync>>,
}

enum Found {
    Lease(Lease),
    /// The lender is to be asked.
    OnDemand(OwnedSemaphorePermit),
    /// None is live and free, but one is coming back.
    Coming,
    Nothing,
}

impl Pool {
    /// A pool whose runners are all down yet.
    pub fn new(members: Vec<Member>) -> Self {
        let down = vec![State::Down("starting".to_owned()); members.len()];
        Self { members, states: watch::Sender::new(down), lender: OnceLock::new() }
    }

    /// Asks `lender` for what is on demand.
    pub fn lend_from(&self, lender: Arc<dyn Lender>) {
        let _ = self.lender.set(lender);
    }

    /// The runners.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Notes what has become of runner `index`.
    pub fn set(&self, index: usize, state: State) {
        self.states.send_modify(|states| {
            if let Some(known) = states.get_mut(index) {
                *known = state;
            }
        });
    }

    /// Hears of every change.
    pub fn watch(&self) -> watch::Receiver<Vec<State>> {
        self.states.subscribe()
    }

    /// A free runner for the model. Waits up to `patience` for one that is being restarted, but
    /// not for busy ones: the orchestrator was told how many jobs we take.
    pub async fn lease(
        &self,
        capability: Capability,
        model_id: &str,
        patience: Duration,
    ) -> Result<Lease, NoCapacity> {
        let deadline = Instant::now() + patience;
        let mut states = self.states.subscribe();
        loop {
            let found = self.find(&states.borrow_and_update(), capability, model_id);
            match found {
                Found::Lease(lease) => return Ok(lease),
                Found::OnDemand(slot) => {
                    let lender = self.lender.get().ok_or(NoCapacity)?;
                    let (live, held) = lender.borrow(capability, model_id).await?;
                    return Ok(Lease { live, _slot: slot, _held: Some(held) });
                }
                Found::Nothing => return Err(NoCapacity),
                Found::Coming => match tokio::time::timeout_at(deadline, states.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return Err(NoCapacity),
                },
            }
        }
    }

    /// Waits up to `patience` until `lost` is no longer taken for live.
    pub async fn forgotten(&self, lost: &Arc<Live>, patience: Duration) {
        let mut states = self.states.subscribe();
        let gone = states.wait_for(|states| {
            !states.iter().any(|s| matches!(s, State::Live(live) if Arc::ptr_eq(live, lost)))
        });
        let _ = tokio::time::timeout(patience, gone).await;
    }

    fn find(&self, states: &[State], capability: Capability, model_id: &str) -> Found {
        let mut found = Found::Nothing;
        for (member, state) in self.members.iter().zip(states) {
            if member.capability != capability || member.model_id != model_id {
                continue;
            }
            match state {
                State::Live(live) => {
                    if let Ok(slot) = member.free.clone().try_acquire_owned() {
                        let live = live.clone();
                        return Found::Lease(Lease { live, _slot: slot, _held: None });
                    }
                }
                State::OnDemand(_) => {
                    if let Ok(slot) = member.free.clone().try_acquire_owned() {
                        return Found::OnDemand(slot);
                    }
                }
                State::Restarting(_) if member.free.available_permits() > 0 => {
                    found = Found::Coming
                }
                State::Restarting(_) | State::Down(_) => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::models;
    use futures::FutureExt;

    const MODEL: &str = "m";
    const WAIT: Duration = Duration::from_secs(60);

    fn pool(count: usize) -> Pool {
        let entry = &models::parse(r#"[{"pipeline":"audio-to-text","model_id":"m"}]"#).unwrap()[0];
        Pool::new((0..count).map(|_| Member::new(entry, 1)).collect())
    }

    fn described() -> Arc<Live> {
        let endpoint = Endpoint { url: "http://127.0.0.1:1".parse().unwrap(), token: None };
        Arc::new(Live { endpoint, version: "1.0.0".into(), gpus: BTreeMap::new() })
    }

    fn live() -> State {
        State::Live(described())
    }

    #[tokio::test]
    async fn slots_are_lent_and_come_back() {
        let pool = pool(2);
        let ask = || pool.lease(Capability::AudioToText, MODEL, WAIT).now_or_never().unwrap();
        assert_eq!(ask().unwrap_err(), NoCapacity);
        pool.set(0, live());
        pool.set(1, live());
        let (a, b) = (ask().unwrap(), ask().unwrap());
        assert!(!Arc::ptr_eq(&a.live, &b.live));
        // Busy is an answer, not a queue.
        assert_eq!(ask().unwrap_err(), NoCapacity);
        drop(a);
        assert!(ask().is_ok());
        let other = pool.lease(Capability::AudioToText, "n", WAIT).now_or_never().unwrap();
        assert_eq!(other.unwrap_err(), NoCapacity);
    }

    #[tokio::test]
    async fn a_restarting_runner_is_waited_for() {
        let pool = pool(1);
        pool.set(0, State::Restarting(described()));
        let mut waiting = Box::pin(pool.lease(Capability::AudioToText, MODEL, WAIT));
        assert!(waiting.as_mut().now_or_never().is_none());
        pool.set(0, live());
        assert!(waiting.await.is_ok());
        pool.set(0, State::Restarting(described()));
        let waiting = pool.lease(Capability::AudioToText, MODEL, WAIT);
        let (lease, ()) = tokio::join!(waiting, async { pool.set(0, State::Down("x".into())) });
        assert_eq!(lease.unwrap_err(), NoCapacity);
    }

    #[tokio::test]
    async fn a_dead_runner_is_forgotten() {
        let pool = pool(1);
        pool.set(0, live());
        let lease = pool.lease(Capability::AudioToText, MODEL, WAIT).await.unwrap();
        let mut gone = Box::pin(pool.forgotten(&lease.live, WAIT));
        assert!(gone.as_mut().now_or_never().is_none());
        pool.set(0, State::Restarting(described()));
        gone.await;
    }
}
