//! Settings to a running chain: start anvil, find or make the contracts, announce, mine until told to stop.

use crate::{
    network::{Network, read_code},
    program::Program,
    rpc::{Rpc, RpcError},
};
use clap::Parser;
use penstock_config::{CommonArgs, ConfigError};
use penstock_domain::parse_address;
use penstock_http_kit::{
    CancellationToken, metrics_route,
    serve::{self, ServeError},
};
use penstock_telemetry::MetricsHandle;
use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// How long anvil may take to answer after its start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The settings of `penstock-anvil`.
///
/// Ethereum for a local network: anvil with the network's contracts as tests compile them, L1 blocks at a steady pace.
/// Roles are told --chain ethereum:URL, the --eth-controller of the address file and --eth-chain-id 31337. Money comes
/// from nowhere and callers are not authenticated, so it listens on loopback only. There are no operator endpoints:
/// --admin-addr is accepted and not used.
#[derive(Debug, Clone, Parser)]
#[command(name = "penstock-anvil", version)]
pub struct Args {
    /// Where the chain's JSON-RPC is served; a loopback address. Port 0 chooses a free one.
    #[arg(
        long,
        env = "PENSTOCK_HTTP_ADDR",
        default_value = "127.0.0.1:7001",
        value_name = "IP:PORT"
    )]
    pub http_addr: SocketAddr,

    /// Folder that holds the chain; made if missing. A process that is killed loses its last half minute,
    /// or all of it while that is being written.
    #[arg(long, env = "PENSTOCK_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Milliseconds between L1 blocks; 0 = none come by themselves.
    #[arg(long, env = "PENSTOCK_BLOCK_INTERVAL_MS", default_value_t = 1_000, value_name = "MS",
          value_parser = penstock_config::within::<u64>(0, 86_400_000))]
    pub block_interval_ms: u64,

    /// L1 blocks in a round, of a chain that is new. Tickets are held back for 40 blocks and live for two rounds.
    #[arg(long, env = "PENSTOCK_ROUND_LENGTH", default_value_t = 600, value_name = "BLOCKS",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub round_length: u64,

    /// The program anvil.
    #[arg(long, env = "PENSTOCK_ANVIL", default_value = ".dev/chain/anvil", value_name = "FILE")]
    pub anvil: PathBuf,

    /// The contracts' creation code, in hexadecimal digits.
    #[arg(
        long,
        env = "PENSTOCK_CONTRACTS",
        default_value = ".dev/chain/Network.bin",
        value_name = "FILE"
    )]
    pub contracts: PathBuf,

    /// What every role has.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The chain could not be started.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A setting cannot work: exit 64.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be bound.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The folder cannot be used.
    #[error("--data-dir {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// anvil ended before it answered.
    #[error(
        "anvil ended with {0}; is --anvil the program, --http-addr free, and state.json of --data-dir whole?"
    )]
    Ended(ExitStatus),
    /// The chain's file is lost or broken: ledgers know more than the chain does.
    #[error(
        "{path} knew contracts that its chain does not know: it is lost, or was cut off while it was written; \
         choose another --data-dir, or remove this one with the ledgers that are of this chain"
    )]
    Lost {
        /// The folder.
        path: PathBuf,
    },
    /// anvil does not do what it is asked.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The file of --addr-file cannot be written.
    #[error("--addr-file: {0}")]
    AddrFile(#[source] io::Error),
}

impl BuildError {
    /// Whether the settings have to change, so that starting again as it is cannot help.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Folder { .. } | Self::Lost { .. })
    }
}

/// The chain stopped by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// anvil ended.
    #[error("anvil ended: {0}")]
    Ended(String),
    /// What is watched could not be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A chain that answers and has the contracts.
#[derive(Debug)]
pub struct App {
    program: Program,
    network: Network,
    http: SocketAddr,
    metrics: Option<(tokio::net::TcpListener, SocketAddr)>,
    block_interval: Option<Duration>,
    drain: Duration,
}

