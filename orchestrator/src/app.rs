//! From settings to a running orchestrator. Sockets are bound in [`App::build`], so addresses are
//! known before anything is served.

use crate::{
    ai::audio::AudioProbe,
    auth_webhook::AuthWebhook,
    background::{self, ChainWork},
    byoc,
    config::{Args, Network, ServiceAddress},
    delivery, grpc, held,
    live::{self, Live, args::LiveArgs},
    node::Node,
    objects::{Objects, ObjectsError},
    paid::Paid,
    peers::args::PeerLimits,
    pricing::{around::Surroundings, book::Prices, sources::Sources, throughput::Throughput},
    routes::{self, body::BodyMemory},
    runner_networks::RunnerNetworks,
    runners::LiveRunners,
    secrets, server,
    service::{cashier::Cashier, counted, fetch::Fetcher, sessions::Sessions},
    storage::Storage,
    tls, trace,
    workers::{ai::AiPool, transcoders::TranscoderPool},
};
use axum::Router;
use penstock_chain::Chain;
use penstock_clients::{EthUsd, EthUsdSettings};
use penstock_config::{ConfigError, Secret, read_secret_file};
use penstock_domain::{Capabilities, CapabilitySet};
use penstock_http_kit::{
    CancellationToken, admin, health,
    layers::Layers,
    metrics_route,
    serve::{self, ServeError, write_addr_file},
    stack, traced,
};
use penstock_keys::{KeyError, TypedSigner, keystore};
use penstock_ledger::{orchestrator::LedgerError, sqlite::OpenError};
use penstock_payments::AuthTokenSecret;
use penstock_telemetry::MetricsHandle;
use std::{
    collections::BTreeMap,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// Body limit of the extractors on the admin and metrics addresses.
pub(crate) const SMALL_BODY: usize = 64 * 1024;
/// After the drain, how long connections get to close.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// For what was cut off: words to its workers, which may take their time, and the last charges, which depend on what they
/// say.
const LAST_CHARGES: Duration = byoc::streams::RELEASE_TIME.saturating_add(Duration::from_secs(3));

/// Starting or running failed.
#[derive(Debug, Error)]
pub enum AppError {
    /// A setting is wrong: exit status 64.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error("--data-dir {path}: {source}", path = .path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret file.
    #[error(transparent)]
    Secret(#[from] secrets::SecretError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The key.
    #[error("--key: {0}")]
    Keystore(#[from] keystore::KeystoreError),
    /// The books.
    #[error("--ledger: {0}")]
    Ledger(#[from] OpenError),
    /// The books do not answer.
    #[error("--ledger: {0}")]
    Books(#[from] LedgerError),
    /// A socket.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The HTTP client for segment URLs.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] penstock_clients::BuildError),
    /// The key made no sense.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Something of the operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A task died.
    #[error("a start-up task failed")]
    Task,
}

impl AppError {
    /// Whether the operator's settings are to blame.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_))
    }
}

/// Opens `--chain` as an account. `main.rs` says which chains there are.
pub type OpenChain = fn(&str, &Args, TypedSigner) -> Result<Arc<dyn Chain>, String>;

/// An orchestrator with its sockets bound.
pub struct App {
    node: Arc<Node>,
    service: (TcpListener, Option<Arc<rustls::ServerConfig>>),
    peers: PeerLimits,
    admin: (TcpListener, Option<Secret>),
    metrics: Option<TcpListener>,
    chain: Option<ChainWork>,
    prices: (Arc<Prices>, Arc<EthUsd>, Duration),
    addresses: BTreeMap<&'static str, String>,
    addr_file: Option<PathBuf>,
    drain: Duration,
    redeemer_stop: CancellationToken,
}

impl App {
    /// Reads secrets and key, opens the books, binds the sockets. The chain need not be there yet.
    pub async fn build(args: &Args, open_chain: OpenChain) -> Result<Self, AppError> {
        let address = args.service_address()?;
        let ether = ether(args).await?;
        let prices = Prices::open(
            Sources::from(args),
            Arc::clone(&ether),
            args.auto_adjust_price,
            &args.limits,
        )?;
        let prices = Arc::new(prices);
        let live = live(args)?;
        let admin_token = args.common.admin_token()?;
        let worker_secret = args
            .secret_file
            .as_deref()
            .map(|path| read_secret_file(path, "--secret-file"))
            .transpose()?;
        make_private(&args.data_dir)?;
        let redeemer_stop = CancellationToken::new();
        let paid = match args.network {
            Network::Onchain => {
                let (prices, stop) = (Arc::clone(&prices), redeemer_stop.clone());
                Some(Paid::open(args, prices, open_chain, stop).await?)
            }
            Network::Offchain => None,
        };
        let (cashier, signer, chain, stake) = match paid {
            Some(paid) => (Some(paid.cashier), Some(paid.signer), Some(paid.work), paid.stake),
            None => (None, None, None, None),
        };
        let service = serve::bind(address.listen, "--http-addr").await?;
        let admin = serve::bind(args.common.admin_addr, "--admin-addr").await?;
        let metrics = match args.common.metrics_addr {
            Some(addr) => Some(serve::bind(addr, "--metrics-addr").await?),
            None => None,
        };
        let uri = address.advertised(service.local_addr()?);
        let tls = tls_config(args, &address)?;
        let mut addresses = BTreeMap::from([
            ("service", service.local_addr()?.to_string()),
            ("admin", admin.local_addr()?.to_string()),
        ]);
        if let Some(metrics) = &metrics {
            addresses.insert("metrics", metrics.local_addr()?.to_string());
        }
        let mut own = vec![service.local_addr()?, admin.local_addr()?];
        if let Some(metrics) = &metrics {
            own.push(metrics.local_addr()?);
        }
        let networks = RunnerNetworks::new(args.runners.runner_networks.clone(), own);
        let networks = Arc::new(networks);
        let runners = LiveRunners::open(
            (&args.runners, &args.limits, &networks),
            &uri,
            &live.trickle,
            cashier.is_some(),
            worker_secret.is_some(),
            args.live.live_payment_interval_ms,
            &prices,
        )
        .await?;
        let mut node = node(args, uri, worker_secret, cashier, signer, live, &networks)?;
        node.runners = runners.map(Arc::new);
        node.stake = stake;
        prices.surround(Surroundings {
            ai: Arc::clone(&node.ai_workers),
            live: Arc::clone(&node.live.runners),
            sessions: node.sessions.clone(),
            transcoders: Arc::clone(&node.transcoders),
            throughput: Arc::clone(&node.throughput),
        });
        let price_poll = Duration::from_millis(args.price_poll_ms);
        Ok(Self {
            node: Arc::new(node),
            prices: (prices, ether, price_poll),
            service: (service, tls),
            peers: args.peers.limits(&args.limits, &args.readers),
            admin: (admin, admin_token),
            metrics,
            chain,
            addresses,
            addr_file: args.common.addr_file.clone(),
            drain: args.common.drain_timeout(),
            redeemer_stop,
        })
    }

    /// The addresses really bound, by name: `service`, `admin`, `metrics`.
    pub fn addresses(&self) -> &BTreeMap<&'static str, String> {
        &self.addresses
    }

    /// What gateways are told.
    pub fn service_uri(&self) -> &str {
        self.node.service_uri()
    }

    /// Serves until `shutdown`, lets jobs under way finish for at most the drain time, and ends.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        metrics: Option<MetricsHandle>,
    ) -> Result<(), AppError> {
        delivery::show();
        counted::show();
        let node = Arc::clone(&self.node);
        let beside = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(work) = self.chain {
            background::spawn(&mut tasks, &node, work, &beside);
        }
        let (prices, ether, poll) = self.prices;
        tasks.spawn(background::prices(prices, ether, poll, beside.clone()));
        let (listener, token) = self.admin;
        let router = admin::require_token(
            routes::admin::router(Arc::clone(&node)),
            token.map(|t| t.expose().to_owned()),
        );
        tasks.spawn(aside(listener, stack::common(router, SMALL_BODY), beside.clone()));
        if let Some(listener) = self.metrics {
            let shown = Arc::clone(&node);
            let router = metrics_route::router(readiness(&node), move || {
                held::show(&shown);
                metrics.as_ref().map(MetricsHandle::render).unwrap_or_default()
            });
            tasks.spawn(aside(listener, stack::common(router, SMALL_BODY), beside.clone()));
        }
        // Ends with `beside`, after the drain: gateways and runners use the channels until then.
        let (trickle, stop) = (node.live.trickle.clone(), beside.clone());
        tasks.spawn(async move { trickle.run(stop).await });
        let (runners, every) = (Arc::clone(&node.live.runners), node.live.settings.health_interval);
        let stop = beside.clone();
        tasks.spawn(async move { runners.watch(every, stop).await });
        tasks.spawn(Arc::clone(&node).try_runners(beside.clone()));
        let (workers, stop) = (Arc::clone(&node.live.workers), beside.clone());
        tasks.spawn(async move { workers.watch(stop).await });
        if let Some(runners) = node.runners.clone() {
            let stop = beside.clone();
            tasks.spawn(async move { runners.run(stop).await });
        }
        tasks.spawn(byoc::training::take_up::watch(Arc::clone(&node), beside.clone()));
        let router = service_router(&node);
        let (listener, tls) = self.service;
        let handle = axum_server::Handle::new();
        let mut serving =
            tokio::spawn(server::serve(listener, tls, router, handle.clone(), self.peers));
        if let Some(path) = &self.addr_file {
            write_addr_file(path, &self.addresses)?;
        }
        let served = tokio::select! {
            () = shutdown.cancelled() => {
                drain(&node, self.drain).await;
                handle.graceful_shutdown(Some(GOODBYE));
                serving.await
            }
            broken = &mut serving => broken,
        };
        beside.cancel();
        self.redeemer_stop.cancel();
        while tasks.join_next().await.is_some() {}
        if let Some(cashier) = &node.cashier {
            cashier.ledger.close().await;
        }
        Ok(served.map_err(|_| AppError::Task)??)
    }
}

/// No new work; what is under way may finish, and only then are the workers let go.
async fn drain(node: &Arc<Node>, patience: Duration) {
    node.draining.store(true, Ordering::Relaxed);
    // Not waited for: they go on at another process, or in the next life.
    node.trainings.leave();
    node.jobs.close();
    if tokio::time::timeout(patience, node.jobs.wait()).await.is_err() {
        tracing::warn!("jobs were cut off; raise --drain-timeout-ms");
    }
    node.live_stop.cancel();
    if let Some(runners) = &node.runners {
        runners.registry.stop();
    }
    // They are charged to the end, and their workers told.
    let _ = tokio::time::timeout(LAST_CHARGES, node.jobs.wait()).await;
    node.live.trickle.stop();
    node.transcoders.remove_all();
    node.ai_workers.remove_all();
    node.live.workers.stop();
}

/// What serves the one port: gRPC and REST, told apart by path.
fn service_router(node: &Arc<Node>) -> Router {
    let rest = routes::router(Arc::clone(node)).merge(health::router(readiness(node)));
    let channels = Router::new().nest(live::PATH, node.live.trickle.router());
    let mut all = rest.merge(grpc::router(node)).merge(channels);
    if node.runners.is_some() {
        // Proxies may have hosts of their own, so they are looked for before any path is.
        let (node, inner) = (Arc::clone(node), all);
        all = Router::new().fallback(move |request: axum::extract::Request| {
            routes::apps::dispatch(Arc::clone(&node), inner.clone(), request)
        });
    }
    let all = all.layer(
        Layers::default().then(|request, next| traced::layer(trace::operation, request, next)),
    );
    // The limit of the layer is never reached: the routes switch it off and have their own.
    stack::common(all, SMALL_BODY)
}

fn readiness(node: &Arc<Node>) -> impl Fn() -> health::Answer + Clone + Send + Sync + 'static {
    let node = Arc::clone(node);
    move || {
        let node = Arc::clone(&node);
        Box::pin(async move {
            let mut missing = Vec::new();
            if node.is_draining() {
                missing.push(health::NotReady::new("process", "stopping"));
            }
            if let Some(cashier) = &node.cashier {
                let unknown = cashier.chain.missing();
                missing.extend(unknown.map(|reason| health::NotReady::new("chain", reason)));
                let troubles = cashier.chain.troubles().into_iter();
                missing.extend(troubles.map(|said| health::NotReady::degraded("chain", said)));
                if cashier.ledger.ping().await.is_err() {
                    missing.push(health::NotReady::new("ledger", "--ledger does not answer"));
                }
                missing.extend(cashier.floats.as_ref().and_then(|floats| floats.readiness()));
            }
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        })
    }
}

pub(crate) async fn aside(listener: TcpListener, router: Router, stop: CancellationToken) {
    if let Err(error) = serve::serve(listener, router, stop, GOODBYE).await {
        tracing::error!(%error, "an operator listener stopped");
    }
}

pub(crate) fn make_private(folder: &Path) -> Result<(), AppError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| AppError::DataDir { path: folder.to_owned(), source })
}

