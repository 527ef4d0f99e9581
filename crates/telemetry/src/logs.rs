//! Logs to standard error, whose filter can be changed while the process runs.

use crate::trace;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::sync::OnceLock;
use thiserror::Error;
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, Targets, filter_fn},
    fmt,
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
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
    init(json, level, None)
}

/// The same, with spans recorded by `traces`.
pub(crate) fn init(
    json: bool,
    level: &str,
    traces: Option<&SdkTracerProvider>,
) -> Result<(), TelemetryError> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let done = match traces {
        // One filter in front of everything: what is not logged costs nothing.
        None => tracing_subscriber::registry()
            .with(filter)
            .with(filter_fn(is_ours))
            .with(lines(json))
            .try_init(),
        // Each has its own: a quiet log does not silence the traces, nor do traces make logs longer.
        Some(provider) => {
            let spans = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("penstock"))
                // What a span says is what its place in the code gives it, and nothing else.
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_context_activation(false)
                .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::TRACE));
            tracing_subscriber::registry()
                .with(lines(json).with_filter(filter.and(filter_fn(is_ours))))
                .with(spans)
                .try_init()
        }
    };
    done.map_err(|_| TelemetryError::Twice)?;
    if traces.is_some() {
        trace::records();
    }
    FILTER.set(handle).map_err(|_| TelemetryError::Twice)
}

/// All lines, but no span of other crates: those of an HTTP/2 connection last as long as it, and would keep
/// the job that opened it, in whose span they are made, from ending.
fn is_ours(what: &Metadata<'_>) -> bool {
    !what.is_span() || what.target().starts_with("penstock")
}

/// The layer that writes.
fn lines<S>(json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    if json {
        return fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed();
    }
    // Colours are for people, not for log files.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    fmt::layer().with_target(false).with_ansi(colours).with_writer(std::io::stderr).boxed()
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
