//! Settings to a running devnet: bind, open the store, then serve and mine until told to stop.

use crate::{
    node::{Node, NodeError, Request},
    server,
    state::Mining,
    store::StoreError,
};
use clap::Parser;
use penstock_config::{CommonArgs, ConfigError};
use penstock_domain::Wei;
use penstock_http_kit::{
    CancellationToken, metrics_route,
    serve::{self, ServeError},
};
use penstock_telemetry::MetricsHandle;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};

/// The settings of `penstock-devnet`.
///
/// A chain for development: deposits, reserves, rounds, the active orchestrator set and ticket
/// redemption with the contract's own checks, shared by all roles through --chain devnet:URL.
/// Money comes from nowhere and callers are not authenticated, so it listens on loopback only.
/// There are no operator endpoints besides: --admin-addr is accepted and not used.
#[derive(Debug, Clone, Parser)]
#[command(name = "penstock-devnet", version)]
pub struct Args {
    /// Where the chain is served; a loopback address. Port 0 chooses a free one.
    #[arg(
        long,
        env = "PENSTOCK_HTTP_ADDR",
        default_value = "127.0.0.1:7001",
        value_name = "IP:PORT"
    )]
    pub http_addr: SocketAddr,

    /// Folder that holds the chain; made if missing.
    #[arg(long, env = "PENSTOCK_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Milliseconds between L1 blocks; 0 = blocks are only mined by POST /mine.
    #[arg(long, env = "PENSTOCK_BLOCK_INTERVAL_MS", default_value_t = 1_000, value_name = "MS")]
    pub block_interval_ms: u64,

    /// L1 blocks in a round. Fixed when the data folder is made. Tickets are held back for 40
    /// blocks and live for two rounds, so it should be well above 40.
    #[arg(
        long,
        env = "PENSTOCK_ROUND_LENGTH",
        default_value_t = 600,
        value_name = "BLOCKS",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    pub round_length: u64,

    /// Gas price that the chain reports, in wei.
    #[arg(long, env = "PENSTOCK_GAS_PRICE_WEI", default_value_t = Wei::ZERO, value_name = "WEI")]
    pub gas_price_wei: Wei,

    /// What every role has.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The devnet could not start.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A setting cannot work: exit 64.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be bound.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of --addr-file cannot be written.
    #[error("--addr-file: {0}")]
    AddrFile(#[source] std::io::Error),
}

impl BuildError {
    /// Whether the settings have to change, so that starting again as it is cannot help.
    pub fn is_config(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::Store(error) => {
                matches!(error, StoreError::RoundLength { .. } | StoreError::Folder { .. })
            }
            Self::Serve(_) | Self::AddrFile(_) => false,
        }
    }
}

/// A devnet whose addresses are bound and whose state is loaded.
#[derive(Debug)]
pub struct App {
    node: Node,
    http: (TcpListener, SocketAddr),
    metrics: Option<(TcpListener, SocketAddr)>,
    block_interval: Option<Duration>,
    drain: Duration,
}

impl App {
    /// Binds and opens everything.
    pub async fn build(args: &Args) -> Result<Self, BuildError> {
        if !args.http_addr.ip().is_loopback() {
            let reason = "must be a loopback address: a devnet does not authenticate its callers";
            return Err(ConfigError::value("--http-addr", reason).into());
        }
        let node = Node::open(&args.data_dir, args.round_length, args.gas_price_wei).await?;
        let metrics = match args.common.metrics_addr {
            Some(addr) => Some(listen(addr, "--metrics-addr").await?),
            None => None,
        };
        let block_interval =
            (args.block_interval_ms > 0).then(|| Duration::from_millis(args.block_interval_ms));
        let app = Self {
            node,
            http: listen(args.http_addr, "--http-addr").await?,
            metrics,
            block_interval,
            drain: args.common.drain_timeout(),
        };
        if let Some(path) = &args.common.addr_file {
            serve::write_addr_file(path, &app.addresses()).map_err(BuildError::AddrFile)?;
        }
        Ok(app)
    }

    /// The addresses really bound: `http`, and `metrics` if asked for.
    pub fn addresses(&self) -> BTreeMap<&'static str, String> {
        let mut addresses = BTreeMap::from([("http", self.http.1.to_string())]);
        if let Some((_, addr)) = &self.metrics {
            addresses.insert("metrics", addr.to_string());
        }
        addresses
    }

    /// What `--chain` of the other roles is to be.
    pub fn chain_url(&self) -> String {
        format!("devnet:http://{}", self.http.1)
    }

    /// Serves and mines until `shutdown`; then finishes what is in flight and lets go of the store.
    /// `metrics` renders for the metrics address.
    pub async fn run(
        self,
        shutdown: CancellationToken,
        metrics: Option<MetricsHandle>,
    ) -> Result<(), ServeError> {
        let Self { node, http, metrics: metrics_listener, block_interval, drain } = self;
        let api = serve::serve(http.0, server::router(node.clone()), shutdown.clone(), drain);
        let observed = async {
            let Some((listener, _)) = metrics_listener else { return Ok(()) };
            let render = move || metrics.as_ref().map(MetricsHandle::render).unwrap_or_default();
            let router = metrics_route::router(server::readiness(node.clone()), render);
            serve::serve(listener, router, shutdown.clone(), drain).await
        };
        let mining = async {
            if let Some(every) = block_interval {
                let stopped = shutdown.cancelled();
                tokio::select! { () = mine_for_ever(&node, every) => {}, () = stopped => {} }
            }
            Ok(())
        };
        let served = tokio::try_join!(api, observed, mining);
        node.close().await;
        served.map(|_| ())
    }
}

async fn listen(addr: SocketAddr, setting: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener = serve::bind(addr, setting).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// One block a tick. A late tick is not made up for: blocks are at least `every` apart.
async fn mine_for_ever(node: &Node, every: Duration) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and a chain that just started has its block already.
    tick.tick().await;
    loop {
        tick.tick().await;
        let block = Request::Mine { how: Mining::Blocks(1), initialize: true };
        match node.submit(block).await {
            Ok(_) => {}
            Err(NodeError::Stopping) => return,
            Err(error) => tracing::warn!(%error, "a block could not be mined"),
        }
    }
}
