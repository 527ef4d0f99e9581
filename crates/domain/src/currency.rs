//! Prices as people say them: a number, a currency, and what it buys.

use crate::{BadNumber, Rational};
use std::fmt;

const WEI_PER_ETH: u64 = 1_000_000_000_000_000_000;
const MICRO: u64 = 1_000_000;
/// Longest number.
const MAX_DIGITS: usize = 64;

/// What one unit costs, ≥ 0, exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrencyPrice {
    /// Wei.
    Wei(Rational),
    /// Dollars, whose wei depend on the price of an ether.
    Usd(Rational),
}

impl CurrencyPrice {
    /// So much of a currency for so many units. `wei` is meant when none is named.
    pub fn new(number: &str, currency: &str, units: &str) -> Result<Self, BadPriceText> {
        let read = |text: &str| -> Result<Rational, BadPriceText> {
            if text.len() > MAX_DIGITS {
                return Err(BadPriceText::Number);
            }
            Rational::from_decimal(text.trim()).map_err(|_: BadNumber| BadPriceText::Number)
        };
        let (number, units) = (read(number)?, read(units)?);
        if number.is_negative() || !units.is_positive() {
            return Err(BadPriceText::Number);
        }
        let price = number.checked_div(&units).ok_or(BadPriceText::Number)?;
        match currency.trim().to_ascii_lowercase().as_str() {
            "" | "wei" => Ok(Self::Wei(price)),
            "eth" => Ok(Self::Wei(price.times(WEI_PER_ETH))),
            "usd" => Ok(Self::Usd(price)),
            _ => Err(BadPriceText::Currency(currency.chars().take(16).collect())),
        }
    }

    /// `<number>[currency]`, as the Go node reads `-pricePerUnit` (operator.md section 2.1), for so many units.
    pub fn parse(text: &str, units: &str) -> Result<Self, BadPriceText> {
        let text = text.trim();
        let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, currency) = text.split_at(end);
        let plain = |c: char| c.is_ascii_digit() || c == '.';
        if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.chars().all(plain) {
            return Err(BadPriceText::Number);
        }
        Self::new(number, currency, units)
    }

    /// Wei for one unit; `None` if that takes what an ether costs (millionths of a dollar) and nobody knows.
    pub fn wei(&self, micro_usd_per_eth: Option<&Rational>) -> Option<Rational> {
        match self {
            Self::Wei(wei) => Some(wei.clone()),
            // Free is free at any exchange rate.
            Self::Usd(usd) if usd.is_zero() => Some(Rational::ZERO),
            Self::Usd(usd) => usd.times(MICRO).times(WEI_PER_ETH).checked_div(micro_usd_per_eth?),
        }
    }

    /// Whether its wei depend on the price of an ether.
    pub fn is_dollars(&self) -> bool {
        matches!(self, Self::Usd(usd) if !usd.is_zero())
    }
}

impl Default for CurrencyPrice {
    fn default() -> Self {
        Self::Wei(Rational::ZERO)
    }
}

/// For one unit: `3/2 wei`, `1/1000 usd`.
impl fmt::Display for CurrencyPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wei(price) => write!(f, "{price} wei"),
            Self::Usd(price) => write!(f, "{price} usd"),
        }
    }
}

/// The text is no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPriceText {
    /// Negative, or no number at all.
    #[error("a price must be a number ≥ 0, units a number > 0")]
    Number,
    /// Another currency.
    #[error("currency must be wei, eth or usd, not {0:?}")]
    Currency(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    #[test]
    fn what_people_say() {
        let wei = |text| CurrencyPrice::parse(text, "1").unwrap().wei(None);
        assert_eq!(
            (wei("100"), wei("100wei"), wei("0.5")),
            (Some(r("100")), Some(r("100")), Some(r("1/2")))
        );
        assert_eq!(wei("0.1ETH"), Some(r("100000000000000000")));
        let usd = CurrencyPrice::parse("0.13USD", "1000").unwrap();
        assert_eq!((usd.is_dollars(), usd.wei(None)), (true, None));
        assert_eq!(usd.to_string(), "13/100000 usd");
        // 2,500 dollars an ether: 13/100,000 dollars are 52/1,000,000,000 ether.
        assert_eq!(usd.wei(Some(&r("2500000000"))), Some(r("52000000000")));
        assert_eq!(wei("0usd"), Some(Rational::ZERO));
        for bad in ["", "abcUSD", "-100USD", "1.2.3", "99.99eur", "1e5", "1 2", ".5", "usd", "1/2"]
        {
            assert!(CurrencyPrice::parse(bad, "1").is_err(), "{bad}");
        }
        assert!(
            CurrencyPrice::parse("1", "0").is_err() && CurrencyPrice::parse("1", "-1").is_err()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn no_text_panics_and_none_is_negative(text in "\\PC{0,24}", units in "[0-9.e-]{0,8}") {
            if let Ok(price) = CurrencyPrice::parse(&text, &units) {
                let wei = price.wei(Some(&Rational::from(2_000_000_000_u64)));
                prop_assert!(wei.is_some_and(|wei| !wei.is_negative()));
            }
        }

        #[test]
        fn dollars_and_back(cents in 0u64.., units in 1u64.., micro in 1_000_000u64..) {
            let price = CurrencyPrice::new(&cents.to_string(), "usd", &units.to_string()).unwrap();
            let micro = Rational::from(micro);
            let wei = price.wei(Some(&micro)).unwrap();
            let back = (&wei.times(units) * &micro).checked_div(&Rational::from(WEI_PER_ETH)).unwrap();
            prop_assert_eq!(back, Rational::from(cents).times(MICRO));
        }
    }
}
