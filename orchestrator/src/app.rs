//! From settings to a running orchestrator. Sockets are bound in [`App::build`], so addresses are
//! known before anything is served.

use crate::{
    chain_view::ChainView,
    config::{Args, Network, ServiceAddress},
    grpc,
    node::Node,
    prices::PriceBook,
    routes::{self, body::BodyMemory},
    secrets, server,
    service::{cashier::Cashier, fetch::Fetcher, redemption::Redeemer, sessions::Sessions},
    storage::Storage,
    tls,
    workers::{ai::AiPool, transcoders::TranscoderPool},
};
use axum::Router;
use penstock_chain::Chain;
use penstock_config::{ConfigError, Secret, read_secret_file};
use penstock_domain::{Capabilities, CapabilitySet};
use penstock_http_kit::{
    CancellationToken, admin, health, metrics_route,
    serve::{self, ServeError, write_addr_file},
    stack,
};
use penstock_keys::{KeyError, LocalKey, TypedSigner, keystore};
use penstock_ledger::{orchestrator::SqliteOrchestratorLedger, sqlite::OpenError};
use penstock_payments::{AuthTokenSecret, OfferConfig, RecipientSecret};
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
const SMALL_BODY: usize = 64 * 1024;
/// After the drain, how long connections get to close.
const GOODBYE: Duration = Duration::from_secs(1);

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
pub type OpenChain = fn(&str, TypedSigner) -> Result<Arc<dyn Chain>, String>;

/// An orchestrator with its sockets bound.
pub struct App {
    node: Arc<Node>,
    service: (TcpListener, Option<Arc<rustls::ServerConfig>>),
    admin: (TcpListener, Option<Secret>),
    metrics: Option<TcpListener>,
    chain: Option<ChainWork>,
    addresses: BTreeMap<&'static str, String>,
    addr_file: Option<PathBuf>,
    drain: Duration,
}

/// What runs beside the requests on a paid network.
struct ChainWork {
    chain: Arc<dyn Chain>,
    poll: Duration,
    register: bool,
}