pub(crate) fn tls_config(
    args: &Args,
    address: &ServiceAddress,
) -> Result<Option<Arc<rustls::ServerConfig>>, AppError> {
    if !address.tls {
        return Ok(None);
    }
    let now = time::OffsetDateTime::now_utc();
    Ok(Some(tls::server_config(&args.data_dir, address.host(), now)?))
}

/// What an ether costs, read once if it can be.
async fn ether(args: &Args) -> Result<Arc<EthUsd>, AppError> {
    let settings = EthUsdSettings::try_from(&args.ether)?;
    let ether = EthUsd::new(settings).map_err(|why| ConfigError::value("--eth-usd-url", why))?;
    if let Err(error) = ether.refresh().await {
        tracing::warn!(error, "what an ether costs is not known yet");
    }
    Ok(Arc::new(ether))
}

/// Channels and runners of live video.
fn live(args: &Args) -> Result<Live, AppError> {
    let LiveArgs { max_live_sessions, .. } = args.live;
    let trickle = args.live.trickle()?;
    let runners = Arc::new(args.live_runners(&args.live.hosting(&trickle, args.limits)?)?);
    Ok(Live {
        settings: args.live.settings()?,
        trickle,
        workers: Arc::new(args.live.workers(Arc::clone(&runners), args.limits.worker_messages)),
        runners,
        sessions: Arc::new(live::sessions::Sessions::new(max_live_sessions)),
    })
}

