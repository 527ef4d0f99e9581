//! Puts the worker together: settings become parts, parts become a running process.

use crate::{
    ai::{
        client::{Endpoint, LONGEST_JOB, RunnerClient, RunnerHttp},
        containers::{self, Containers, Model, Timings},
        film::FilmMaker,
        models::{self, Backend, ModelEntry, Unaddressed},
        placement::{self, Card},
        pool::{Member, Pool, State},
        runner::{self, RunnerSpec},
        work::AiWork,
    },
    confine::find_program,
    gpu::{Inventory, monitor::Monitor, report},
    link::{channel, download::Downloader, upload::Uploader},
    live::link::LiveVideo,
    registration::{Refused, Registrar},
    settings::{Args, GpuChoice},
    status::Status,
    video::{
        balance::Balance,
        devices::Devices,
        guard,
        sessions::Sessions,
        tools::{Tools, ToolsError},
        transcode::{Engine, Transcoder},
        trial::{self, NoClip, Trial},
        work::VideoWork,
    },
    workdir::WorkDir,
};
use futures::FutureExt;
use penstock_clients::Reach;
use penstock_config::{ConfigError, read_secret_file};
use penstock_containers::{Engine as DockerEngine, EngineError, gpus};
use penstock_domain::Capabilities;
use penstock_http_kit::{admin, log_level, metrics_route, serve, stack};
use penstock_wire::ai::inline_models;
use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Largest body on the operator's port.
const SMALL_BODY: usize = 64 * 1024;

