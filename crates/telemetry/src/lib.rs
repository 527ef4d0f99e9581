//! Logs, metrics and traces, set up the same way for every role.
//!
//! Field names are the same in logs, spans and metrics, with units in them (`duration_ms`,
//! `fee_wei`). No secret, token, key or media byte is ever a field.

mod export;
pub mod go;
mod ids;
mod labels;
mod logs;
mod metrics;
mod outlet;
mod peer;
mod push;
mod sampling;
pub mod trace;

pub use export::Telemetry;
pub use labels::{Names, OTHER};
pub use logs::{TelemetryError, init_logs, log_level, set_log_level};
pub use metrics::{MetricsHandle, heap_is_counted, init_metrics};
pub use peer::{Part, tell_of};

#[doc(hidden)]
pub use tracing;

use penstock_config::{CommonArgs, ConfigError, LogFormat, OtlpArgs};

/// Sets up the logs of a role, and its traces if `--otlp-endpoint` is given. What it returns is ended
/// last, so that the last spans are sent ([`Telemetry::end`]). To be called within the async runtime.
pub fn init(
    service: &'static str,
    common: &CommonArgs,
    otlp: &OtlpArgs,
) -> Result<Telemetry, ConfigError> {
    set_up(service, None, common, otlp)
}

/// The same for a role that tells the spans of another process, which cannot reach a collector itself
/// ([`tell_of`]).
pub fn init_for_two(
    service: &'static str,
    peer: &'static str,
    common: &CommonArgs,
    otlp: &OtlpArgs,
) -> Result<Telemetry, ConfigError> {
    set_up(service, Some(peer), common, otlp)
}

fn set_up(
    service: &'static str,
    peer: Option<&'static str>,
    common: &CommonArgs,
    otlp: &OtlpArgs,
) -> Result<Telemetry, ConfigError> {
    let provider = export::provider(service, otlp)?;
    export::plan_metrics(service, otlp)?;
    let peer = peer.map(|peer| export::provider(peer, otlp)).transpose()?.flatten();
    let json = common.log_format == LogFormat::Json;
    logs::init(json, &common.log_level, provider.as_ref())
        .map_err(|error| ConfigError::value("--log-level", error.to_string()))?;
    if let Some(peer) = &peer {
        peer::speaks_through(peer);
    }
    Ok(Telemetry::of(provider.into_iter().chain(peer).collect()))
}
