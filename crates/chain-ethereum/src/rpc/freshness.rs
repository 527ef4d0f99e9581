//! Whether an endpoint's newest block is new: a pure decision from the block's timestamp and this machine's clock.
//!
//! An endpoint that stands still answers everything, as of the block where it stopped. Nothing in its answers tells,
//! but for the time of its newest block.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The newest block is looked at so often while its age is within its bound: a quarter of the bound, and at most this.
const LONGEST_BETWEEN: Duration = Duration::from_secs(15);

/// When an endpoint's newest block was last seen to be new.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Freshness {
    seen: Option<Instant>,
}

impl Freshness {
    /// Whether its newest block is to be looked at before it is asked anything else.
    pub(super) fn is_due(self, now: Instant, most: Duration) -> bool {
        let between = (most / 4).min(LONGEST_BETWEEN);
        self.seen.is_none_or(|seen| now.saturating_duration_since(seen) >= between)
    }

    /// Its newest block was new.
    pub(super) fn is_fresh_as_of(&mut self, now: Instant) {
        self.seen = Some(now);
    }
}

/// Holds a block's timestamp (seconds since 1970) against the clock; `most` apart is still good. `Err` says why not.
pub(super) fn check(said_s: u64, now: SystemTime, most: Duration) -> Result<(), String> {
    let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let said_ms = u128::from(said_s).saturating_mul(1_000);
    let apart_ms = now_ms.abs_diff(said_ms);
    // A block's time is in whole seconds.
    if apart_ms <= most.as_millis().saturating_add(999) {
        return Ok(());
    }
    let (apart_s, way) = (apart_ms / 1_000, if said_ms < now_ms { "behind" } else { "ahead of" });
    Err(format!(
        "its newest block is {apart_s} s {way} this machine's clock, more than --eth-max-head-age-ms {}",
        most.as_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_counts_within_the_bound_on_both_sides_of_the_clock() {
        let most = Duration::from_secs(60);
        let now = UNIX_EPOCH + Duration::from_millis(1_000_500);
        for good in [1_000, 1_001, 940, 1_060, 1_061] {
            assert_eq!(check(good, now, most), Ok(()), "{good}");
        }
        for (bad, word) in [(939, "behind"), (0, "behind"), (1_062, "ahead"), (u64::MAX, "ahead")] {
            let why = check(bad, now, most).unwrap_err();
            assert!(why.contains(word) && why.contains("--eth-max-head-age-ms 60000"), "{why}");
        }
    }

    #[test]
    fn it_is_looked_at_again_well_before_it_can_be_too_old() {
        let (now, mut freshness) = (Instant::now(), Freshness::default());
        let (short, long) = (Duration::from_secs(8), Duration::from_secs(3_600));
        assert!(freshness.is_due(now, short));
        freshness.is_fresh_as_of(now);
        assert!(!freshness.is_due(now + Duration::from_secs(1), short));
        assert!(freshness.is_due(now + Duration::from_secs(2), short));
        assert!(!freshness.is_due(now + Duration::from_secs(14), long));
        assert!(freshness.is_due(now + LONGEST_BETWEEN, long));
    }
}