/// The worker cannot start.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A setting cannot work; exit 64.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// ffmpeg cannot be used.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// ffmpeg does not even make a clip.
    #[error("--ffmpeg: {0}")]
    NoClip(#[from] NoClip),
    /// Containers cannot be had.
    #[error("--docker-host: {0}")]
    Docker(#[from] EngineError),
    /// The clients cannot be made.
    #[error(transparent)]
    Clients(#[from] penstock_clients::BuildError),
    /// The folder for jobs cannot be made.
    #[error("--work-dir: {0}")]
    WorkDir(std::io::Error),
    /// An address cannot be bound.
    #[error(transparent)]
    Listen(#[from] serve::ServeError),
}

/// The worker stopped by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// The orchestrator will never take it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The metrics listener broke.
    #[error(transparent)]
    Listen(#[from] serve::ServeError),
}

/// Prints the process's metrics.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// A worker, ready to run.
pub struct App {
    args: Args,
    registrar: Registrar,
    video: Option<Arc<VideoWork>>,
    guarded: Option<Guarded>,
    cards: Monitor,
    ai: Option<Ai>,
    status: Arc<Status>,
    admin: (TcpListener, Option<String>),
    metrics: Option<TcpListener>,
    render_metrics: RenderMetrics,
}

/// Cards that segments are transcoded on, and what it takes to watch over them.
struct Guarded {
    devices: Arc<Devices>,
    trial: Trial,
    seen: Inventory,
}

struct Ai {
    work: Arc<AiWork>,
    keepers: Vec<Keeper>,
    containers: Option<(Arc<Containers>, Vec<Model>)>,
    /// Holds the runners' address files.
    _work_dir: Arc<WorkDir>,
}

/// Who keeps a member of the pool alive.
enum Keeper {
    Managed(Box<RunnerSpec>),
    External(Endpoint),
    /// The containers' own.
    Nobody,
}

impl App {
    /// Checks the settings and the machine. Opens the ports of metrics and operator, and nothing else.
    pub async fn build(args: Args, render_metrics: RenderMetrics) -> Result<Self, BuildError> {
        args.check()?;
        let secret = read_secret_file(&args.secret_file, "--secret-file")?;
        let models = args
            .models_file
            .as_deref()
            .map(|path| read_models(path, &args))
            .transpose()?
            .unwrap_or_default();
        let tools = Tools::probe(&args.ffmpeg).await?;
        let cards = args.cards.watch().await;
        let seen = cards.now();
        log_cards(&seen);
        let parent = args.work_dir.clone().unwrap_or_else(std::env::temp_dir);
        let work_dir = Arc::new(WorkDir::create(&parent).map_err(BuildError::WorkDir)?);

        let http = channel::http(Reach::Anywhere)?;
        let streams = channel::streams(LONGEST_JOB)?;
        let uploader = Uploader::new(http, streams, args.orchestrator.clone(), secret.clone());
        let downloader = Downloader::new(args.orchestrator.clone(), args.allow_private_urls)?;

        let ai = match models.is_empty() {
            true => None,
            false => Some(
                build_ai(&args, &models, &tools, &seen, &work_dir, &downloader, &uploader).await?,
            ),
        };
        let pool = ai.as_ref().map(|ai| ai.work.pool.clone());
        let engine = Engine {
            tools,
            preset: args.encoder_preset.0.clone(),
            memory_bytes: args.ffmpeg_memory_mib << 20,
            rendition_bytes: args.limits.segment_bytes,
        };
        let guarded = match args.max_sessions {
            0 => None,
            _ => guarded(&args, &engine, seen).await?,
        };
        let devices = match &guarded {
            Some(guarded) => guarded.devices.clone(),
            None => Arc::new(Devices::new(Vec::new(), false, balance(&args))),
        };
        let status = Status::new(args.max_sessions > 0, pool).with_devices(devices.clone());
        let status = Arc::new(status);
        let video = (args.max_sessions > 0).then(|| {
            let mut capabilities = Capabilities::of_set(engine.tools.capabilities());
            capabilities.version.clone_from(&args.node_version);
            let card_limit = args.card_timeout_ms.map(Duration::from_millis);
            Arc::new(VideoWork {
                capabilities,
                transcoder: Transcoder::new(engine, devices, card_limit),
                sessions: Sessions::new(
                    usize::from(args.max_sessions),
                    args.limits.session_segments,
                ),
                work_dir,
                downloader,
                uploader,
                segment_bytes: args.limits.segment_bytes,
            })
        });
        let token = args.common.admin_token()?.map(|token| token.expose().to_owned());
        let admin = (serve::bind(args.common.admin_addr, "--admin-addr").await?, token);
        let metrics = match args.common.metrics_addr {
            Some(addr) => Some(serve::bind(addr, "--metrics-addr").await?),
            None => None,
        };
        let channel = channel::grpc(&args.orchestrator)?;
        let registrar = Registrar {
            channel,
            secret,
            status: status.clone(),
            instance: uuid::Uuid::new_v4(),
            notice_bytes: args.limits.notice_bytes,
        };
        Ok(Self {
            args,
            registrar,
            video,
            guarded,
            cards,
            ai,
            status,
            admin,
            metrics,
            render_metrics,
        })
    }

    /// The addresses really bound.
    pub fn addresses(&self) -> BTreeMap<&'static str, String> {
        let listeners = [("admin", Some(&self.admin.0)), ("metrics", self.metrics.as_ref())];
        let bound = listeners
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener?.local_addr().ok()?.to_string())));
        bound.collect()
    }

    /// Works until `shutdown`, then finishes what is in hand, for as long as the drain timeout
    /// allows. Ends early only if the orchestrator refuses this worker for good.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let drain = self.args.common.drain_timeout();
        // Three things end one after the other: jobs, runners, the readiness port.
        let (runners_stop, port_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut port = JoinSet::new();
        let (listener, token) = self.admin;
        let router = stack::common(admin::require_token(log_level::router(), token), SMALL_BODY);
        port.spawn(aside(listener, router, port_stop.clone(), self.args.readers));
        if let Some(listener) = self.metrics {
            let devices = self.guarded.as_ref().map(|guarded| guarded.devices.clone());
            let report = report::routes(self.cards.clone(), devices);
            let router = routes(self.status.clone(), self.render_metrics).merge(report);
            port.spawn(aside(listener, router, port_stop.clone(), self.args.readers));
        }
        let named = self.guarded.as_ref().map(|guarded| guarded.devices.clone());
        let mut guards = JoinSet::new();
        if let Some(Guarded { devices, trial, seen }) = self.guarded {
            guards.spawn(guard::guard(devices, trial, self.cards.clone(), seen));
        }
        let mut keepers = JoinSet::new();
        let mut links = JoinSet::new();
        if let Some(work) = self.video {
            let (registrar, stop) = (self.registrar.clone(), shutdown.clone());
            let capacity = self.args.max_sessions;
            let seen = self.cards.clone();
            let cards = move || {
                let devices = named.as_deref();
                devices.map(|d| report::transcoding_cards(&seen.now(), d)).unwrap_or_default()
            };
            links.spawn(async move { registrar.transcode(work, capacity, cards, stop).await });
        }
        if let Some(ai) = self.ai {
            let pool = ai.work.pool.clone();
            if let Some((containers, models)) = ai.containers {
                keepers.spawn(containers.keep(models, pool.clone(), runners_stop.clone()));
            }
            for (index, keeper) in ai.keepers.into_iter().enumerate() {
                let cards = self.cards.clone();
                let keeper = keep(keeper, index, &pool, cards, &ai.work.http, &runners_stop);
                keepers.spawn(keeper);
            }
            let has = |live: bool| pool.members().iter().any(|m| m.is_live_video() == live);
            if has(true) {
                let (registrar, stop) = (self.registrar.clone(), shutdown.clone());
                let orchestrator = self.args.orchestrator.clone();
                let video = LiveVideo::new(pool.clone(), ai.work.http.clone(), orchestrator);
                let video = Arc::new(video);
                let held = ai._work_dir.clone();
                links.spawn(async move {
                    let _held = held;
                    registrar.live(video, stop).await
                });
            }
            if has(false) {
                let (registrar, stop) = (self.registrar.clone(), shutdown.clone());
                let version = self.args.node_version.clone();
                let held = ai._work_dir;
                links.spawn(async move {
                    let _held = held;
                    registrar.ai(ai.work, pool, version, stop).await
                });
            }
        }
        let done = finish(&mut links, &shutdown, drain).await;
        // Dropping what is left of the jobs kills their processes.
        links.shutdown().await;
        guards.shutdown().await;
        runners_stop.cancel();
        while keepers.join_next().await.is_some() {}
        port_stop.cancel();
        let served = port.join_all().await;
        done?;
        served.into_iter().try_for_each(|served| served.map_err(RunError::from))
    }
}

