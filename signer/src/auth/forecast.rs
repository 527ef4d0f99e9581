//! Where an account's spending leads: its rate, what the period will have cost at its end, and when
//! a budget runs out if nothing changes. Pure and exact; a forecast decides nothing.

use penstock_domain::{Rational, Wei};

/// Rates are taken over this many days, today included.
pub const WINDOW_DAYS: i64 = 7;
/// A rate out of less time than this says nothing.
const MIN_ELAPSED_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Unix milliseconds.
    pub now_ms: i64,
    /// End of the period, Unix milliseconds.
    pub end_ms: i64,
    /// Charged in the period so far.
    pub spent_wei: Wei,
    /// What may be charged in the period.
    pub cap_wei: Option<Wei>,
    /// Wei in a millisecond; see [`rate`].
    pub rate: Rational,
}

/// Where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Charged when the period ends, rounded up.
    pub projected_wei: Wei,
    /// When the budget is used up, Unix milliseconds, if that is before the period ends.
    pub runs_out_at_ms: Option<i64>,
}

/// Spending per millisecond: `spent_wei` since `since_ms`.
pub fn rate(spent_wei: Wei, since_ms: i64, now_ms: i64) -> Rational {
    let elapsed = now_ms.saturating_sub(since_ms).max(MIN_ELAPSED_MS);
    let elapsed = Rational::from_int(i128::from(elapsed));
    exact(spent_wei).checked_div(&elapsed).unwrap_or_default()
}

/// The midnight at which the window of a rate begins.
pub fn window_start_ms(now_ms: i64) -> i64 {
    let midnight = now_ms.saturating_sub(now_ms.rem_euclid(DAY_MS));
    midnight.saturating_sub((WINDOW_DAYS - 1).saturating_mul(DAY_MS))
}

/// Continues a rate to the end of the period.
pub fn forecast(known: &Known) -> Forecast {
    let left_ms = known.end_ms.saturating_sub(known.now_ms).max(0);
    let left = Rational::from_int(i128::from(left_ms));
    let projected = exact(known.spent_wei) + known.rate.clone() * left;
    let projected_wei = projected.ceil_u256().map_or(Wei(penstock_domain::U256::MAX), Wei);
    Forecast { projected_wei, runs_out_at_ms: runs_out(known) }
}

fn runs_out(known: &Known) -> Option<i64> {
    let cap = known.cap_wei?;
    if known.spent_wei >= cap {
        return Some(known.now_ms);
    }
    let room = exact(cap.saturating_sub(known.spent_wei));
    let in_ms = room.checked_div(&known.rate)?.floor_i64()?;
    let at = known.now_ms.checked_add(in_ms)?;
    (at < known.end_ms).then_some(at)
}

fn exact(wei: Wei) -> Rational {
    Rational::from_u256(wei.0, penstock_domain::U256::from(1u8)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn known(spent: u64, cap: Option<u64>, per_day: u64, days_left: i64) -> Known {
        Known {
            now_ms: 0,
            end_ms: days_left * DAY_MS,
            spent_wei: Wei::from_u64(spent),
            cap_wei: cap.map(Wei::from_u64),
            rate: rate(Wei::from_u64(per_day), -DAY_MS, 0),
        }
    }

    #[test]
    fn an_even_spender_is_foreseen_exactly() {
        let forecast = super::forecast(&known(100, Some(160), 10, 20));
        assert_eq!(forecast.projected_wei, Wei::from_u64(300));
        assert_eq!(forecast.runs_out_at_ms, Some(6 * DAY_MS));
        assert_eq!(super::forecast(&known(100, Some(300), 10, 20)).runs_out_at_ms, None);
        assert_eq!(super::forecast(&known(100, None, 10, 20)).runs_out_at_ms, None);
        assert_eq!(super::forecast(&known(100, Some(100), 0, 20)).runs_out_at_ms, Some(0));
        assert_eq!(super::forecast(&known(100, Some(101), 0, 20)).runs_out_at_ms, None);
    }

    #[test]
    fn the_window_begins_at_a_midnight() {
        let noon = 10 * DAY_MS + DAY_MS / 2;
        assert_eq!(window_start_ms(noon), 4 * DAY_MS);
        // The first minute of an account does not make it a millionaire.
        let minute = rate(Wei::from_u64(60), noon - 60_000, noon);
        assert_eq!(minute * Rational::from_int(i128::from(MIN_ELAPSED_MS)), Rational::from(60u64));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]
        #[test]
        fn forecasts_agree_with_themselves(
            spent: u64, more: u32, cap: Option<u64>, per_day: u64, days in 0i64..32,
        ) {
            let asked = known(spent, cap, per_day, days);
            let said = forecast(&asked);
            prop_assert!(said.projected_wei >= asked.spent_wei);
            let larger = known(spent.saturating_add(more.into()), cap, per_day, days);
            prop_assert!(forecast(&larger).projected_wei >= said.projected_wei);
            if let Some(cap) = asked.cap_wei {
                // It runs out before the end exactly if more than the budget is projected.
                let over = exact(cap) < exact(asked.spent_wei)
                    + asked.rate.clone() * Rational::from_int(i128::from(asked.end_ms));
                match said.runs_out_at_ms {
                    Some(at) => {
                        prop_assert!((0..=asked.end_ms).contains(&at));
                        prop_assert!(over || asked.spent_wei >= cap || at >= asked.end_ms - 1);
                    }
                    None => prop_assert!(!over),
                }
            } else {
                prop_assert_eq!(said.runs_out_at_ms, None);
            }
        }
    }
}