impl App {
    /// Reads secrets and key, opens the books, binds the sockets. The chain need not be there yet.
    pub async fn build(args: &Args, open_chain: OpenChain) -> Result<Self, AppError> {
        let address = args.service_address()?;
        let prices = args.prices()?;
        let admin_token = args.common.admin_token()?;
        let worker_secret = args
            .secret_file
            .as_deref()
            .map(|path| read_secret_file(path, "--secret-file"))
            .transpose()?;
        make_private(&args.data_dir)?;
        let paid = match args.network {
            Network::Onchain => Some(Paid::open(args, prices, open_chain).await?),
            Network::Offchain => None,
        };
        let (cashier, signer, chain) = match paid {
            Some(paid) => (Some(paid.cashier), Some(paid.signer), Some(paid.work)),
            None => (None, None, None),
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
        let node = node(args, uri, worker_secret, cashier, signer)?;
        Ok(Self {
            node: Arc::new(node),
            service: (service, tls),
            admin: (admin, admin_token),
            metrics,
            chain,
            addresses,
            addr_file: args.common.addr_file.clone(),
            drain: args.common.drain_timeout(),
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
        let node = Arc::clone(&self.node);
        let beside = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(work) = self.chain {
            spawn_chain(&mut tasks, &node, work, &beside);
        }
        let (listener, token) = self.admin;
        let router = admin::require_token(
            routes::admin::router(Arc::clone(&node)),
            token.map(|t| t.expose().to_owned()),
        );
        tasks.spawn(aside(listener, stack::common(router, SMALL_BODY), beside.clone()));
        if let Some(listener) = self.metrics {
            let router = health::router(readiness(&node)).merge(metrics_route::router(move || {
                metrics.as_ref().map(MetricsHandle::render).unwrap_or_default()
            }));
            tasks.spawn(aside(listener, stack::common(router, SMALL_BODY), beside.clone()));
        }
        let router = service_router(&node);
        let (listener, tls) = self.service;
        let handle = axum_server::Handle::new();
        let mut serving = tokio::spawn(server::serve(listener, tls, router, handle.clone()));
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
        while tasks.join_next().await.is_some() {}
        Ok(served.map_err(|_| AppError::Task)??)
    }
}

/// No new work; what is under way may finish, and only then are the workers let go.
async fn drain(node: &Arc<Node>, patience: Duration) {
    node.draining.store(true, Ordering::Relaxed);
    node.jobs.close();
    if tokio::time::timeout(patience, node.jobs.wait()).await.is_err() {
        tracing::warn!("jobs were cut off; raise --drain-timeout-ms");
    }
    node.transcoders.remove_all();
    node.ai_workers.remove_all();
}

/// What serves the one port: gRPC and REST, told apart by path.
fn service_router(node: &Arc<Node>) -> Router {
    let rest = routes::router(Arc::clone(node)).merge(health::router(readiness(node)));
    // The limit of the layer is never reached: the routes switch it off and have their own.
    stack::common(rest.merge(grpc::router(node)), SMALL_BODY)
}

fn readiness(
    node: &Arc<Node>,
) -> impl Fn() -> futures::future::BoxFuture<'static, health::Readiness> + Send + Sync + 'static {
    let node = Arc::clone(node);
    move || {
        let node = Arc::clone(&node);
        Box::pin(async move {
            let mut missing = Vec::new();
            if node.is_draining() {
                missing.push(health::NotReady::new("process", "stopping"));
            }
            if let Some(cashier) = &node.cashier {
                if !cashier.chain.is_known() {
                    missing.push(health::NotReady::new("chain", "--chain does not answer"));
                }
                if cashier.ledger.ping().await.is_err() {
                    missing.push(health::NotReady::new("ledger", "--ledger does not answer"));
                }
            }
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        })
    }
}

async fn aside(listener: TcpListener, router: Router, stop: CancellationToken) {
    if let Err(error) = serve::serve(listener, router, stop, GOODBYE).await {
        tracing::error!(%error, "an operator listener stopped");
    }
}

/// Polls the chain, registers, forgets old nonces, and redeems.
fn spawn_chain(
    tasks: &mut tokio::task::JoinSet<()>,
    node: &Arc<Node>,
    work: ChainWork,
    stop: &CancellationToken,
) {
    let redeemer = Redeemer { chain: Arc::clone(&work.chain) };
    tasks.spawn(watch(Arc::clone(node), work, stop.clone()));
    let (node, stop) = (Arc::clone(node), stop.clone());
    tasks.spawn(async move {
        let Some(cashier) = &node.cashier else { return };
        let mut news = cashier.chain.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
            let snapshot = *news.borrow_and_update();
            if let Some(snapshot) = snapshot {
                redeemer.run_once(cashier, &snapshot).await;
            }
        }
    });
}

async fn watch(node: Arc<Node>, mut work: ChainWork, stop: CancellationToken) {
    let Some(cashier) = &node.cashier else { return };
    let mut interval = tokio::time::interval(work.poll);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut last_block, mut failing) = (0, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        if work.register {
            match work.chain.register(node.service_uri()).await {
                Ok(receipt) => {
                    work.register = false;
                    tracing::info!(uri = node.service_uri(), tx = %receipt.tx_hash,
                        "registered in the pool; active from the next round");
                }
                Err(error) => tracing::warn!(%error, "could not register; trying again"),
            }
        }
        match cashier.chain.refresh().await {
            Ok(snapshot) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the chain answers again");
                }
                let block = snapshot.rounds.last_seen_l1_block;
                if block > last_block {
                    last_block = block;
                    if let Err(error) = cashier.ledger.forget_nonces(block).await {
                        tracing::warn!(%error, "old nonces stay for now");
                    }
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "the chain does not answer; going on with what is known");
            }
            Err(_) => {}
        }
    }
}

/// The parts that only a paid network has.
struct Paid {
    cashier: Cashier,
    signer: TypedSigner,
    work: ChainWork,
}

