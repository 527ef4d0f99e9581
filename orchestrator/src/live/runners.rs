//! Who does live video, and how much room there is for each model.

use super::{error::LiveError, health, runner_api::RunnerApi};
use penstock_domain::{Capabilities, Capability, CapabilitySet, ModelConstraint};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A runner that was not well, or did not start, is asked after all others for so long.
const BROKEN_FOR: Duration = Duration::from_secs(15);

/// One runner, as the operator configured it.
pub struct Runner {
    /// How it is spoken to.
    pub api: RunnerApi,
    /// The model that it serves.
    pub model: String,
    /// Sessions at once.
    pub capacity: u32,
    in_use: AtomicU32,
    broken_until: Mutex<Option<Instant>>,
}

/// All runners.
#[derive(Default)]
pub struct Runners(Vec<Arc<Runner>>);

/// Room for one session on one runner; given back when dropped.
pub struct Slot(Arc<Runner>);

impl Runner {
    /// A runner without sessions.
    pub fn new(api: RunnerApi, model: String, capacity: u32) -> Self {
        Self { api, model, capacity, in_use: AtomicU32::new(0), broken_until: Mutex::default() }
    }

    /// It was not well, or did not start a session.
    pub fn broke(&self) {
        *self.broken_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + BROKEN_FOR);
    }

    fn is_broken(&self, now: Instant) -> bool {
        let until = *self.broken_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let more = |used| (used < self.capacity).then_some(used + 1);
        self.in_use.fetch_update(SeqCst, SeqCst, more).ok().map(|_| Slot(Arc::clone(self)))
    }
}

impl Slot {
    /// Whose it is.
    pub fn runner(&self) -> &Runner {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, SeqCst);
    }
}

impl Runners {
    /// These.
    pub fn new(runners: impl IntoIterator<Item = Runner>) -> Self {
        Self(runners.into_iter().map(Arc::new).collect())
    }

    fn of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Arc<Runner>> {
        self.0.iter().filter(move |runner| runner.model == model)
    }

    /// Whether there is room for one more session, as far as is known without asking anybody.
    pub fn has_room(&self, model: &str) -> bool {
        self.of(model).any(|runner| runner.in_use.load(SeqCst) < runner.capacity)
    }

    /// How many sessions of a model there are, and how many there may be.
    pub fn used(&self, model: &str) -> (u64, u64) {
        let add = |(used, all): (u64, u64), runner: &Arc<Runner>| {
            (used + u64::from(runner.in_use.load(SeqCst)), all + u64::from(runner.capacity))
        };
        self.of(model).fold((0, 0), add)
    }

    /// Those of a model that may be asked, in order: who was broken a moment ago comes last.
    fn in_turn<'a>(&'a self, model: &'a str, tried: &[Slot], now: Instant) -> Vec<&'a Arc<Runner>> {
        let is_tried = |runner: &Arc<Runner>| tried.iter().any(|slot| Arc::ptr_eq(&slot.0, runner));
        let mut all: Vec<_> = self.of(model).filter(|runner| !is_tried(runner)).collect();
        all.sort_by_key(|runner| runner.is_broken(now));
        all
    }

    /// Room on a runner that says, now, that it is well; not on those that were tried.
    pub async fn reserve(&self, model: &str, tried: &[Slot]) -> Result<Slot, LiveError> {
        for runner in self.in_turn(model, tried, Instant::now()) {
            let Some(slot) = runner.take() else { continue };
            let said = runner.api.health().await;
            if health::can_begin(&said) {
                return Ok(slot);
            }
            runner.broke();
            tracing::warn!(runner = %runner.api.url(), model, ?said, "a live runner is not well");
        }
        Err(LiveError::Capacity)
    }

    /// Adds what the runners can do, with the sessions that they have.
    pub fn add_capabilities(&self, sum: &mut Capabilities) {
        let live = Capability::LiveVideoToVideo;
        for runner in &self.0 {
            let mut set = CapabilitySet::default();
            set.insert(live);
            let mut own = Capabilities { set, ..Capabilities::default() };
            own.capacities.insert(live.number(), runner.capacity);
            let offered = ModelConstraint {
                warm: true,
                capacity: runner.capacity,
                ..ModelConstraint::default()
            };
            own.models.entry(live.number()).or_default().insert(runner.model.clone(), offered);
            sum.add(&own);
            let entry = sum.models.get_mut(&live.number()).and_then(|m| m.get_mut(&runner.model));
            if let Some(entry) = entry {
                entry.capacity_in_use += runner.in_use.load(SeqCst);
            }
        }
    }

    /// For the operator.
    pub fn view(&self) -> Vec<Value> {
        let row = |runner: &Arc<Runner>| {
            json!({
                "url": runner.api.url().as_str(),
                "model": runner.model,
                "capacity": runner.capacity,
                "in_use": runner.in_use.load(SeqCst),
            })
        };
        self.0.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_and_given_back_and_advertised() {
        penstock_http_kit::tls::install_crypto_provider();
        let http = super::super::runner_api::client().unwrap();
        let runner = |capacity| {
            let api = RunnerApi::new(http.clone(), "http://127.0.0.1:1".parse().unwrap(), None);
            Runner::new(api, "noop".to_owned(), capacity)
        };
        let runners = Runners::new([runner(1), runner(2)]);
        let offered = || {
            let mut sum = Capabilities::default();
            runners.add_capabilities(&mut sum);
            let model = sum.model(Capability::LiveVideoToVideo, "noop").unwrap().clone();
            (model.capacity, model.capacity_in_use)
        };
        assert_eq!(offered(), (3, 0));
        let slots: Vec<_> = runners.0.iter().filter_map(Runner::take).collect();
        assert_eq!((slots.len(), offered()), (2, (3, 2)));
        assert!(runners.0[0].take().is_none() && runners.has_room("noop"));
        let last = runners.0[1].take();
        assert!(!runners.has_room("noop") && !runners.has_room("other"));
        drop((slots, last));
        assert_eq!(offered(), (3, 0));

        // Who broke a moment ago comes last, and who was tried not at all.
        let now = Instant::now();
        let turn = |tried: &[Slot]| -> Vec<u32> {
            runners.in_turn("noop", tried, now).iter().map(|runner| runner.capacity).collect()
        };
        assert_eq!(turn(&[]), [1, 2]);
        runners.0[0].broke();
        assert_eq!(turn(&[]), [2, 1]);
        let tried = [runners.0[1].take().unwrap()];
        assert_eq!(turn(&tried), [1]);
        assert!(!runners.0[0].is_broken(now + BROKEN_FOR * 2));
    }
}
