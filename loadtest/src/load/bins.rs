//! What happened when, in so few equal spans that a picture can show them: when there are too many, each two
//! become one.

use std::time::Duration;

/// Spans at most.
const MOST: usize = 240;
/// How long one is at first, ms.
const FIRST_MS: u64 = 100;

/// Two spans become one.
pub trait Merge: Default {
    /// Takes in the other.
    fn merge(&mut self, other: Self);
}

/// Spans of one length from the beginning.
#[derive(Debug)]
pub struct Bins<T> {
    width_ms: u64,
    bins: Vec<T>,
}

impl<T> Default for Bins<T> {
    fn default() -> Self {
        Self { width_ms: FIRST_MS, bins: Vec::new() }
    }
}

impl<T: Merge> Bins<T> {
    /// The span of this time.
    pub fn at(&mut self, time: Duration) -> &mut T {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        while ms / self.width_ms >= MOST as u64 {
            self.halve();
        }
        let index = usize::try_from(ms / self.width_ms).expect("below the most");
        if self.bins.len() <= index {
            self.bins.resize_with(index + 1, T::default);
        }
        &mut self.bins[index]
    }

    fn halve(&mut self) {
        self.width_ms = self.width_ms.saturating_mul(2);
        let mut old = std::mem::take(&mut self.bins).into_iter();
        while let Some(mut first) = old.next() {
            if let Some(second) = old.next() {
                first.merge(second);
            }
            self.bins.push(first);
        }
    }

    /// How long one is.
    pub fn width(&self) -> Duration {
        Duration::from_millis(self.width_ms)
    }

    /// All, with when each begins.
    pub fn all(&self) -> impl Iterator<Item = (Duration, &T)> {
        let begins = |number: usize| Duration::from_millis(self.width_ms * number as u64);
        self.bins.iter().enumerate().map(move |(number, bin)| (begins(number), bin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_spans_become_longer() {
        let mut bins = Bins::<u64>::default();
        for second in 0..3_600 {
            *bins.at(Duration::from_secs(second)) += 1;
        }
        // 100 ms doubled eight times: 141 spans of 25.6 s.
        assert_eq!(bins.width(), Duration::from_millis(25_600));
        let counts: Vec<u64> = bins.all().map(|(_, count)| *count).collect();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (141, 3_600));
        assert!(counts[..140].iter().all(|count| (25..=26).contains(count)), "{counts:?}");
        let last = bins.all().last().unwrap().0;
        assert_eq!(last, Duration::from_millis(140 * 25_600));
    }

    #[test]
    fn a_time_far_away_does_not_take_memory() {
        let mut bins = Bins::<u64>::default();
        *bins.at(Duration::ZERO) += 1;
        *bins.at(Duration::from_secs(u64::from(u32::MAX))) += 1;
        assert!(bins.all().count() <= MOST);
        assert_eq!(bins.all().map(|(_, count)| count).sum::<u64>(), 2);
    }
}
