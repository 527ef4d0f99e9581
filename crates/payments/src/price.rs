//! Prices: the overhead for redemption, the wire's 64-bit form, and how far a price may move
//! (orchestrator-wire.md section 9, payments.md section 9).

use penstock_domain::{PriceInfo, Rational};
use thiserror::Error;

/// Decimals that an adjusted price keeps.
const PRICE_DECIMALS: usize = 3;
/// A session's price may grow to this many times its first price.
const MAX_INCREASE: u64 = 2;

/// `base × (1 + 1 / multiplier)`, cut to three decimals toward zero; without overhead when the
/// price or the multiplier is 0. A price below 0.001 wei becomes 0.
pub fn price_with_overhead(base: &Rational, tx_cost_multiplier: &Rational) -> Rational {
    let overhead = if base.is_positive() && tx_cost_multiplier.is_positive() {
        Rational::ONE.checked_div(tx_cost_multiplier).unwrap_or_default()
    } else {
        Rational::ZERO
    };
    (base * &(Rational::ONE + overhead)).truncate(PRICE_DECIMALS)
}

/// The price cannot be stated on the wire. The operator's fault: a configured price is absurd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("price cannot be converted to int64")]
pub struct PriceDoesNotFit;

/// The wire's form: reduced numerator and denominator, or floored to a whole number when they do
/// not fit 64 bits. (The reference sends wrong numbers in one of its two answers instead.)
pub fn wire_price(price: &Rational) -> Result<PriceInfo, PriceDoesNotFit> {
    let (numerator, denominator) = match price.to_i64_parts() {
        Some(parts) => parts,
        None => (price.floor_i64().ok_or(PriceDoesNotFit)?, 1),
    };
    PriceInfo::new(numerator, denominator).map_err(|_| PriceDoesNotFit)
}

/// The form of `capabilities_prices`: floored to a whole number of wei for one unit.
pub fn wire_price_floored(price: &Rational) -> Result<PriceInfo, PriceDoesNotFit> {
    let whole = price.floor_i64().ok_or(PriceDoesNotFit)?;
    PriceInfo::new(whole, 1).map_err(|_| PriceDoesNotFit)
}

/// `units × price`, exact wei.
pub fn fee(units: u64, price: &Rational) -> Rational {
    &Rational::from(units) * price
}

/// Why an orchestrator's price is not paid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PriceChangeError {
    /// It named none.
    #[error("missing orchestrator price")]
    Missing,
    /// More than twice the session's first price. Give this orchestrator up.
    #[error(
        "Orchestrator price has more than doubled, Orchestrator price: {current}, \
         Orchestrator initial price: {initial}"
    )]
    Doubled {
        /// Now.
        current: Rational,
        /// At the start of the session.
        initial: Rational,
    },
}

/// Whether the current price may still be paid; exactly twice the initial one may.
pub fn check_price_change(
    current: Option<&Rational>,
    initial: Option<&Rational>,
) -> Result<(), PriceChangeError> {
    let current = current.ok_or(PriceChangeError::Missing)?;
    match initial {
        Some(initial) if *current > initial * &Rational::from(MAX_INCREASE) => {
            Err(PriceChangeError::Doubled { current: current.clone(), initial: initial.clone() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    #[test]
    fn overhead_is_one_part_in_the_multiplier() {
        assert_eq!(price_with_overhead(&r("100"), &r("100")), r("101"));
        assert_eq!(price_with_overhead(&r("1"), &r("100")), r("101/100"));
        assert_eq!(price_with_overhead(&r("5/2"), &r("100")), r("101/40"));
        assert_eq!(price_with_overhead(&r("7"), &Rational::ZERO), r("7"));
        assert_eq!(price_with_overhead(&Rational::ZERO, &r("100")), Rational::ZERO);
        assert_eq!(price_with_overhead(&r("1/3000"), &Rational::ZERO), Rational::ZERO);
        assert_eq!(price_with_overhead(&r("1"), &r("3")), r("1333/1000"));
    }

    /// A case of the reference's own tests: without the cut the fraction would not fit.
    #[test]
    fn an_awkward_multiplier_fits_after_the_cut() {
        let price = price_with_overhead(&r("25000"), &r("926899968213313/31250000000000"));
        let wire = wire_price(&price).unwrap();
        assert_eq!(wire.rational(), price);
        assert!(price > r("25842") && price < r("25843"));
    }

    #[test]
    fn prices_that_do_not_fit_are_floored_or_refused() {
        let long = r("123456789012345678901/100000000000000000000");
        assert_eq!(wire_price(&long).unwrap(), PriceInfo::new(1, 1).unwrap());
        assert_eq!(wire_price(&r("9223372036854775807")).unwrap().price_per_unit(), i64::MAX);
        let error = wire_price(&r("9223372036854775808")).unwrap_err();
        assert_eq!(error.to_string(), "price cannot be converted to int64");
        assert!(wire_price(&r("-1/2")).is_err());
        assert_eq!(wire_price_floored(&r("7/2")).unwrap(), PriceInfo::new(3, 1).unwrap());
        assert_eq!(wire_price(&r("4/6")).unwrap(), PriceInfo::new(2, 3).unwrap());
    }

    #[test]
    fn twice_the_price_passes_and_more_does_not() {
        let check = |current: &str, initial: &str| {
            check_price_change(Some(&r(current)), Some(&r(initial))).map_err(|e| e.to_string())
        };
        assert_eq!(check("2", "1"), Ok(()));
        assert_eq!(check("3/4", "1"), Ok(()));
        assert_eq!(
            check("201/100", "1"),
            Err("Orchestrator price has more than doubled, Orchestrator price: 201/100, \
                 Orchestrator initial price: 1"
                .to_owned())
        );
        assert_eq!(check_price_change(Some(&r("99")), None), Ok(()));
        let missing = check_price_change(None, Some(&r("1"))).unwrap_err();
        assert_eq!(missing.to_string(), "missing orchestrator price");
    }

    #[test]
    fn fees_are_exact() {
        assert_eq!(fee(1_000, &r("150/175")), r("6000/7"));
        assert_eq!(fee(0, &r("1")), Rational::ZERO);
    }
}
