//! The flags that every role has.

use clap::{Args, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags that every role has; flattened into its own.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// TOML file with the same settings as the flags (without the leading dashes).
    #[arg(long, env = "PENSTOCK_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Log format.
    #[arg(long, env = "PENSTOCK_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,

    /// Log level or filter, for example `info` or `warn,penstock_gateway=debug`.
    #[arg(long, env = "PENSTOCK_LOG_LEVEL", default_value = "info", global = true)]
    pub log_level: String,

    /// Where `/metrics`, `/healthz` and `/readyz` are served. Off when absent.
    #[arg(long, env = "PENSTOCK_METRICS_ADDR", value_name = "IP:PORT")]
    pub metrics_addr: Option<SocketAddr>,

    /// Where the operator endpoints are served. Port 0 chooses a free one.
    #[arg(
        long,
        env = "PENSTOCK_ADMIN_ADDR",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:0"
    )]
    pub admin_addr: SocketAddr,

    /// File holding the bearer token that operator endpoints ask for. Needed when
    /// --admin-addr is not a loopback address.
    #[arg(long, env = "PENSTOCK_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Writes the addresses really bound to this file, as JSON, once the process listens.
    #[arg(long, env = "PENSTOCK_ADDR_FILE", value_name = "FILE")]
    pub addr_file: Option<PathBuf>,

    /// After SIGTERM, how long requests in flight may take, in milliseconds.
    #[arg(long, env = "PENSTOCK_DRAIN_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS",
          value_parser = crate::within::<u64>(0, 86_400_000))]
    pub drain_timeout_ms: u64,
}

impl CommonArgs {
    /// [`Self::drain_timeout_ms`] as a duration.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    /// The operator token, if one is set. Refuses an open admin address without one.
    pub fn admin_token(&self) -> Result<Option<crate::Secret>, crate::ConfigError> {
        match &self.admin_token_file {
            Some(path) => crate::read_secret_file(path, "--admin-token-file").map(Some),
            None if self.admin_addr.ip().is_loopback() => Ok(None),
            None => Err(crate::ConfigError::value(
                "--admin-token-file",
                format!("is required because --admin-addr {} is not loopback", self.admin_addr),
            )),
        }
    }
}
