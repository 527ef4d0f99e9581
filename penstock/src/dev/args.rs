//! The settings of `penstock dev`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::chain::Kind;

/// Runs a whole network on this machine, one child process per role, payments on.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Folder for keys, ledgers, the chain, logs and addresses; made if missing, kept at the end.
    #[arg(long, env = "PENSTOCK_DATA_DIR", default_value = ".penstock-dev", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Where the gateway serves applications. Port 0 chooses a free one, here and below.
    #[arg(
        long,
        env = "PENSTOCK_HTTP_ADDR",
        default_value = "127.0.0.1:9935",
        value_name = "IP:PORT"
    )]
    pub http_addr: SocketAddr,

    /// Where the signer serves gateways and SDKs.
    #[arg(
        long,
        env = "PENSTOCK_SIGNER_ADDR",
        default_value = "127.0.0.1:7936",
        value_name = "IP:PORT"
    )]
    pub signer_addr: SocketAddr,

    /// Where the orchestrator serves gateways, SDKs and workers (TLS).
    #[arg(
        long,
        env = "PENSTOCK_ORCHESTRATOR_ADDR",
        default_value = "127.0.0.1:8935",
        value_name = "IP:PORT"
    )]
    pub orchestrator_addr: SocketAddr,

    /// The chain: `devnet`, a small one of Penstock's own, or `anvil`, on which the network's contracts run as they do on
    /// Arbitrum. A data folder keeps the one that it was made with.
    #[arg(
        long,
        env = "PENSTOCK_DEV_CHAIN",
        value_enum,
        default_value_t = Kind::Devnet,
        value_name = "CHAIN"
    )]
    pub chain: Kind,

    /// The program anvil, for `--chain anvil` (`cargo xtask dev --chain anvil` installs it).
    #[arg(long, env = "PENSTOCK_ANVIL", default_value = ".dev/chain/anvil", value_name = "FILE")]
    pub anvil: PathBuf,

    /// The contracts that anvil runs: their creation code, in hexadecimal digits.
    #[arg(
        long,
        env = "PENSTOCK_CONTRACTS",
        default_value = ".dev/chain/Network.bin",
        value_name = "FILE"
    )]
    pub contracts: PathBuf,

    /// Where the development chain is served.
    #[arg(
        long,
        env = "PENSTOCK_CHAIN_ADDR",
        default_value = "127.0.0.1:7001",
        value_name = "IP:PORT"
    )]
    pub chain_addr: SocketAddr,

    /// Milliseconds between two L1 blocks of the development chain. Ticket offers live for 40
    /// blocks, and winning tickets are redeemed after that.
    #[arg(long, env = "PENSTOCK_BLOCK_INTERVAL_MS", default_value_t = 500, value_name = "MS")]
    pub block_interval_ms: u64,

    /// The Python that has the runner's packages (`cargo xtask setup` makes one).
    #[arg(
        long,
        env = "PENSTOCK_RUNNER_PYTHON",
        default_value = ".dev/runner-venv/bin/python",
        value_name = "FILE"
    )]
    pub runner_python: PathBuf,

    /// The folder of the runner's program.
    #[arg(long, env = "PENSTOCK_RUNNER_DIR", default_value = "runner", value_name = "DIR")]
    pub runner_dir: PathBuf,

    /// The folder of installed models (`cargo xtask setup` fills one).
    #[arg(long, env = "PENSTOCK_MODELS_DIR", default_value = ".dev/models", value_name = "DIR")]
    pub models_dir: PathBuf,

    /// Which NVIDIA cards the worker may use: `all`, `none`, or numbers such as `0,1`.
    #[arg(long, env = "PENSTOCK_NVIDIA", default_value = "none", value_name = "LIST")]
    pub nvidia: String,

    /// Log level of every role, for example `info` or `debug`.
    #[arg(long, env = "PENSTOCK_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// How long each role may take to finish its work after SIGTERM, in milliseconds.
    #[arg(long, env = "PENSTOCK_DRAIN_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS")]
    pub drain_timeout_ms: u64,

    /// How long the whole network may take until it is ready, in seconds.
    #[arg(long, env = "PENSTOCK_READY_TIMEOUT_S", default_value_t = 120, value_name = "S")]
    pub ready_timeout_s: u64,

    /// Stop everything when a role dies, instead of starting it again.
    #[arg(long, env = "PENSTOCK_NO_RESTART")]
    pub no_restart: bool,
}
