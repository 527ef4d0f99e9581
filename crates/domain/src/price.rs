//! Prices as the wire states them: wei per so many units, both 64-bit.

use crate::Rational;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The numbers cannot be a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadPrice {
    /// `pixelsPerUnit` is 0 (the reference's text, payments.md section 2).
    #[error("pixels per unit is 0")]
    ZeroUnits,
    /// A negative number, which the reference lets pass and we do not.
    #[error("price numbers must not be negative")]
    Negative,
}

/// `pricePerUnit / pixelsPerUnit` in wei per unit (a pixel, a second, a job). Both are kept as
/// sent, because a payment's `expected_price` is copied whole; arithmetic uses [`Self::rational`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(i64, i64)", into = "(i64, i64)")]
pub struct PriceInfo {
    price_per_unit: i64,
    pixels_per_unit: i64,
}

impl PriceInfo {
    /// `price_per_unit` ≥ 0 wei for `pixels_per_unit` > 0 units.
    pub fn new(price_per_unit: i64, pixels_per_unit: i64) -> Result<Self, BadPrice> {
        if pixels_per_unit == 0 {
            return Err(BadPrice::ZeroUnits);
        }
        if price_per_unit < 0 || pixels_per_unit < 0 {
            return Err(BadPrice::Negative);
        }
        Ok(Self { price_per_unit, pixels_per_unit })
    }

    /// Wei.
    pub fn price_per_unit(&self) -> i64 {
        self.price_per_unit
    }

    /// Units (pixels, milliseconds, …) that price buys.
    pub fn pixels_per_unit(&self) -> i64 {
        self.pixels_per_unit
    }

    /// Wei per unit, reduced.
    pub fn rational(&self) -> Rational {
        // The constructor refuses 0 and negatives, so neither conversion can fail.
        Rational::new(self.price_per_unit.into(), self.pixels_per_unit.unsigned_abs().into())
            .unwrap_or_default()
    }
}

impl TryFrom<(i64, i64)> for PriceInfo {
    type Error = BadPrice;
    fn try_from((price, pixels): (i64, i64)) -> Result<Self, BadPrice> {
        Self::new(price, pixels)
    }
}

impl From<PriceInfo> for (i64, i64) {
    fn from(p: PriceInfo) -> Self {
        (p.price_per_unit, p.pixels_per_unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        assert_eq!(PriceInfo::new(1, 0), Err(BadPrice::ZeroUnits));
        assert_eq!(PriceInfo::new(-1, 1), Err(BadPrice::Negative));
        assert_eq!(PriceInfo::new(1, i64::MIN), Err(BadPrice::Negative));
        assert_eq!(PriceInfo::new(4, 6).unwrap().rational().to_string(), "2/3");
    }
}
