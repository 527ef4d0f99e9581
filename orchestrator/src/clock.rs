//! The time, where it enters.

use penstock_failpoint::simulated;
use time::OffsetDateTime;

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    if let Some(nanos) = simulated::now_ns() {
        return nanos.div_euclid(1_000_000);
    }
    let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}

/// Unix seconds.
pub fn now_s() -> i64 {
    match simulated::now_ns() {
        Some(nanos) => nanos.div_euclid(1_000_000_000),
        None => OffsetDateTime::now_utc().unix_timestamp(),
    }
}
