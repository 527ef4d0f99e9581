//! Whether a segment can be begun in time. A gateway waits for max(8 s, 4 × its length), its upload included,
//! and then goes elsewhere: what would still be waiting then is refused at once, while there is time to do that.

use std::time::Duration;

/// How long segments of a session take: the newest counts for a quarter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace(Option<Duration>);

impl Pace {
    /// One more took so long.
    pub fn note(&mut self, took: Duration) {
        self.0 = Some(match self.0 {
            None => took,
            Some(before) => before.saturating_mul(3).saturating_add(took) / 4,
        });
    }

    /// Whether a segment that waits behind `ahead` others, not counting the one that is being worked on, is
    /// begun within `budget`, as far as is known: where nothing is, it is let in.
    pub fn begins_in_time(self, ahead: usize, budget: Duration) -> bool {
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        self.0.is_none_or(|each| each.saturating_mul(ahead) < budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(took_ms: &[u32]) -> Pace {
        let mut pace = Pace::default();
        took_ms.iter().for_each(|ms| pace.note(Duration::from_millis((*ms).into())));
        pace
    }

    #[test]
    fn what_would_wait_for_too_long_is_not_let_in() {
        let (slow, budget) = (pace(&[3_000]), Duration::from_secs(8));
        let of = |pace: Pace| [0, 1, 2, 3, 4].map(|ahead| pace.begins_in_time(ahead, budget));
        assert_eq!(of(slow), [true, true, true, false, false]);
        assert_eq!(of(pace(&[500])), [true; 5]);
        assert_eq!(of(Pace::default()), [true; 5], "nothing is known");
        // It recovers with its worker.
        assert_eq!(of(pace(&[60_000])), [true, false, false, false, false]);
        let mut took = vec![60_000];
        took.extend([100; 12]);
        assert!(pace(&took).begins_in_time(3, budget));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn more_ahead_or_less_time_lets_nobody_in(
            took in prop::collection::vec(any::<u32>(), 0..20),
            ahead in 0_usize..1_000,
            budget_ms in 1_u64..1_000_000,
        ) {
            let (pace, budget) = (pace(&took), Duration::from_millis(budget_ms));
            prop_assert!(pace.begins_in_time(0, budget), "nobody is ahead");
            prop_assert!(pace.begins_in_time(ahead, Duration::MAX));
            if !pace.begins_in_time(ahead, budget) {
                prop_assert!(!pace.begins_in_time(ahead + 1, budget));
                prop_assert!(!pace.begins_in_time(ahead, budget / 2));
            }
        }

        #[test]
        fn a_pace_lies_between_what_was_measured(took in prop::collection::vec(any::<u32>(), 1..20)) {
            let ms = |ms: &u32| Duration::from_millis((*ms).into());
            let (least, most) = (took.iter().min().map(ms).unwrap(), took.iter().max().map(ms).unwrap());
            let Pace(Some(pace)) = pace(&took) else { panic!() };
            // Each division rounds down by less than a nanosecond.
            prop_assert!(pace + Duration::from_nanos(20) >= least && pace <= most);
        }
    }
}
