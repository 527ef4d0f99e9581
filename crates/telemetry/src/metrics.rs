//! The process's metrics, in Prometheus' text form.

use crate::{TelemetryError, go, push};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::{sync::OnceLock, time::Duration};
use tokio::time::MissedTickBehavior;

/// Renders the process's metrics in Prometheus' text form.
#[derive(Clone)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// The text for `/metrics`.
    pub fn render(&self) -> String {
        if let Some(allocated_bytes) = HEAP.get() {
            metrics::gauge!("heap_allocated_bytes").set(allocated_bytes() as f64);
        }
        self.0.render()
    }
}

/// From a cache hit to a long job.
const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0,
];

/// What jobs cost: from next to nothing to an ether, two in each power of ten. Histograms are floats, so that
/// these are for charts; the exact amounts are in the books.
const WEI: &[f64] = &[
    1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9, 3e9, 1e10, 3e10, 1e11, 3e11, 1e12, 3e12, 1e13, 3e13, 1e14,
    3e14, 1e15, 3e15, 1e16, 3e16, 1e17, 3e17, 1e18,
];

/// How often what histograms were told goes into their buckets. It is kept one by one until then, or until
/// somebody reads `/metrics`, whom there may not be.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the program has allocated and not freed, where somebody counts it.
static HEAP: OnceLock<fn() -> usize> = OnceLock::new();

/// Where it is counted, `/metrics` has from now on the gauge `heap_allocated_bytes`: what is allocated and not freed,
/// without what an allocator keeps for later.
pub fn heap_is_counted(allocated_bytes: Option<fn() -> usize>) {
    if let Some(allocated_bytes) = allocated_bytes {
        // A second one in the process counts the same heap.
        let _ = HEAP.set(allocated_bytes);
    }
}

/// Installs the process-wide recorder, within the async runtime. Histograms have the buckets of what their names
/// end in, or the Go node's. `node_type` is what it calls such a node: `bctr`, `orch`, `trcr`, `rdmr`, or `dflt`
/// for one that it does not have.
pub fn init_metrics(node_type: &'static str) -> Result<MetricsHandle, TelemetryError> {
    let builder = buckets().map_err(|_| TelemetryError::Twice)?;
    let handle = builder.install_recorder().map_err(|_| TelemetryError::Twice)?;
    go::is(node_type);
    // Shown before there is anything to count: Prometheus sees no increase in what begins with 1.
    metrics::counter!("span_batches_lost_total").increment(0);
    tokio::spawn(keep_up(handle.clone()));
    let handle = MetricsHandle(handle);
    push::begin(handle.clone());
    Ok(handle)
}

fn buckets() -> Result<PrometheusBuilder, BuildError> {
    let by_end = [("_seconds", SECONDS), ("_wei", WEI)];
    let by_end = by_end.map(|(end, buckets)| (Matcher::Suffix(end.to_owned()), buckets));
    let by_name = go::BUCKETS.map(|(name, buckets)| (Matcher::Full(name.to_owned()), buckets));
    by_end
        .into_iter()
        .chain(by_name)
        .try_fold(PrometheusBuilder::new(), |builder, (which, buckets)| {
            builder.set_buckets_for_metric(which, buckets)
        })
}

async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_that_quantiles_come_from() {
        let recorder = buckets().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("job_seconds").record(0.6);
            metrics::histogram!("job_cost_wei").record(2e9);
            metrics::histogram!("livepeer_transcode_score").record(4.2);
        });
        let text = handle.render();
        for line in [
            "job_seconds_bucket{le=\"0.5\"} 0",
            "job_seconds_bucket{le=\"0.75\"} 1",
            "job_cost_wei_bucket{le=\"1000000000\"} 0",
            "job_cost_wei_bucket{le=\"3000000000\"} 1",
            "livepeer_transcode_score_bucket{le=\"4\"} 0",
            "livepeer_transcode_score_bucket{le=\"4.5\"} 1",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}: {text}");
        }
        assert!(!text.contains("quantile"), "{text}");
    }
}