impl Paid {
    async fn open(args: &Args, prices: PriceBook, open_chain: OpenChain) -> Result<Self, AppError> {
        let needed =
            |setting: &str| ConfigError::value(setting, "is required unless --network is offchain");
        let chain_text = args.chain.as_deref().ok_or_else(|| needed("--chain"))?;
        let signer = open_key(args).await?;
        let recipient = signer.address();
        let chain = open_chain(chain_text, signer.clone())
            .map_err(|reason| ConfigError::value("--chain", reason))?;
        let secret_path = args
            .recipient_secret_file
            .clone()
            .unwrap_or_else(|| args.data_dir.join("recipient.secret"));
        let secret = RecipientSecret::new(secrets::load_or_create(&secret_path)?);
        let url = match &args.ledger {
            Some(url) => url.clone(),
            None => format!("sqlite://{}", args.data_dir.join("ledger.db").display()),
        };
        let ledger = Arc::new(SqliteOrchestratorLedger::open(&url).await?);
        let config = OfferConfig {
            ticket_ev: args.ticket_ev,
            redeem_gas: chain.redeem_gas(),
            max_face_value: args.max_face_value,
        };
        let work = ChainWork {
            chain: Arc::clone(&chain),
            poll: Duration::from_millis(args.chain_poll_ms),
            register: args.register,
        };
        let view = Arc::new(ChainView::new(chain, recipient));
        let cashier = Cashier {
            recipient,
            secret,
            config,
            prices,
            auto_adjust: args.auto_adjust_price,
            ledger,
            chain: view,
        };
        Ok(Self { cashier, signer, work })
    }
}

async fn open_key(args: &Args) -> Result<TypedSigner, AppError> {
    let needed =
        |setting: &str| ConfigError::value(setting, "is required unless --network is offchain");
    let text = args.key.as_deref().ok_or_else(|| needed("--key"))?;
    let path = text
        .strip_prefix("keystore:")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| ConfigError::value("--key", "must be keystore:PATH"))?;
    let password_file =
        args.key_password_file.as_deref().ok_or_else(|| needed("--key-password-file"))?;
    let password = read_secret_file(password_file, "--key-password-file")?;
    let path = PathBuf::from(path);
    // Deriving the key takes most of a second of pure work.
    let key: LocalKey =
        tokio::task::spawn_blocking(move || keystore::open(&path, password.expose()))
            .await
            .map_err(|_| AppError::Task)??;
    Ok(TypedSigner::new(Arc::new(key)))
}

fn make_private(folder: &Path) -> Result<(), AppError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| AppError::DataDir { path: folder.to_owned(), source })
}

fn tls_config(
    args: &Args,
    address: &ServiceAddress,
) -> Result<Option<Arc<rustls::ServerConfig>>, AppError> {
    if !address.tls {
        return Ok(None);
    }
    let now = time::OffsetDateTime::now_utc();
    Ok(Some(tls::server_config(&args.data_dir, address.host(), now)?))
}

fn node(
    args: &Args,
    uri: String,
    worker_secret: Option<Secret>,
    cashier: Option<Cashier>,
    signer: Option<TypedSigner>,
) -> Result<Node, AppError> {
    let auth_secret = secrets::load_or_create(&args.data_dir.join("auth-token.secret"))?;
    let mut own_capabilities = Capabilities::of_set(CapabilitySet::default_video());
    own_capabilities.version.clone_from(&args.node_version);
    // 48 random bits: task numbers of another start are far away.
    let first_task = || -> Result<i64, secrets::SecretError> {
        let [a, b, c, d, e, f] = secrets::random()?;
        Ok(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    };
    Ok(Node {
        service_uri: OnceLock::from(uri),
        nodes: args.nodes.clone(),
        signer,
        cashier,
        tokens: AuthTokenSecret::new(auth_secret),
        worker_secret,
        own_capabilities,
        sessions: Sessions::new(args.max_sessions, Duration::from_millis(args.session_idle_ms)),
        transcoders: Arc::new(TranscoderPool::new(first_task()?)),
        ai_workers: Arc::new(AiPool::new(first_task()?)),
        storage: Arc::new(Storage::new(args.result_memory_bytes)),
        fetcher: Fetcher::new(args.allow_private_urls)?,
        ffprobe: args.ffprobe.clone(),
        bodies: BodyMemory::new(args.result_memory_bytes),
        jobs: TaskTracker::new(),
        max_ai_body_bytes: args.max_ai_body_bytes,
        ai_timeout: Duration::from_millis(args.ai_timeout_ms),
        draining: false.into(),
    })
}
