//! What a signer bills for one payment request (remote-signer.md section 5).

use crate::metering::LV2V_PIXELS_PER_SECOND;
use thiserror::Error;

/// Seconds that the first payment of a live video session buys.
const LV2V_PRELOAD_SECONDS: u64 = 60;
/// Seconds that the first payment of a live session buys.
const LIVE_PRELOAD_SECONDS: u64 = 10;
const NS_PER_SECOND: u128 = 1_000_000_000;

/// Most tickets in one answer of a signer (remote-signer.md section 4, row 25).
pub const MAX_TICKETS_PER_REQUEST: u64 = 100;

/// Pixels that a first payment for live video buys: 1,658,880,000.
pub const LV2V_PRELOAD_PIXELS: u64 = LV2V_PIXELS_PER_SECOND * LV2V_PRELOAD_SECONDS;

/// How a payment session is billed; `type` of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BillingType {
    /// `lv2v`: pixels of live video, by time.
    Lv2v,
    /// `live`: seconds.
    Live,
    /// `fixed`: one unit a payment.
    Fixed,
    /// Empty: as many units as the request says.
    Units,
}

impl BillingType {
    /// The request's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lv2v => "lv2v",
            Self::Live => "live",
            Self::Fixed => "fixed",
            Self::Units => "",
        }
    }
}

impl core::str::FromStr for BillingType {
    type Err = BillingError;
    fn from_str(text: &str) -> Result<Self, BillingError> {
        match text {
            "lv2v" => Ok(Self::Lv2v),
            "live" => Ok(Self::Live),
            "fixed" => Ok(Self::Fixed),
            "" => Ok(Self::Units),
            _ => Err(BillingError::JobType),
        }
    }
}

/// Nothing can be billed. The asker's fault; 400 with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BillingError {
    /// No such type.
    #[error("invalid job type")]
    JobType,
    /// No units: neither type nor `inPixels`, or no time has passed.
    #[error("missing billable unit or job type")]
    NoUnits,
}

/// Units to bill. `elapsed_ns` is now − the state's last update; a first payment, and one on a
/// clock that went back (≤ 0), buys the preload. `in_units` counts only without a type.
pub fn billable_units(
    billing: BillingType,
    elapsed_ns: i128,
    in_units: i64,
) -> Result<u64, BillingError> {
    let elapsed_ns = u128::try_from(elapsed_ns).unwrap_or_default();
    let units = match billing {
        BillingType::Lv2v if elapsed_ns == 0 => LV2V_PRELOAD_PIXELS,
        BillingType::Lv2v => {
            let units = u128::from(LV2V_PIXELS_PER_SECOND).saturating_mul(elapsed_ns);
            clamp(units / NS_PER_SECOND)
        }
        BillingType::Live if elapsed_ns == 0 => LIVE_PRELOAD_SECONDS,
        BillingType::Live => clamp(elapsed_ns.div_ceil(NS_PER_SECOND)),
        BillingType::Fixed => 1,
        BillingType::Units => u64::try_from(in_units).unwrap_or_default(),
    };
    if units == 0 { Err(BillingError::NoUnits) } else { Ok(units) }
}

fn clamp(units: u128) -> u64 {
    u64::try_from(units).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i128 = 1_000_000_000;

    #[test]
    fn first_payments_buy_a_preload() {
        for elapsed in [0, -1, i128::MIN] {
            assert_eq!(billable_units(BillingType::Lv2v, elapsed, 7), Ok(1_658_880_000));
            assert_eq!(billable_units(BillingType::Live, elapsed, 7), Ok(10));
            assert_eq!(billable_units(BillingType::Fixed, elapsed, 7), Ok(1));
            assert_eq!(billable_units(BillingType::Units, elapsed, 7), Ok(7));
        }
    }

    #[test]
    fn later_ones_bill_the_time_that_passed() {
        assert_eq!(billable_units(BillingType::Lv2v, S, 7), Ok(27_648_000));
        assert_eq!(billable_units(BillingType::Lv2v, S / 2 + 1, 7), Ok(13_824_000));
        assert_eq!(billable_units(BillingType::Live, 12 * S, 7), Ok(12));
        assert_eq!(billable_units(BillingType::Live, 12 * S + 1, 7), Ok(13));
        assert_eq!(billable_units(BillingType::Live, 1, 7), Ok(1));
        assert_eq!(billable_units(BillingType::Fixed, 12 * S, 0), Ok(1));
        assert_eq!(billable_units(BillingType::Units, 12 * S, i64::MAX), Ok(i64::MAX as u64));
    }

    #[test]
    fn nothing_to_bill_is_an_error() {
        for units in [0, -1, i64::MIN] {
            let error = billable_units(BillingType::Units, 0, units).unwrap_err();
            assert_eq!(error.to_string(), "missing billable unit or job type");
        }
        // Less than one pixel of time.
        assert_eq!(billable_units(BillingType::Lv2v, 36, 0), Err(BillingError::NoUnits));
    }

    #[test]
    fn types_are_four_words() {
        for text in ["lv2v", "live", "fixed", ""] {
            assert_eq!(text.parse::<BillingType>().unwrap().as_str(), text);
        }
        for text in ["LV2V", "live ", "hour"] {
            let error = text.parse::<BillingType>().unwrap_err();
            assert_eq!(error.to_string(), "invalid job type");
        }
    }
}