/// Waits for the links: for ever while nothing is wrong, for `drain` once we are to stop.
async fn finish(
    links: &mut JoinSet<Result<(), Refused>>,
    shutdown: &CancellationToken,
    drain: Duration,
) -> Result<(), Refused> {
    let over = async {
        while let Some(link) = links.join_next().await {
            match link {
                Ok(result) => result?,
                Err(error) => tracing::error!(%error, "a registration task failed"),
            }
        }
        Ok(())
    };
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        done = over => done,
        () = deadline => {
            tracing::warn!("jobs were cut off; raise --drain-timeout-ms");
            Ok(())
        }
    }
}

fn keep(
    keeper: Keeper,
    index: usize,
    pool: &Arc<Pool>,
    cards: Monitor,
    http: &RunnerHttp,
    stop: &CancellationToken,
) -> futures::future::BoxFuture<'static, ()> {
    let (pool, http, stop) = (pool.clone(), http.clone(), stop.clone());
    let card = match &keeper {
        Keeper::Managed(spec) => spec.gpu,
        Keeper::External(_) | Keeper::Nobody => None,
    };
    let report = move |state: State| {
        let state = match card {
            Some(card) => report::with_card(state, &cards.now(), card),
            None => state,
        };
        match &state {
            State::Live(live) => tracing::info!(version = live.version, "a runner is ready"),
            State::Down(reason) => tracing::warn!(reason, "a runner is down"),
            State::Restarting(_) | State::OnDemand(_) => {}
        }
        pool.set(index, state);
    };
    match keeper {
        Keeper::Managed(spec) => runner::keep_running(*spec, http, report, stop).boxed(),
        Keeper::External(endpoint) => runner::keep_watching(endpoint, http, report, stop).boxed(),
        Keeper::Nobody => futures::future::ready(()).boxed(),
    }
}

fn routes(status: Arc<Status>, render: RenderMetrics) -> axum::Router {
    let ready = move || {
        let status = status.clone();
        async move { status.readiness() }.boxed()
    };
    metrics_route::router(ready, move || render())
}

