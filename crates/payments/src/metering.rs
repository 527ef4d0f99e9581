//! Live metering: how many units of work have passed, without losing fractions
//! (payments.md section 12). Integers only: the reference's doubles differ by at most one unit.

/// Pixels per second of live video: 720 × 1280 at 30 frames.
pub const LV2V_PIXELS_PER_SECOND: u64 = 27_648_000;
/// Default time between two meterings.
pub const DEFAULT_INTERVAL_MS: u64 = 5_000;

const NS_PER_SECOND: u128 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// Meters one session. Times are nanoseconds of any clock that does not jump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMeter {
    units_per_second: u64,
    interval_ns: u64,
    last_ns: u64,
    /// What was metered but not yet billed, in units × nanoseconds: always below one unit.
    carry: u128,
}

impl LiveMeter {
    /// Starts at `now_ns`. The rate is [`LV2V_PIXELS_PER_SECOND`], or 1 when seconds are billed.
    pub fn new(units_per_second: u64, interval_ms: u64, now_ns: u64) -> Self {
        let interval_ns = interval_ms.saturating_mul(NS_PER_MS);
        Self { units_per_second, interval_ns, last_ns: now_ns, carry: 0 }
    }

    /// On each segment: the whole units since the last metering once the interval has passed, else
    /// `None`. The time is used up even if the payment then fails; the fraction is carried. The
    /// interval counts from the time up to which units were billed, so a carried fraction makes the
    /// next one come a little sooner.
    pub fn tick(&mut self, now_ns: u64) -> Option<u64> {
        let elapsed_ns = u128::from(now_ns.checked_sub(self.last_ns)?);
        let rate = u128::from(self.units_per_second);
        let unbilled = rate.saturating_mul(elapsed_ns).saturating_add(self.carry);
        if unbilled < rate.saturating_mul(u128::from(self.interval_ns)) {
            return None;
        }
        self.last_ns = now_ns;
        self.carry = unbilled % NS_PER_SECOND;
        Some(u64::try_from(unbilled / NS_PER_SECOND).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_fraction_is_carried() {
        // 10.5 s twice at one unit a second.
        let mut meter = LiveMeter::new(1, DEFAULT_INTERVAL_MS, 0);
        assert_eq!(meter.tick(10 * S + S / 2), Some(10));
        assert_eq!(meter.tick(21 * S), Some(11));
    }

    #[test]
    fn nothing_happens_within_the_interval() {
        let mut meter = LiveMeter::new(LV2V_PIXELS_PER_SECOND, 5_000, S);
        assert_eq!(meter.tick(S), None);
        assert_eq!(meter.tick(6 * S - 1), None);
        assert_eq!(meter.tick(6 * S), Some(5 * LV2V_PIXELS_PER_SECOND));
        assert_eq!(meter.tick(6 * S), None);
    }

    /// The interval counts from the end of what was billed, half a second before the last tick.
    #[test]
    fn a_carried_fraction_shortens_the_next_interval() {
        let mut meter = LiveMeter::new(1, 5_000, 0);
        assert_eq!(meter.tick(5 * S + S / 2), Some(5));
        assert_eq!(meter.tick(10 * S - 1), None);
        assert_eq!(meter.tick(10 * S), Some(5));
    }

    #[test]
    fn a_clock_that_goes_back_bills_nothing() {
        let mut meter = LiveMeter::new(1, 0, 10 * S);
        assert_eq!(meter.tick(9 * S), None);
        assert_eq!(meter.tick(12 * S), Some(2));
    }
}
