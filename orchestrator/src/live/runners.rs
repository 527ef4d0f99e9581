//! Who does live video, and how much room there is for each model.

use super::{
    error::{LiveError, RunnerError},
    health,
    runner_api::{Health, RunnerApi},
};
use crate::standing::{Standing, Turn};
use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use penstock_domain::{Address, Capabilities, Capability, CapabilitySet, ModelConstraint};
use penstock_wire::hardware::{Hardware, Room};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Runners of one worker that are asked how they are at the same time, beside the sessions.
const ASKED_AT_ONCE: usize = 32;

/// One runner, as the operator configured it or a worker has brought it.
pub struct Runner {
    /// How it is spoken to.
    pub api: RunnerApi,
    /// The model that it serves.
    pub model: String,
    /// Sessions at once.
    pub capacity: u32,
    version: String,
    hardware: Option<Hardware>,
    in_use: AtomicU32,
    /// Whether it answers and begins.
    standing: Mutex<Standing>,
    /// Whether what it has begun brings anything.
    output: Mutex<Standing>,
    /// Names of its cards, in lower case, where no worker says it; `None` until it was asked.
    cards: Mutex<Option<Vec<String>>>,
}

/// All runners; those of workers come and go. A session keeps its own, whatever becomes of the list.
#[derive(Default)]
pub struct Runners(RwLock<Arc<[Arc<Runner>]>>);

/// Room for one session on one runner; given back when dropped.
pub struct Slot(Arc<Runner>);

impl Runner {
    /// A runner without sessions.
    pub fn new(api: RunnerApi, model: String, capacity: u32) -> Self {
        Self {
            api,
            model,
            capacity,
            version: String::new(),
            hardware: None,
            in_use: AtomicU32::new(0),
            standing: Mutex::default(),
            output: Mutex::default(),
            cards: Mutex::default(),
        }
    }

