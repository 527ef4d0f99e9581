//! The one place that reads the clock. Decisions take the time as an argument.

use penstock_failpoint::simulated;
use penstock_store::UnixMs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now.
pub fn now() -> UnixMs {
    if let Some(nanos) = simulated::now_ns() {
        return UnixMs(nanos.div_euclid(1_000_000).unsigned_abs());
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, by the clock that never goes back: the runtime's, which a test or a simulation may hold still.
pub fn instant() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Unix seconds, as auth tokens count.
pub fn seconds(at: UnixMs) -> i64 {
    i64::try_from(at.0 / 1000).unwrap_or(i64::MAX)
}
