//! Sums of fractions whose cost is bounded, whatever their denominators.
//!
//! An exact sum of fractions over unlike denominators grows with each of them, and adding to it takes
//! longer and longer. Prices decide the denominators of fees, and prices are the client's word. So
//! a sum is exact while its denominator is of a reasonable size; a fraction that would make it larger
//! is rounded up to whole wei, and how often that happened stands beside the sum.

use penstock_domain::{Rational, Wei};

/// Largest denominator of an exact sum: room for dozens of prices that have nothing in common.
const MAX_DENOMINATOR_BYTES: usize = 256;

/// A sum that says how exact it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoundedSum {
    sum: Rational,
    rounded: u64,
}

impl BoundedSum {
    /// Adds a fraction that is not negative.
    pub fn add(&mut self, value: &Rational) {
        let exact = &self.sum + value;
        if exact.denominator_be().len() <= MAX_DENOMINATOR_BYTES {
            self.sum = exact;
            return;
        }
        // A fee is at most what a payment may cost, far below 2^256 wei.
        let whole = value.ceil_u256().unwrap_or_default();
        self.sum += &Rational::from(Wei(whole));
        self.rounded = self.rounded.saturating_add(1);
    }

    /// The sum.
    pub fn value(&self) -> &Rational {
        &self.sum
    }

    /// The sum is too large by less than so many wei; 0: it is exact.
    pub fn rounding_wei(&self) -> u64 {
        self.rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(numerator: u64, denominator: u64) -> Rational {
        Rational::new(numerator.into(), denominator.into()).unwrap()
    }

    #[test]
    fn a_few_prices_add_up_exactly() {
        let (mut sum, mut exact) = (BoundedSum::default(), Rational::ZERO);
        for denominator in 1..=64 {
            sum.add(&over(7, denominator));
            exact += &over(7, denominator);
        }
        assert_eq!((sum.value(), sum.rounding_wei()), (&exact, 0));
    }

    #[test]
    fn odd_prices_without_end_are_rounded_up_and_counted() {
        let (mut sum, mut count) = (BoundedSum::default(), 0u64);
        // Large numbers without common factors, mostly.
        for n in 0..3_000 {
            sum.add(&over(1, u64::from(u32::MAX) * 2_000_000_000 - 2 * n - 1));
            count += 1;
        }
        assert!(sum.value().denominator_be().len() <= MAX_DENOMINATOR_BYTES);
        let rounded = sum.rounding_wei();
        assert!(rounded > 2_900 && rounded < count, "{rounded}");
        // Each of them was next to nothing and became one wei; none was lost.
        assert_eq!(sum.value().floor(), Rational::from(rounded));
        sum.add(&over(5, 1));
        assert_eq!(sum.rounding_wei(), rounded, "whole wei fit always");
    }
}