    /// With what its worker says of it.
    pub fn described(self, version: &str, hardware: Option<Hardware>) -> Self {
        Self { version: version.to_owned(), hardware, ..self }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It did not begin a session of `sender`; whether the request is not to blame.
    pub fn did_not_begin(&self, sender: Address, is_its_fault: bool) {
        self.standing().failed(sender, is_its_fault, Instant::now());
    }

    /// It began a session of `sender`.
    pub fn began(&self, sender: Address) {
        self.standing().went_well_for(sender);
    }

    /// What came of a session that we began ourselves to see whether it does.
    pub fn was_tried(&self, began: bool) {
        let now = Instant::now();
        if began { self.standing().proved(now) } else { self.standing().failed_trial(now) }
    }

    fn output(&self) -> MutexGuard<'_, Standing> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of `sender` ended because it brought nothing, or nothing more. That it began the session, or begins
    /// others, says nothing against that.
    pub fn brought_nothing(&self, sender: Address) {
        self.output().failed(sender, true, Instant::now());
    }

    /// It brings something to a session of `sender`: whatever others say, it works.
    pub fn brings(&self, sender: Address) {
        self.output().went_well_for(sender);
    }

    fn cards(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is, and once, when it is there, what it runs on.
    async fn ask(&self) {
        let said = self.api.health().await;
        self.heard(&said);
        let is_known = self.hardware.is_some() || self.cards().is_some();
        if said.is_ok() && !is_known {
            let cards = self.api.cards().await;
            *self.cards() = Some(cards);
        }
    }

    fn turn(&self, sender: Option<Address>, now: Instant) -> Turn {
        let begins = self.standing().turn(sender, now);
        begins.max(self.output().turn(sender, now))
    }

    /// Notes what it said of itself, or that it said nothing.
    fn heard(&self, said: &Result<Health, RunnerError>) {
        use RunnerError::{Unreachable, WorkerAway};
        let answers = !matches!(said, Err(Unreachable(_) | WorkerAway { .. }));
        if !answers {
            // It may come back on other cards.
            *self.cards() = None;
        }
        let mut standing = self.standing();
        standing.answered(answers);
        if answers && !health::can_begin(said) {
            standing.was_unwell(Instant::now());
        }
    }

    fn has_room(&self, now: Instant) -> bool {
        self.in_use.load(SeqCst) < self.capacity && self.turn(None, now) != Turn::Out
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

    /// The same, to be remembered.
    pub fn shared(&self) -> Arc<Runner> {
        Arc::clone(&self.0)
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
        Self(RwLock::new(runners.into_iter().map(Arc::new).collect()))
    }

    /// Those that there are now.
    fn all(&self) -> Arc<[Arc<Runner>]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, model: &str) -> Vec<Arc<Runner>> {
        self.all().iter().filter(|runner| runner.model == model).cloned().collect()
    }

    /// These too, from now on.
    pub fn add(&self, more: impl IntoIterator<Item = Arc<Runner>>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *all = all.iter().cloned().chain(more).collect();
    }

    /// These no longer: nothing begins there any more.
    pub fn remove<'a>(&self, gone: impl IntoIterator<Item = &'a Arc<Runner>>) {
        let gone: Vec<_> = gone.into_iter().collect();
        if gone.is_empty() {
            return;
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let stays = |runner: &&Arc<Runner>| !gone.iter().any(|gone| Arc::ptr_eq(gone, runner));
        *all = all.iter().filter(stays).cloned().collect();
    }

    /// Whether there is room for one more session, as far as is known without asking anybody.
    pub fn has_room(&self, model: &str) -> bool {
        let now = Instant::now();
        self.of(model).iter().any(|runner| runner.has_room(now))
    }

    /// How many sessions of a model there are, and how many there may be.
    pub fn used(&self, model: &str) -> (u64, u64) {
        let add = |(used, all): (u64, u64), runner: &Arc<Runner>| {
            (used + u64::from(runner.in_use.load(SeqCst)), all + u64::from(runner.capacity))
        };
        self.of(model).iter().fold((0, 0), add)
    }

    /// Those of a model that may be asked for a sender, in order.
    fn in_turn(
        &self,
        model: &str,
        sender: Address,
        tried: &[Arc<Runner>],
        now: Instant,
    ) -> Vec<Arc<Runner>> {
        let is_tried = |runner: &Arc<Runner>| tried.iter().any(|tried| Arc::ptr_eq(tried, runner));
        let mut all: Vec<_> = self
            .of(model)
            .into_iter()
            .filter(|runner| !is_tried(runner))
            .map(|runner| (runner.turn(Some(sender), now), runner))
            .filter(|(turn, _)| *turn != Turn::Out)
            .collect();
        all.sort_by_key(|(turn, _)| *turn);
        all.into_iter().map(|(_, runner)| runner).collect()
    }

    /// Room on those that several senders say do not begin, and that nobody has begun since: to try whether they do.
    /// A session of a hosted runner is paid to its host: they are not tried.
    pub fn doubted(&self) -> Vec<Slot> {
        let now = Instant::now();
        let is_tried = |runner: &&Arc<Runner>| !runner.api.is_hosted();
        let is_doubted = |runner: &&Arc<Runner>| runner.standing().is_doubted(now);
        self.all().iter().filter(is_tried).filter(is_doubted).filter_map(Runner::take).collect()
    }

    /// Room on a runner that says, now, that it is well; not on those that were tried. One that did not
    /// answer when it was asked last is not waited for, and one that fails this sender's starts not asked.
    pub async fn reserve(
        &self,
        model: &str,
        sender: Address,
        tried: &[Arc<Runner>],
    ) -> Result<Slot, LiveError> {
        for runner in self.in_turn(model, sender, tried, Instant::now()) {
            let Some(slot) = runner.take() else { continue };
            let said = runner.api.health_at_start().await;
            runner.heard(&said);
            if health::can_begin(&said) {
                return Ok(slot);
            }
            tracing::warn!(runner = runner.api.place(), model, ?said, "a live runner is not well");
        }
        Err(LiveError::Capacity)
    }

    /// Those that have a line in common, by its place in memory; others are for themselves.
    fn by_line(&self) -> HashMap<usize, Vec<Arc<Runner>>> {
        let mut lines: HashMap<_, Vec<_>> = HashMap::new();
        for runner in self.all().iter() {
            let own = || Arc::as_ptr(runner).addr();
            let line = runner.api.line().map_or_else(own, |line| Arc::as_ptr(line).addr());
            lines.entry(line).or_default().push(Arc::clone(runner));
        }
        lines
    }

    /// Asks all of them how they are, again and again until `stop`, so that no start waits for one that is not
    /// there. Nobody waits for another worker's runners, or for another one of the operator's.
    pub async fn watch(&self, every: Duration, stop: CancellationToken) {
        let asking = async {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut asked, mut rounds) = (HashSet::new(), FuturesUnordered::new());
            loop {
                tokio::select! {
                    _ = ticks.tick() => for (line, runners) in self.by_line() {
                        if asked.insert(line) {
                            rounds.push(ask_all(line, runners));
                        }
                    },
                    Some(line) = rounds.next() => {
                        asked.remove(&line);
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = asking => {}
        }
    }

    /// Adds what the runners can do, with the sessions that they have.
    pub fn add_capabilities(&self, sum: &mut Capabilities) {
        let (live, now) = (Capability::LiveVideoToVideo, Instant::now());
        for runner in self.all().iter() {
            let mut set = CapabilitySet::default();
            set.insert(live);
            let mut own = Capabilities { set, ..Capabilities::default() };
            own.capacities.insert(live.number(), runner.capacity);
            let offered = ModelConstraint {
                warm: true,
                capacity: runner.capacity,
                runner_version: runner.version.clone(),
                ..ModelConstraint::default()
            };
            own.models.entry(live.number()).or_default().insert(runner.model.clone(), offered);
            sum.add(&own);
            let entry = sum.models.get_mut(&live.number()).and_then(|m| m.get_mut(&runner.model));
            if let Some(entry) = entry {
                // One that is left out has no room for anybody.
                let is_out = runner.turn(None, now) == Turn::Out;
                let used = if is_out { runner.capacity } else { runner.in_use.load(SeqCst) };
                entry.capacity_in_use = entry.capacity_in_use.saturating_add(used);
            }
        }
    }

    /// Names of the cards that serve a model, in lower case, as far as they are known.
    pub fn cards(&self, model: &str) -> Vec<String> {
        let known = |runner: &Arc<Runner>| -> Vec<String> {
            match &runner.hardware {
                Some(told) => told.gpus.values().map(|gpu| gpu.name.to_lowercase()).collect(),
                None => runner.cards().clone().unwrap_or_default(),
            }
        };
        self.of(model).iter().flat_map(known).collect()
    }

    /// What the runners of workers run on, as far as there is room for it.
    pub fn hardware(&self, room: &mut Room) -> Vec<Hardware> {
        let all = self.all();
        let all = all.iter().filter_map(|runner| runner.hardware.as_ref());
        all.filter(|hardware| room.takes(hardware)).cloned().collect()
    }

    /// For the operator.
    pub fn view(&self) -> Vec<Value> {
        let now = Instant::now();
        let row = |runner: &Arc<Runner>| {
            json!({
                "url": runner.api.place(),
                "model": runner.model,
                "capacity": runner.capacity,
                "in_use": runner.in_use.load(SeqCst),
                "is_left_out": runner.turn(None, now) == Turn::Out,
            })
        };
        self.all().iter().map(row).collect()
    }
}

/// How runners that share a line are; returns the line.
async fn ask_all(line: usize, runners: Vec<Arc<Runner>>) -> usize {
    let ask = |runner: Arc<Runner>| async move { runner.ask().await };
    stream::iter(runners).for_each_concurrent(ASKED_AT_ONCE, ask).await;
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::line::Line;
    use penstock_wire::live_worker::LiveAnswer;

    #[test]
    fn room_is_taken_and_given_back_and_advertised() {
        penstock_http_kit::tls::install_crypto_provider();
        let http = super::super::runner_api::client().unwrap();
        let runner = |capacity| {
            let api = RunnerApi::new(http.clone(), "http://127.0.0.1:1".parse().unwrap(), None, 64);
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
        let all = runners.all();
        let slots: Vec<_> = all.iter().filter_map(Runner::take).collect();
        assert_eq!((slots.len(), offered()), (2, (3, 2)));
        assert!(all[0].take().is_none() && runners.has_room("noop"));
        let last = all[1].take();
        assert!(!runners.has_room("noop") && !runners.has_room("other"));
        drop((slots, last));
        assert_eq!(offered(), (3, 0));

        // Who broke a moment ago comes last, who was tried or does not answer not at all.
        let now = Instant::now();
        let (sender, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let turn_of = |sender: Address, tried: &[Arc<Runner>]| -> Vec<u32> {
            let order = runners.in_turn("noop", sender, tried, now);
            order.iter().map(|runner| runner.capacity).collect()
        };
        let turn = |tried: &[Arc<Runner>]| turn_of(sender, tried);
        assert_eq!(turn(&[]), [1, 2]);
        all[0].did_not_begin(sender, false);
        assert_eq!(turn(&[]), [2, 1]);
        assert_eq!(turn(&[Arc::clone(&all[1])]), [1]);
        all[0].heard(&Err(RunnerError::Unreachable("it took too long".to_owned())));
        assert_eq!((turn(&[]), offered()), (vec![2], (3, 1)));
        all[1].heard(&Err(RunnerError::Malformed));
        assert!(runners.has_room("noop"), "it answers, whatever it says");
        (0..3).for_each(|_| all[1].did_not_begin(sender, true));
        assert_eq!((turn(&[]), turn_of(other, &[]), offered()), (vec![], vec![2], (3, 1)));
        // A second one's word is for itself, a third one's for all, until we know better.
        (0..2).for_each(|_| all[1].did_not_begin(other, true));
        assert_eq!(turn_of(other, &[]), [2]);
        assert!(runners.doubted().is_empty());
        (0..2).for_each(|_| all[1].did_not_begin(Address::repeat_byte(3), true));
        assert!(turn_of(other, &[]).is_empty() && !runners.has_room("noop"));
        let [tried] = &runners.doubted()[..] else { panic!() };
        assert_eq!(tried.runner().capacity, 2);
        tried.runner().was_tried(false);
        assert!(runners.doubted().is_empty() && !runners.has_room("noop"));
        tried.runner().was_tried(true);
        assert_eq!((turn_of(other, &[]), turn(&[])), (vec![2], vec![]));
        // What is brought to one is seen by all, and what one says that none was is its own.
        for who in 1..=3 {
            (0..2).for_each(|_| all[1].brought_nothing(Address::repeat_byte(who)));
        }
        assert!(!runners.has_room("noop"));
        all[1].brings(Address::repeat_byte(9));
        assert!(runners.has_room("noop"));
        all[0].heard(&Ok(Health::Idle));
        assert_eq!(turn(&[]), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_worker_that_does_not_answer() {
        const EVERY: Duration = Duration::from_secs(1);
        let (hung, well) = (Arc::new(Line::default()), Arc::new(Line::default()));
        let (_silent, mut connected) = (hung.connect(9), well.connect(9));
        let runner = |line: &Arc<Line>, number| {
            Runner::new(RunnerApi::at_worker(Arc::clone(line), "w", number), "noop".to_owned(), 1)
        };
        // More than are asked at once.
        let hung = (0..200).map(|number| runner(&hung, number));
        let runners = Runners::new(hung.chain([runner(&well, 1)]));
        let begun = Instant::now();
        let answers = async {
            for _ in 0..4 {
                let call_id = connected.calls.recv().await.unwrap().call_id;
                let body = br#"{"status":"IDLE"}"#.to_vec();
                well.answer(LiveAnswer { call_id, status: 200, body, ..LiveAnswer::default() });
            }
        };
        tokio::select! {
            () = runners.watch(EVERY, CancellationToken::new()) => {}
            () = answers => {}
        }
        assert_eq!(begun.elapsed().as_secs(), 3, "at once, and then at each interval");
    }
}
