//! What those metrics have in common that the Go node has too, under its names (`livepeer_…`), so that
//! operators' dashboards go on: labels that say which node it is, its buckets, and money in gwei.

use metrics::Label;
use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Wei of a gwei.
const GWEI: u64 = 1_000_000_000;

/// Upper bounds of its histograms.
pub(crate) const BUCKETS: [(&str, &[f64]); 4] = [
    (
        "livepeer_source_segment_duration_seconds",
        &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 10.0, 15.0, 20.0],
    ),
    (
        "livepeer_transcode_time_seconds",
        &[0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 10.0],
    ),
    (
        "livepeer_transcode_overall_latency_seconds",
        &[0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 10.0],
    ),
    (
        "livepeer_transcode_score",
        &[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 10.0, 15.0, 20.0, 40.0],
    ),
];

static NODE: OnceLock<[Label; 2]> = OnceLock::new();

/// Says what kind of node this is: `bctr`, `orch`, `trcr`, `rdmr` or `dflt`.
pub(crate) fn is(node_type: &'static str) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // For as long as the process lives: the labels of each count are then made without a copy.
    let host: &'static str = host.trim().to_owned().leak();
    let node_type = Label::from_static_parts("node_type", node_type);
    let _ = NODE.set([Label::from_static_parts("node_id", host), node_type.clone()]);
    let version = concat!("penstock-", env!("CARGO_PKG_VERSION"));
    let labels = vec![
        node_type,
        Label::from_static_parts("compiler", "rustc"),
        Label::from_static_parts("goos", std::env::consts::OS),
        // Dashboards name it, and there is no Go here.
        Label::from_static_parts("goversion", "none"),
        Label::from_static_parts("livepeerversion", version),
    ];
    metrics::gauge!("livepeer_versions", labels).set(1.0);
}

/// The node's labels and these.
pub fn labels<const N: usize>(more: [(&'static str, String); N]) -> Vec<Label> {
    let node = NODE.get().map(|node| node.to_vec()).unwrap_or_default();
    node.into_iter().chain(more.map(|(name, value)| Label::new(name, value))).collect()
}

/// A sum of small units told in large ones, of which counters take whole numbers only: what one amount leaves over
/// counts with the next.
#[derive(Debug)]
pub struct Whole {
    /// Small units of a large one, > 0.
    per: u64,
    /// Small units left over, below `per`.
    left: AtomicU64,
}

impl Whole {
    /// Of wei.
    pub const fn gwei() -> Self {
        Self { per: GWEI, left: AtomicU64::new(0) }
    }

    /// Of one by one.
    pub const fn millions() -> Self {
        Self { per: 1_000_000, left: AtomicU64::new(0) }
    }

    /// Adds small units; the large ones that have become full.
    pub fn add(&self, amount: u128) -> u64 {
        let per = u128::from(self.per);
        let whole = u64::try_from(amount / per).unwrap_or(u64::MAX);
        let part = u64::try_from(amount % per).unwrap_or(0);
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some((left + part) % self.per)
        });
        let left = left.unwrap_or_else(|left| left);
        whole.saturating_add((left + part) / self.per)
    }
}

/// Wei as gwei, for gauges, which are floats.
pub fn gwei(wei: u128) -> f64 {
    wei as f64 / GWEI as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_amounts() {
        let sum = Whole::gwei();
        let told: u64 = (0..10).map(|_| sum.add(300_000_000)).sum();
        assert_eq!(told, 3);
        assert_eq!(sum.add(5_999_999_999), 5);
        assert_eq!(sum.add(1), 1);
        assert_eq!(sum.add(u128::MAX), u64::MAX);
        let pixels = Whole::millions();
        assert_eq!([pixels.add(2_500_000), pixels.add(500_000)], [2, 1]);
    }
}
