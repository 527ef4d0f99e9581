//! What is counted where somebody else's work is sold: a brought capability by the second, a live runner's session by
//! the second, by the pixels of live video that the same time stands for, or as a whole (live-runner.md section 2.1).

use penstock_payments::LV2V_PIXELS_PER_SECOND;

const SECONDS_PER_HOUR: u64 = 3600;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Seconds that it lasts.
    Seconds,
    /// Pixels of live video that the same time stands for.
    PixelSeconds,
    /// Sessions, or calls.
    Fixed,
}

impl Unit {
    /// As prices are published.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::PixelSeconds => "720p-pixel-seconds",
            Self::Fixed => "fixed",
        }
    }

    /// Units that pass in a second; `None` where time does not count.
    pub fn per_second(self) -> Option<u64> {
        match self {
            Self::Seconds => Some(1),
            Self::PixelSeconds => Some(LV2V_PIXELS_PER_SECOND),
            Self::Fixed => None,
        }
    }

    /// What runners say a price is for: the unit, and how many of it that is.
    pub fn of_runner(said: &str) -> Option<(Self, u64)> {
        match said {
            "hour" => Some((Self::Seconds, SECONDS_PER_HOUR)),
            "720p" => Some((Self::PixelSeconds, SECONDS_PER_HOUR * LV2V_PIXELS_PER_SECOND)),
            "fixed" => Some((Self::Fixed, 1)),
            _ => None,
        }
    }

    /// The same, or a unit itself, as an operator's price list has it.
    pub fn of_list(said: &str) -> Option<(Self, u64)> {
        let plain = [Self::Seconds, Self::PixelSeconds].into_iter().find(|u| u.as_str() == said);
        plain.map(|unit| (unit, 1)).or_else(|| Self::of_runner(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_may_say_what_a_runner_says_and_what_is_published() {
        for unit in [Unit::Seconds, Unit::PixelSeconds, Unit::Fixed] {
            assert_eq!(Unit::of_list(unit.as_str()), Some((unit, 1)));
        }
        assert_eq!(Unit::of_list("hour"), Some((Unit::Seconds, 3600)));
        assert_eq!(Unit::of_list("720p"), Some((Unit::PixelSeconds, 3600 * 1280 * 720 * 30)));
        assert_eq!((Unit::of_list("day"), Unit::of_runner("seconds")), (None, None));
    }
}