fn node(
    args: &Args,
    uri: String,
    worker_secret: Option<Secret>,
    cashier: Option<Cashier>,
    signer: Option<TypedSigner>,
    live: Live,
    networks: &Arc<RunnerNetworks>,
) -> Result<Node, AppError> {
    let auth_secret = secrets::load_or_create(&args.auth_token_secret_path())?;
    let mut own_capabilities = Capabilities::of_set(CapabilitySet::default_video());
    own_capabilities.version.clone_from(&args.node_version);
    // 48 random bits: task numbers of another start are far away.
    let first_task = || -> Result<i64, secrets::SecretError> {
        let [a, b, c, d, e, f] = secrets::random()?;
        Ok(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    };
    let transcoders = Arc::new(TranscoderPool::new(first_task()?, args.limits.worker_messages));
    Ok(Node {
        service_uri: OnceLock::from(uri),
        nodes: args.nodes.clone(),
        signer,
        cashier,
        auth_webhook: AuthWebhook::new(&args.auth_webhook, &args.limits)?,
        stake: None,
        tokens: AuthTokenSecret::new(auth_secret),
        worker_secret,
        own_capabilities,
        sessions: Sessions::new(
            args.max_sessions,
            Arc::clone(&transcoders),
            Duration::from_millis(args.session_idle_ms),
            args.limits.waiting_segments,
        ),
        transcoders,
        throughput: Arc::new(Throughput::new(args.limits.measured_models)),
        ai_workers: Arc::new(AiPool::new(first_task()?, args.limits.worker_messages)),
        byoc: byoc::registry::Registry::new(
            args.max_byoc_capabilities,
            args.max_byoc_jobs,
            Arc::clone(networks),
        ),
        byoc_http: byoc::worker_client(networks, Duration::from_millis(args.byoc_timeout_ms))?,
        byoc_streams: Arc::default(),
        trainings: byoc::training::Trainings::new(
            &args.limits,
            Duration::from_secs(args.journal_hours.saturating_mul(3_600)),
        ),
        byoc_poll: Duration::from_millis(args.byoc_poll_ms),
        byoc_least_seconds: args.byoc_least_seconds,
        byoc_timeout: Duration::from_millis(args.byoc_timeout_ms),
        live,
        live_stop: CancellationToken::new(),
        runners: None,
        storage: Arc::new(Storage::new(args.result_memory_bytes, args.limits.stored_files)),
        objects: Objects::open(args).map_err(|error| match error {
            ObjectsError::Config(error) => AppError::Config(error),
            ObjectsError::Client(error) => AppError::Client(error),
        })?,
        fetcher: Fetcher::new(args.allow_private_urls)?,
        audio_probe: AudioProbe::new(args.ffprobe.clone()),
        bodies: BodyMemory::new(args.result_memory_bytes, args.peers.pause()),
        jobs: TaskTracker::new(),
        max_ai_body_bytes: args.max_ai_body_bytes,
        limits: args.limits,
        ai_timeout: Duration::from_millis(args.ai_timeout_ms),
        draining: false.into(),
    })
}
