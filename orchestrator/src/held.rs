//! What the process holds at this moment, as gauges: whatever peers do, it is there as long as somebody works with
//! it or may still ask for it, and given back then. What has a gauge where it is counted is not here.

use crate::node::Node;

/// Shown at each look at the metrics.
pub fn show(node: &Node) {
    let open = node.runners.as_ref().map_or(0, |runners| runners.registry.open_requests());
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    gauge("orchestrator_work_under_way", node.jobs.len());
    gauge("orchestrator_body_bytes_held", node.bodies.held_bytes());
    gauge("orchestrator_stored_bytes", node.storage.bytes());
    gauge("orchestrator_runner_requests", open);
    gauge("orchestrator_tasks", alive);
}

#[allow(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(name: &'static str, value: usize) {
    metrics::gauge!(name).set(value as f64);
}
