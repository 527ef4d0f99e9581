//! The time, where it enters.

use time::OffsetDateTime;

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}

/// Unix seconds.
pub fn now_s() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
