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
