//! How long a failing orchestrator is left alone.

/// What it did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It said that it has no room. That passes quickly, and is no fault.
    Busy,
    /// It could not be reached, did not answer in time, or broke off.
    Unreachable,
    /// It failed the job or answered with its own error.
    Failed,
    /// It returned something that is not the result: wrong signature, count or size.
    BadResult,
    /// It wants more than agreed.
    Price,
    /// It shows another certificate and cannot sign with the key that it had.
    WrongKey,
}

/// Base time by fault, in milliseconds.
fn base_ms(fault: Fault) -> u64 {
    match fault {
        Fault::Busy => 2_000,
        Fault::Unreachable => 10_000,
        Fault::Failed => 15_000,
        Fault::Price => 60_000,
        Fault::BadResult | Fault::WrongKey => 300_000,
    }
}

/// Longest suspension: an orchestrator that was mended is tried again within this time.
pub const MAX_MS: u64 = 600_000;

/// Milliseconds to suspend for: the fault's base time, doubled with each failure in a row (the
/// first is 1), at most [`MAX_MS`].
pub fn suspension_ms(fault: Fault, failures_in_a_row: u32) -> u64 {
    let doublings = failures_in_a_row.saturating_sub(1).min(10);
    base_ms(fault).saturating_mul(1 << doublings).min(MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_stops() {
        assert_eq!(suspension_ms(Fault::Busy, 0), 2_000);
        assert_eq!(suspension_ms(Fault::Busy, 1), 2_000);
        assert_eq!(suspension_ms(Fault::Busy, 3), 8_000);
        assert_eq!(suspension_ms(Fault::Unreachable, u32::MAX), MAX_MS);
        assert!(suspension_ms(Fault::BadResult, 1) > suspension_ms(Fault::Failed, 1));
    }
}