fn read_models(path: &Path, args: &Args) -> Result<Vec<ModelEntry>, ConfigError> {
    const SETTING: &str = "--models-file";
    let failed = |source| ConfigError::Read { setting: SETTING.into(), path: path.into(), source };
    let unaddressed = match args.containers.docker_host {
        Some(_) => Unaddressed::Containers,
        None => Unaddressed::Processes,
    };
    let inline = path.to_str().filter(|_| !path.is_file()).and_then(inline_models);
    let models = match inline {
        Some(models) => models::from_inline(&models, unaddressed),
        None => {
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(models::MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
            models::parse_for(&text, unaddressed)
        }
    };
    models.map_err(|e| ConfigError::value(SETTING, format!("{}: {e}", path.display())))
}

/// Tries the cards that are meant. Without any there is nothing to guard.
async fn guarded(
    args: &Args,
    engine: &Engine,
    seen: Inventory,
) -> Result<Option<Guarded>, BuildError> {
    let devices = args.cards.devices(&seen);
    if devices.is_empty() {
        return Ok(None);
    }
    let trial = Trial::prepare(engine.clone()).await?;
    let tried = trial::try_all(&trial, devices).await;
    let named = matches!(args.cards.nvidia, GpuChoice::Some(_));
    let devices = Arc::new(Devices::new(tried, named, balance(args)));
    Ok(Some(Guarded { devices, trial, seen }))
}

fn balance(args: &Args) -> Balance {
    Balance::new(args.limits.placed_sessions, args.max_sessions_per_card.map(usize::from))
}

fn log_cards(seen: &Inventory) {
    let driver = seen.driver.as_deref().unwrap_or("unknown");
    for card in &seen.cards {
        let (index, name, uuid) = (card.index, &card.name, &card.uuid);
        let memory_mib = card.memory_total >> 20;
        tracing::info!(index, name, uuid, memory_mib, driver, "an NVIDIA card");
    }
    match &seen.trouble {
        // No driver is no trouble: most machines have none.
        Some(why) if seen.cards.is_empty() => tracing::info!(why, "no NVIDIA cards"),
        Some(why) => tracing::warn!(why, "not everything is known about the NVIDIA cards"),
        None => {}
    }
}

async fn build_ai(
    args: &Args,
    entries: &[ModelEntry],
    tools: &Tools,
    seen: &Inventory,
    work_dir: &Arc<WorkDir>,
    downloader: &Downloader,
    uploader: &Uploader,
) -> Result<Ai, BuildError> {
    let (mut members, mut keepers) = (Vec::new(), Vec::new());
    let cards = args.cards.nvidia_numbers(seen);
    let places = places(args, entries, &cards, seen)?;
    let mut contained = Vec::new();
    for (entry, places) in entries.iter().zip(places) {
        match &entry.backend {
            Backend::External { url, token } => {
                members.push(Member::new(entry, entry.capacity));
                let endpoint = Endpoint { url: url.clone(), token: token.clone() };
                keepers.push(Keeper::External(endpoint));
            }
            // A container takes one job at a time.
            Backend::Container { flags } => {
                let first = members.len();
                members.extend((0..entry.capacity).map(|_| Member::new(entry, 1)));
                keepers.extend((0..entry.capacity).map(|_| Keeper::Nobody));
                contained.push(Model {
                    capability: entry.capability,
                    model_id: entry.model_id.clone(),
                    flags: flags.clone(),
                    warm: entry.warm,
                    members: (first..members.len()).collect(),
                });
            }
            // A runner process takes one job at a time.
            Backend::Managed { flags } => {
                for gpu in places {
                    members.push(Member::new(entry, 1));
                    let spec = spec(args, entry, tools, work_dir, gpu)?;
                    let spec = RunnerSpec { flags: flags.clone(), ..spec };
                    keepers.push(Keeper::Managed(Box::new(spec)));
                }
            }
        }
    }
    let http = RunnerClient::pool(args.limits.ai_answer_bytes)?;
    let containers = match &args.containers.docker_host {
        Some(host) if !contained.is_empty() => {
            let settings = containers::Settings {
                images: args.containers.images()?,
                places: gpus(&cards, args.containers.ai_runner_containers_per_gpu),
                models_dir: std::path::absolute(&args.models_dir)
                    .map_err(|e| ConfigError::value("--models-dir", e.to_string()))?,
                verbose: args.containers.ai_verbose_logs,
            };
            let owner = args.containers.owner(&args.orchestrator);
            let engine = DockerEngine::connect(host, owner).await?;
            let made = Containers::new(engine, settings, Timings::default(), http.clone()).await?;
            Some((made, contained))
        }
        _ => None,
    };
    let work = AiWork {
        pool: Arc::new(Pool::new(members)),
        http,
        downloader: downloader.clone(),
        uploader: uploader.clone(),
        films: FilmMaker {
            ffmpeg: tools.ffmpeg.clone(),
            sandbox: tools.sandbox.clone(),
            preset: args.encoder_preset.0.clone(),
            memory_bytes: args.ffmpeg_memory_mib << 20,
            work_dir: work_dir.clone(),
            limits: args.limits,
        },
        limits: args.limits,
    };
    Ok(Ai { work: Arc::new(work), keepers, containers, _work_dir: work_dir.clone() })
}

/// Operators' and readiness routes, until `stop`.
async fn aside(
    listener: TcpListener,
    router: axum::Router,
    stop: CancellationToken,
    readers: penstock_config::ReaderArgs,
) -> Result<(), serve::ServeError> {
    let least = readers.min_read_bytes_per_second;
    let least_speed = serve::LeastSpeed::new(least, readers.window());
    let options = serve::Options { least_speed, ..serve::Options::default() };
    serve::serve_with(listener, router, stop, Duration::from_secs(1), options).await
}

/// Where our own processes run. Models that have to do with fewer than their capacity are named in the log.
fn places(
    args: &Args,
    entries: &[ModelEntry],
    cards: &[u32],
    seen: &Inventory,
) -> Result<Vec<Vec<placement::Place>>, ConfigError> {
    let card = |index: &u32| Card {
        index: *index,
        memory_free: seen.card(*index).map_or(0, |card| card.memory_free),
    };
    let cards: Vec<_> = cards.iter().map(card).collect();
    let most = args.max_runners_per_card;
    let places = placement::place(entries, &cards, most)
        .map_err(|error| ConfigError::value("--max-runners-per-card", error.to_string()))?;
    for (entry, places) in entries.iter().zip(&places) {
        let (wanted, fit, model) = (entry.capacity as usize, places.len(), &entry.model_id);
        if matches!(entry.backend, Backend::Managed { .. }) && fit < wanted {
            tracing::warn!(model, wanted, fit, "the cards are full, see --max-runners-per-card");
        }
    }
    Ok(places)
}

fn spec(
    args: &Args,
    entry: &ModelEntry,
    tools: &Tools,
    work_dir: &Arc<WorkDir>,
    gpu: Option<u32>,
) -> Result<RunnerSpec, ConfigError> {
    let missing = |setting: &str, what: String| {
        ConfigError::value(setting, format!("{what} (runner/install.py makes it)"))
    };
    let python = find_program(&args.runner_python).ok_or_else(|| {
        missing("--runner-python", format!("no program `{}`", args.runner_python.to_string_lossy()))
    })?;
    let directory = |path: &Path, setting: &str| match path.is_dir() {
        true => std::path::absolute(path).map_err(|e| ConfigError::value(setting, e.to_string())),
        false => Err(missing(setting, format!("no folder {}", path.display()))),
    };
    let runner_dir = directory(&args.runner_dir, "--runner-dir")?;
    if !runner_dir.join("penstock_runner").is_dir() {
        let what = format!("no package penstock_runner in {}", runner_dir.display());
        return Err(ConfigError::value("--runner-dir", what));
    }
    Ok(RunnerSpec {
        python,
        runner_dir,
        models_dir: directory(&args.models_dir, "--models-dir")?,
        pipeline: entry.capability.pipeline(),
        model_id: entry.model_id.clone(),
        gpu,
        context_tokens: args.context_tokens,
        ffmpeg: tools.ffmpeg.clone().into(),
        directory: work_dir.path().to_owned(),
        flags: BTreeMap::new(),
    })
}
