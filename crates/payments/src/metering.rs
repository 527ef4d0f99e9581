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
