//! The one place that reads the clock. Decisions take the time as an argument.

use penstock_store::UnixMs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Unix seconds, as auth tokens count.
pub fn seconds(at: UnixMs) -> i64 {
    i64::try_from(at.0 / 1000).unwrap_or(i64::MAX)
}
