//! The process's metrics, in Prometheus' text form.

use crate::TelemetryError;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

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
