//! Runner containers (ai-pipelines.md section 8.2): which model has one on which card, who has
//! borrowed it, when one is started, evicted, found sick, started again and removed.
//!
//! A place is a card, or a share of one; it holds one container. Warm models, and those of live video, have theirs
//! from the start on. Others get one for a job, on a free place or in the stead of an idle container that is not
//! warm, and keep it until somebody else needs the place.

use super::{
    client::{Endpoint, Health, RunnerClient, RunnerHttp},
    pool::{Borrowed, Known, Lender, Live, NoCapacity, Pool, State},
    runner::describe,
};
use crate::link::backoff::Backoff;
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use penstock_containers::{Engine, Gpu, Images, Look, Plan, Wanted, plan};
use penstock_domain::Capability;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often and how long one looks. Those of the reference by default.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Between looks at a container that starts.
    pub start_poll: Duration,
    /// From started to running, and from running to the first good word of the runner.
    pub ready: Duration,
    /// The same for a model with flags.
    pub ready_with_flags: Duration,
    /// How long a runner may say that it is loading.
    pub loading: Duration,
    /// Between looks at one that runs.
    pub watch: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            start_poll: Duration::from_millis(500),
            ready: Duration::from_secs(180),
            ready_with_flags: Duration::from_secs(300),
            loading: Duration::from_secs(180),
            watch: Duration::from_secs(5),
        }
    }
}

/// Failed looks in a row before a container is given up.
const PATIENCE: u32 = 2;
/// Between tries to start a warm container, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A container that lived this long did not die of its start.
const SETTLED: Duration = Duration::from_secs(60);
/// How long removing everything may take at the end.
const FAREWELL: Duration = Duration::from_secs(40);

/// What containers are made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Images.
    pub images: Images,
    /// Places, the first ones first.
    pub places: Vec<Gpu>,
    /// The folder of models on this machine.
    pub models_dir: PathBuf,
    /// Let runners say more.
    pub verbose: bool,
}

/// A model that is served by containers, and the pool's members that stand for it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The pipeline.
    pub capability: Capability,
    /// The model.
    pub model_id: String,
    /// Settings of the runner.
    pub flags: BTreeMap<String, String>,
    /// Has containers from the start on: one for each member.
    pub warm: bool,
    /// Indices in the pool.
    pub members: Vec<usize>,
}

impl Model {
    /// Whether its containers have sessions of live video, not jobs.
    fn is_live_video(&self) -> bool {
        self.capability == Capability::LiveVideoToVideo
    }
}

/// All containers of this worker.
#[derive(Debug)]
pub struct Containers {
    engine: Engine,
    settings: Settings,
    timings: Timings,
    http: RunnerHttp,
    places: Mutex<BTreeMap<Gpu, Place>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
enum Place {
    /// Something is being started or removed there.
    Busy,
    Holds(Arc<Container>, Use),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Idle,
    Borrowed,
    /// It says that it is loading: nobody gets it.
    Loading,
}

#[derive(Debug)]
struct Container {
    id: String,
    name: String,
    place: Gpu,
    capability: Capability,
    model_id: String,
    warm: bool,
    live: Arc<Live>,
    /// Cancelled when it is no more.
    gone: CancellationToken,
}

impl Container {
    fn serves(&self, capability: Capability, model_id: &str) -> bool {
        self.capability == capability && self.model_id == model_id
    }
}

/// Gives a container back.
struct Loan {
    containers: Arc<Containers>,
    container: Arc<Container>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.containers.change(&self.container, |use_| match use_ {
            Use::Borrowed => Use::Idle,
            other => other,
        });
    }
}

/// What a look over the places found.
enum Pick {
    Idle(Arc<Container>),
    Free(Gpu),
    Evict(Arc<Container>),
    Nothing,
}

