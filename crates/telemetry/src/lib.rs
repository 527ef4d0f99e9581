//! Logs and metrics set-up, the same for every role.
//!
//! Field names are the same in logs, spans and metrics, with units in them (`duration_ms`,
//! `fee_wei`). No secret, token, key or media byte is ever a field.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use thiserror::Error;
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The filter of this process's logs, once they are set up.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Set-up failed.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The level is not a filter.
    #[error("--log-level: {0}")]
    Level(String),
    /// Logs were not set up.
    #[error("this process has no logs")]
    NoLogs,
    /// Set up twice in one process.
    #[error("telemetry is already set up in this process")]
    Twice,
}

/// Logs to standard error. `level` is a filter such as `info` or `info,penstock_signer=debug`.
pub fn init_logs(json: bool, level: &str) -> Result<(), TelemetryError> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let done = if json {
        let layer = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
        registry.with(layer).try_init()
    } else {
        // Colours are for people, not for log files.
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let layer = fmt::layer().with_target(false).with_ansi(colours).with_writer(std::io::stderr);
        registry.with(layer).try_init()
    };
    done.map_err(|_| TelemetryError::Twice)?;
    FILTER.set(handle).map_err(|_| TelemetryError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(level).map_err(|e| TelemetryError::Level(e.to_string()))
}

/// Logs from now on what this filter lets through, until the process ends. The error says what is wrong
/// with it, or that there are no logs.
pub fn set_log_level(level: &str) -> Result<(), TelemetryError> {
    let filter = filter(level)?;
    let handle = FILTER.get().ok_or(TelemetryError::NoLogs)?;
    handle.reload(filter).map_err(|_| TelemetryError::NoLogs)
}

/// The filter that counts now, as text; `None` without logs.
pub fn log_level() -> Option<String> {
    FILTER.get()?.with_current(ToString::to_string).ok()
}

/// Renders the process's metrics in Prometheus' text form.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// The text for `/metrics`.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Latency buckets: from a cache hit to a long transcode.
const SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Installs the process-wide recorder. Histograms whose names end in `_seconds` get fixed buckets.
pub fn init_metrics() -> Result<MetricsHandle, TelemetryError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .map_err(|_| TelemetryError::Twice)?
        .install_recorder()
        .map(MetricsHandle)
        .map_err(|_| TelemetryError::Twice)
}