impl App {
    /// Starts anvil, on the main thread; finds or makes the contracts; announces.
    ///
    /// # Errors
    ///
    /// Settings that cannot work, a port that is taken, an anvil that does not start.
    pub async fn build(args: &Args) -> Result<Self, BuildError> {
        if !args.http_addr.ip().is_loopback() {
            let reason = "must be a loopback address: this chain does not authenticate its callers";
            return Err(ConfigError::value("--http-addr", reason).into());
        }
        let code = read_code(&args.contracts);
        let code = code.map_err(|error| ConfigError::value("--contracts", error.to_string()))?;
        let folder = |source| BuildError::Folder { path: args.data_dir.clone(), source };
        std::fs::create_dir_all(&args.data_dir).map_err(folder)?;
        let metrics = match args.common.metrics_addr {
            Some(addr) => {
                let listener = serve::bind(addr, "--metrics-addr").await?;
                let bound = listener.local_addr().map_err(ServeError::from)?;
                Some((listener, bound))
            }
            None => None,
        };
        let http = free(args.http_addr)?;
        let program = Program::start(&args.anvil, http, &args.data_dir);
        let mut program =
            program.map_err(|error| ConfigError::value("--anvil", error.to_string()))?;
        let rpc = Rpc::new(&format!("http://{http}"))?;
        tokio::select! {
            answers = answers(&rpc) => answers?,
            ended = program.ended() => return Err(BuildError::Ended(ended.map_err(folder)?)),
        }
        let network = contracts(rpc, &args.data_dir, &code, args.round_length).await?;
        let block_interval =
            (args.block_interval_ms > 0).then(|| Duration::from_millis(args.block_interval_ms));
        let drain = args.common.drain_timeout();
        let app = Self { program, network, http, metrics, block_interval, drain };
        if let Some(path) = &args.common.addr_file {
            serve::write_addr_file(path, &app.addresses()).map_err(BuildError::AddrFile)?;
        }
        Ok(app)
    }

    /// What is announced: `http`, where the chain is; `network` and `controller`, its contracts; `metrics` if asked for.
    pub fn addresses(&self) -> BTreeMap<&'static str, String> {
        let mut addresses = BTreeMap::from([
            ("http", self.http.to_string()),
            ("network", self.network.owner().to_string()),
            ("controller", self.network.controller().to_string()),
        ]);
        if let Some((_, addr)) = &self.metrics {
            addresses.insert("metrics", addr.to_string());
        }
        addresses
    }

    /// Mines until `shutdown`; then has anvil write its chain and end. `metrics` renders for the metrics address.
    ///
    /// # Errors
    ///
    /// anvil ended by itself, or the metrics address could not be served.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        metrics: Option<MetricsHandle>,
    ) -> Result<(), RunError> {
        let Self { mut program, network, metrics: listener, block_interval, drain, .. } = self;
        let observed = async {
            let Some((listener, _)) = listener else { return std::future::pending().await };
            let render = move || metrics.as_ref().map(MetricsHandle::render).unwrap_or_default();
            // It was announced when it answered, and this process ends with it.
            let ready = || -> penstock_http_kit::health::Answer { Box::pin(async { Ok(()) }) };
            let router = metrics_route::router(ready, render);
            serve::serve(listener, router, shutdown.clone(), drain).await
        };
        tokio::select! {
            ended = program.ended() => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(RunError::Ended(how));
            }
            () = mine_for_ever(&network, block_interval) => {}
            served = observed => served?,
            () = shutdown.cancelled() => {}
        }
        if !program.stop(drain).await {
            tracing::warn!("anvil did not end in time and was killed");
        }
        Ok(())
    }
}

/// The address itself, or one with a port that nobody uses now. anvil can choose one as well, and says it to people only.
fn free(addr: SocketAddr) -> Result<SocketAddr, ServeError> {
    let listener = TcpListener::bind(addr).map_err(|source| ServeError::Bind {
        setting: "--http-addr".to_owned(),
        addr,
        source,
    })?;
    Ok(listener.local_addr()?)
}

/// Waits until it does.
async fn answers(rpc: &Rpc) -> Result<(), RpcError> {
    let asking = async {
        while rpc.rich(0).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let late = |_| RpcError::new("its first answer", format!("none in {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, asking).await.map_err(late)
}

/// Those of the folder's chain, made if it is new.
async fn contracts(
    rpc: Rpc,
    folder: &Path,
    code: &str,
    round_length: u64,
) -> Result<Network, BuildError> {
    let note = folder.join("network");
    let known = std::fs::read_to_string(&note).ok();
    if let Some(owner) = known.as_deref().map(str::trim).and_then(parse_address) {
        let found = Network::find(rpc, owner).await?;
        return found.ok_or_else(|| BuildError::Lost { path: folder.to_owned() });
    }
    let network = Network::deploy(rpc, code, round_length).await?;
    std::fs::write(&note, network.owner().to_string())
        .map_err(|source| BuildError::Folder { path: note, source })?;
    Ok(network)
}

/// One L1 block a tick. A late tick is not made up for.
async fn mine_for_ever(network: &Network, every: Option<Duration>) {
    let Some(every) = every else { return std::future::pending().await };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        if let Err(error) = network.mine_blocks(1).await {
            tracing::warn!(%error, "a block could not be mined");
        }
    }
}