impl Containers {
    /// No container yet; what an earlier life of this worker left is removed.
    pub async fn new(
        engine: Engine,
        settings: Settings,
        timings: Timings,
        http: RunnerHttp,
    ) -> Result<Arc<Self>, penstock_containers::EngineError> {
        for name in engine.remove_leftovers().await? {
            tracing::info!(name, "a container of an earlier worker is removed");
        }
        Ok(Arc::new(Self {
            engine,
            settings,
            timings,
            http,
            places: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Keeps `models` served until `stop`, telling the pool what can be had; then removes every
    /// container.
    pub async fn keep(
        self: Arc<Self>,
        models: Vec<Model>,
        pool: Arc<Pool>,
        stop: CancellationToken,
    ) {
        pool.lend_from(Arc::new(Desk(Arc::clone(&self))));
        let mut keepers = Vec::new();
        for mut model in models {
            // Nobody waits for a session until a container has started.
            model.warm |= model.is_live_video();
            let members = match model.warm {
                true => model.members.iter().map(|member| vec![*member]).collect(),
                false => vec![model.members.clone()],
            };
            for members in members {
                keepers.push(self.keep_model(model.clone(), members, &pool));
            }
        }
        tokio::select! {
            _ = join_all(keepers) => stop.cancelled().await,
            () = stop.cancelled() => {}
        }
        // Who watches a container removes it now; who starts one removes what there is of it.
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(FAREWELL, self.tasks.wait()).await.is_err() {
            tracing::error!("containers are left behind; the next start removes them");
        }
    }

    async fn keep_model(self: &Arc<Self>, model: Model, members: Vec<usize>, pool: &Arc<Pool>) {
        let say = |state: State| members.iter().for_each(|member| pool.set(*member, state.clone()));
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let reason = match self.have_image(&model, &say).await {
                Err(reason) => reason,
                Ok(()) if !model.warm => {
                    say(State::OnDemand(Arc::default()));
                    return;
                }
                Ok(()) => match self.start_warm(&model).await {
                    Err(reason) => reason,
                    Ok(container) => {
                        let since = Instant::now();
                        say(match model.is_live_video() {
                            // Its own for as long as it is there: warm ones are not evicted, and jobs
                            // do not borrow them.
                            true => State::Live(container.live.clone()),
                            false => {
                                let Live { version, gpus, .. } = container.live.as_ref();
                                let known = Known { version: version.clone(), gpus: gpus.clone() };
                                State::OnDemand(Arc::new(known))
                            }
                        });
                        container.gone.cancelled().await;
                        metrics::counter!("penstock_worker_runner_restarts_total", "model" => model.model_id.clone())
                            .increment(1);
                        say(State::Restarting(container.live.clone()));
                        if since.elapsed() > SETTLED {
                            backoff.reset();
                        }
                        tokio::time::sleep(backoff.next(rand::random())).await;
                        continue;
                    }
                },
            };
            let model_id = &model.model_id;
            tracing::warn!(model_id, reason, "no container for a model");
            say(State::Down(reason));
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    async fn have_image(&self, model: &Model, say: &impl Fn(State)) -> Result<(), String> {
        let pipeline = model.capability.pipeline();
        let image = self.settings.images.of(&pipeline, &model.model_id);
        let image = image.ok_or("no container image is known for it")?;
        if !self.engine.has_image(&image).await.map_err(|e| e.to_string())? {
            say(State::Down(format!("its image {image} is being pulled")));
            tracing::info!(image, "pulling an image");
            self.engine.pull(&image).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    async fn start_warm(self: &Arc<Self>, model: &Model) -> Result<Arc<Container>, String> {
        let pick = self.pick(None);
        let (id, flags) = (model.model_id.clone(), model.flags.clone());
        let started = self.launch(pick, model.capability, id, flags, true);
        started.await.map_err(|error| error.to_string())?
    }

    /// Puts a container on the place that was picked and looks after it, in a task of its own: a job
    /// that is given up meanwhile must not leave half a container.
    fn launch(
        self: &Arc<Self>,
        pick: Pick,
        capability: Capability,
        model_id: String,
        flags: BTreeMap<String, String>,
        warm: bool,
    ) -> JoinHandle<Result<Arc<Container>, String>> {
        let containers = Arc::clone(self);
        self.tasks.spawn(async move {
            let place = match pick {
                Pick::Free(place) => place,
                Pick::Evict(container) => containers.evict(&container).await?,
                Pick::Idle(_) | Pick::Nothing => {
                    return Err("insufficient capacity: no card is free".to_owned());
                }
            };
            let container = containers.start(&place, capability, &model_id, &flags, warm).await?;
            let (watcher, watched) = (Arc::clone(&containers), Arc::clone(&container));
            containers.tasks.spawn(async move { watcher.watch(&watched).await });
            Ok(container)
        })
    }

    /// Looks the places over, and marks what it finds as taken.
    fn pick(&self, wanted: Option<(Capability, &str)>) -> Pick {
        let mut places = self.lock();
        let found = wanted.and_then(|(capability, model_id)| {
            places.values_mut().find_map(|place| match place {
                Place::Holds(container, use_ @ Use::Idle)
                    if container.serves(capability, model_id) =>
                {
                    *use_ = Use::Borrowed;
                    Some(Arc::clone(container))
                }
                _ => None,
            })
        });
        if let Some(container) = found {
            return Pick::Idle(container);
        }
        let free = self.settings.places.iter().find(|place| !places.contains_key(*place));
        if let Some(place) = free {
            places.insert(place.clone(), Place::Busy);
            return Pick::Free(place.clone());
        }
        let idle = places.values_mut().find_map(|place| match place {
            Place::Holds(container, Use::Idle) if !container.warm => {
                let container = Arc::clone(container);
                *place = Place::Busy;
                Some(container)
            }
            _ => None,
        });
        idle.map_or(Pick::Nothing, Pick::Evict)
    }

    async fn evict(&self, container: &Arc<Container>) -> Result<Gpu, String> {
        let name = &container.name;
        tracing::info!(name, "a container makes room for another");
        match self.engine.remove(&container.id).await {
            Ok(()) => {
                container.gone.cancel();
                Ok(container.place.clone())
            }
            Err(error) => {
                let held = Place::Holds(Arc::clone(container), Use::Idle);
                self.lock().insert(container.place.clone(), held);
                Err(error.to_string())
            }
        }
    }

    /// Starts a container on a place that is held for it, waits until its model is loaded, and has it
    /// watched. A place that got nothing is free again.
    async fn start(
        &self,
        place: &Gpu,
        capability: Capability,
        model_id: &str,
        flags: &BTreeMap<String, String>,
        warm: bool,
    ) -> Result<Arc<Container>, String> {
        let pipeline = capability.pipeline();
        let wanted = Wanted {
            pipeline: &pipeline,
            model_id,
            flags,
            gpu: place,
            models_dir: &self.settings.models_dir,
            verbose: self.settings.verbose,
        };
        let begun = match plan(&self.settings.images, &wanted) {
            Ok(plan) => {
                let limit = match flags.is_empty() {
                    true => self.timings.ready,
                    false => self.timings.ready_with_flags,
                };
                self.begin(&plan, limit).await.map(|(id, live)| (id, plan.name, live))
            }
            Err(error) => Err(error.to_string()),
        };
        let (id, name, live) = match begun {
            Ok(begun) => begun,
            Err(reason) => {
                self.lock().remove(place);
                return Err(reason);
            }
        };
        let container = Arc::new(Container {
            id,
            name,
            place: place.clone(),
            capability,
            model_id: model_id.to_owned(),
            warm,
            live,
            gone: CancellationToken::new(),
        });
        let (name, gpu) = (&container.name, place.to_string());
        tracing::info!(name, gpu, version = container.live.version, "a container is ready");
        let held = Place::Holds(Arc::clone(&container), Use::Idle);
        self.lock().insert(place.clone(), held);
        self.record();
        Ok(container)
    }

    /// From nothing to a runner whose model is loaded, or to nothing again.
    async fn begin(&self, plan: &Plan, limit: Duration) -> Result<(String, Arc<Live>), String> {
        tracing::info!(
            name = plan.name,
            image = plan.image,
            card = plan.card,
            "starting a container"
        );
        let id = self.engine.start(plan).await.map_err(|e| e.to_string())?;
        let up = async {
            let port = within(limit, "did not run", self.wait_running(&id)).await?;
            let url = format!("http://127.0.0.1:{port}").parse();
            let url = url.map_err(|_| "has no address".to_owned())?;
            let endpoint = Endpoint { url, token: None };
            let client = RunnerClient::new(self.http.clone(), endpoint.clone());
            let loading = within(limit, "did not answer", self.wait_answer(&client)).await?;
            if loading {
                let loaded = self.wait_loaded(&client);
                within(self.timings.loading, "did not load its model", loaded).await?;
            }
            Ok::<_, String>(Arc::new(describe(&client, endpoint).await))
        };
        let up = tokio::select! {
            up = up => up,
            () = self.stop.cancelled() => Err("was stopped".to_owned()),
        };
        match up {
            Ok(live) => Ok((id, live)),
            Err(reason) => {
                self.engine.remove_or_say(&id).await;
                Err(format!("container {} {reason}", plan.name))
            }
        }
    }

    async fn wait_running(&self, id: &str) -> Result<u16, String> {
        loop {
            match self.engine.look(id).await {
                Ok(Look::Running(port)) => return Ok(port),
                Ok(Look::Coming) => tokio::time::sleep(self.timings.start_poll).await,
                Err(error) => return Err(format!("failed: {error}")),
            }
        }
    }

    /// Waits for the first good word; `true`: it is loading yet.
    async fn wait_answer(&self, client: &RunnerClient) -> Result<bool, String> {
        loop {
            match client.health().await {
                Ok(Health::Ready) => return Ok(false),
                Ok(Health::Loading) => return Ok(true),
                Ok(Health::Broken) => return Err("reports an error".to_owned()),
                Err(_) => tokio::time::sleep(self.timings.start_poll).await,
            }
        }
    }

    async fn wait_loaded(&self, client: &RunnerClient) -> Result<(), String> {
        loop {
            match client.health().await {
                Ok(Health::Ready) => return Ok(()),
                Ok(Health::Broken) => return Err("reports an error".to_owned()),
                Ok(Health::Loading) | Err(_) => tokio::time::sleep(self.timings.start_poll).await,
            }
        }
    }

    /// Looks after a container until it is gone.
    async fn watch(&self, container: &Arc<Container>) {
        let client = RunnerClient::new(self.http.clone(), container.live.endpoint.clone());
        let (mut failures, mut loading) = (0, None::<Instant>);
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.timings.watch) => {}
                () = container.gone.cancelled() => return,
                () = self.stop.cancelled() => return self.destroy(container).await,
            }
            match client.health().await {
                Ok(Health::Ready) => {
                    (failures, loading) = (0, None);
                    self.change(container, |use_| match use_ {
                        Use::Loading => Use::Idle,
                        other => other,
                    });
                }
                Ok(Health::Loading) => {
                    let since = *loading.get_or_insert_with(Instant::now);
                    self.change(container, |use_| match use_ {
                        Use::Idle => Use::Loading,
                        other => other,
                    });
                    failures =
                        if since.elapsed() > self.timings.loading { failures + 1 } else { 0 };
                }
                Ok(Health::Broken) => failures = PATIENCE,
                Err(error) => {
                    tracing::debug!(%error, name = container.name, "no health");
                    failures += 1;
                }
            }
            if failures >= PATIENCE {
                tracing::warn!(name = container.name, "a container is not well, it is removed");
                self.destroy(container).await;
                return;
            }
        }
    }

    /// Removes a container, whoever has it. Its place is free afterwards.
    async fn destroy(&self, container: &Arc<Container>) {
        {
            let mut places = self.lock();
            match places.get_mut(&container.place) {
                Some(place @ Place::Holds(..)) if holds(place, container) => *place = Place::Busy,
                // Somebody else is at it.
                _ => return,
            }
        }
        self.engine.remove_or_say(&container.id).await;
        self.lock().remove(&container.place);
        container.gone.cancel();
        self.record();
    }

    fn change(&self, container: &Arc<Container>, to: impl Fn(Use) -> Use) {
        if let Some(Place::Holds(held, use_)) = self.lock().get_mut(&container.place)
            && Arc::ptr_eq(held, container)
        {
            *use_ = to(*use_);
        }
        self.record();
    }

    /// Containers in use and idle, over all models; places without a container.
    pub fn capacity(&self) -> (usize, usize, usize) {
        let places = self.lock();
        let idle = |place: &&Place| matches!(place, Place::Holds(_, Use::Idle));
        let idle = places.values().filter(idle).count();
        (places.len() - idle, idle, self.settings.places.len().saturating_sub(places.len()))
    }

    fn record(&self) {
        let (in_use, idle, free) = self.capacity();
        for (state, count) in [("in_use", in_use), ("idle", idle), ("free_places", free)] {
            metrics::gauge!("penstock_worker_containers", "state" => state).set(count as f64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Gpu, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds(place: &Place, container: &Arc<Container>) -> bool {
    matches!(place, Place::Holds(held, _) if Arc::ptr_eq(held, container))
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("{what} within {}s", limit.as_secs())),
    }
}

/// Where jobs borrow.
#[derive(Debug)]
struct Desk(Arc<Containers>);

impl Lender for Desk {
    fn borrow(
        &self,
        capability: Capability,
        model_id: &str,
    ) -> BoxFuture<'_, Result<Borrowed, NoCapacity>> {
        borrow(Arc::clone(&self.0), capability, model_id.to_owned()).boxed()
    }
}

async fn borrow(
    containers: Arc<Containers>,
    capability: Capability,
    model_id: String,
) -> Result<Borrowed, NoCapacity> {
    loop {
        let room = match containers.pick(Some((capability, &model_id))) {
            Pick::Idle(container) => {
                let loan = Loan { containers: Arc::clone(&containers), container };
                let live = loan.container.live.clone();
                let client = RunnerClient::new(containers.http.clone(), live.endpoint.clone());
                match client.health().await {
                    Ok(Health::Ready) => return Ok((live, Box::new(loan))),
                    Ok(Health::Loading) => containers.change(&loan.container, |_| Use::Loading),
                    // Its watcher has not noticed yet.
                    Ok(Health::Broken) | Err(_) => containers.destroy(&loan.container).await,
                }
                continue;
            }
            Pick::Nothing => return Err(NoCapacity),
            room => room,
        };
        // Flags may take long to start with; jobs do not wait for that.
        let id = model_id.clone();
        let started = containers.launch(room, capability, id, BTreeMap::new(), false);
        match started.await {
            Ok(Ok(_)) => {}
            Ok(Err(reason)) => {
                tracing::warn!(model_id, reason, "no container for a job");
                return Err(NoCapacity);
            }
            Err(_) => return Err(NoCapacity),
        }
    }
}
