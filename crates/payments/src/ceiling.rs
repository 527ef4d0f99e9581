//! Price ceilings at the signer (remote-signer.md section 6).

use crate::billing::BillingType;
use core::fmt;
use penstock_domain::Rational;
use thiserror::Error;

/// Where a ceiling comes from; the text appears in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CeilingSource {
    /// The signer's own settings.
    Configured,
    /// `maxPrice` of the request.
    Request,
    /// The first price of the payment session.
    InitialPrice,
    /// The auth webhook's answer; compared alone, afterwards.
    AuthWebhook,
}

impl fmt::Display for CeilingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "configured maximum price",
            Self::Request => "request maxPrice",
            Self::InitialPrice => "initial session price",
            Self::AuthWebhook => "auth webhook maxPrice",
        })
    }
}

/// The orchestrator asks too much: answered 481. Try another orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("orchestrator price {} exceeds {source_name} ceiling {}", .price.to_fixed(3), .ceiling.to_fixed(3))]
pub struct PriceExceeded {
    /// The orchestrator's.
    pub price: Rational,
    /// Which ceiling was the lowest.
    pub source_name: CeilingSource,
    /// Its value.
    pub ceiling: Rational,
}

/// Compares with the lowest ceiling that is set; among equals the first counts. Equality passes.
pub fn check_ceilings(
    price: &Rational,
    ceilings: &[(CeilingSource, Option<&Rational>)],
) -> Result<(), PriceExceeded> {
    let lowest = ceilings
        .iter()
        .filter_map(|(source, ceiling)| ceiling.map(|value| (*source, value)))
        // `min_by` keeps the first of several minima.
        .min_by(|a, b| a.1.cmp(b.1));
    match lowest {
        Some((source_name, ceiling)) if price > ceiling => {
            Err(PriceExceeded { price: price.clone(), source_name, ceiling: ceiling.clone() })
        }
        _ => Ok(()),
    }
}

/// The configured maximum for a request: the sum over its (capability, model) pairs, each pair
/// looked up by `limit_of`; the base maximum if that sum is 0 or there are no pairs; 0 and unset
/// mean no maximum.
pub fn configured_maximum<'a, I, F>(
    pairs: I,
    limit_of: F,
    base: Option<&Rational>,
) -> Option<Rational>
where
    I: IntoIterator<Item = (u32, &'a str)>,
    F: Fn(u32, &str) -> Option<Rational>,
{
    let mut sum = Rational::ZERO;
    for (capability, model) in pairs {
        if let Some(limit) = limit_of(capability, model) {
            sum += &limit;
        }
    }
    if sum.is_positive() { Some(sum) } else { base.filter(|base| base.is_positive()).cloned() }
}

/// A `maxPrice` object is not acceptable: 400 with the text (502 when it is the webhook's). In the
/// order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MaxPriceError {
    /// Not a decimal above 0.
    #[error("maxPrice.price must be a positive decimal")]
    Price,
    /// Only wei are known.
    #[error("maxPrice.currency must be wei")]
    Currency,
    /// Without a type the unit means nothing.
    #[error("maxPrice requires payment type live, lv2v, or fixed")]
    NoType,
    /// The unit does not fit the type.
    #[error("maxPrice.unit must be {expected} for payment type {billing}")]
    Unit {
        /// The unit of that type.
        expected: &'static str,
        /// The type's text.
        billing: &'static str,
    },
}

/// Reads a `maxPrice` object. `price` is the JSON number's own text, so that no float comes in
/// between.
pub fn parse_max_price(
    price: &str,
    currency: &str,
    unit: &str,
    billing: BillingType,
) -> Result<Rational, MaxPriceError> {
    let price = Rational::from_decimal(price.trim())
        .ok()
        .filter(Rational::is_positive)
        .ok_or(MaxPriceError::Price)?;
    if currency.trim().to_lowercase() != "wei" {
        return Err(MaxPriceError::Currency);
    }
    let expected = match billing {
        BillingType::Live => "seconds",
        BillingType::Lv2v => "720p-pixel-seconds",
        BillingType::Fixed => "fixed",
        BillingType::Units => return Err(MaxPriceError::NoType),
    };
    if unit.trim().to_lowercase() != expected {
        return Err(MaxPriceError::Unit { expected, billing: billing.as_str() });
    }
    Ok(price)
}
