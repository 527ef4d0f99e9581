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
    /// The account's own rules, at a signer that has accounts.
    Account,
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
            Self::Account => "account maximum price",
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

#[cfg(test)]
mod tests {
    use super::*;
    use CeilingSource::*;

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    fn check(price: &str, ceilings: &[(CeilingSource, Option<&str>)]) -> Result<(), String> {
        let values: Vec<_> = ceilings.iter().map(|(s, c)| (*s, c.map(r))).collect();
        let given: Vec<_> = values.iter().map(|(s, c)| (*s, c.as_ref())).collect();
        check_ceilings(&r(price), &given).map_err(|error| error.to_string())
    }

    #[test]
    fn the_lowest_ceiling_counts_and_equality_passes() {
        let all = [(Configured, Some("3")), (Request, Some("3/2")), (InitialPrice, Some("2"))];
        assert_eq!(
            check("7/4", &all),
            Err("orchestrator price 1.750 exceeds request maxPrice ceiling 1.500".to_owned())
        );
        assert_eq!(check("3/2", &all), Ok(()));
        assert_eq!(
            check("99", &[(Configured, None), (Request, None), (InitialPrice, None)]),
            Ok(())
        );
        assert_eq!(check("99", &[]), Ok(()));
        assert_eq!(
            check("150", &[(Configured, None), (Request, None), (InitialPrice, Some("100"))]),
            Err("orchestrator price 150.000 exceeds initial session price ceiling 100.000"
                .to_owned())
        );
        assert_eq!(
            check("1", &[(AuthWebhook, Some("1/2"))]),
            Err("orchestrator price 1.000 exceeds auth webhook maxPrice ceiling 0.500".to_owned())
        );
    }

    #[test]
    fn among_equal_ceilings_the_first_is_named() {
        let error = check("2", &[(Configured, Some("1")), (Request, Some("1"))]).unwrap_err();
        assert!(error.contains("configured maximum price"));
    }

    #[test]
    fn configured_limits_add_up_over_the_pairs() {
        let limit_of = |capability: u32, model: &str| match (capability, model) {
            (35, "a") => Some(r("3")),
            (35, _) => Some(r("1")),
            _ => None,
        };
        let base = r("7");
        let maximum = |pairs: &[(u32, &'static str)], base: Option<&Rational>| {
            configured_maximum(pairs.iter().copied(), limit_of, base)
        };
        assert_eq!(maximum(&[(35, "a"), (35, "b"), (27, "x")], Some(&base)), Some(r("4")));
        assert_eq!(maximum(&[(27, "x")], Some(&base)), Some(r("7")));
        assert_eq!(maximum(&[], Some(&base)), Some(r("7")));
        assert_eq!(maximum(&[], Some(&Rational::ZERO)), None);
        assert_eq!(maximum(&[], None), None);
    }

    #[test]
    fn max_prices_are_exact_decimals() {
        let parse = |price: &str| parse_max_price(price, "wei", "seconds", BillingType::Live);
        for (text, value) in
            [("9", "9"), ("0.5", "1/2"), ("1.012e+16", "10120000000000000"), (" 2 ", "2")]
        {
            assert_eq!(parse(text), Ok(r(value)), "{text}");
        }
        for bad in ["", "0", "-1", "0.0", "nan", "1/2", "0x1", "1e999"] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.to_string(), "maxPrice.price must be a positive decimal", "{bad}");
        }
    }

    #[test]
    fn currency_type_and_unit_are_checked_in_that_order() {
        let parse = |currency: &str, unit: &str, billing| {
            parse_max_price("1", currency, unit, billing).map_err(|error| error.to_string())
        };
        assert_eq!(
            parse("usd", "hours", BillingType::Units),
            Err("maxPrice.currency must be wei".to_owned())
        );
        assert_eq!(
            parse(" WEI ", "hours", BillingType::Units),
            Err("maxPrice requires payment type live, lv2v, or fixed".to_owned())
        );
        for (billing, unit, name) in [
            (BillingType::Live, "seconds", "live"),
            (BillingType::Lv2v, "720p-pixel-seconds", "lv2v"),
            (BillingType::Fixed, "fixed", "fixed"),
        ] {
            assert_eq!(parse("wei", &format!(" {} ", unit.to_uppercase()), billing), Ok(r("1")));
            assert_eq!(
                parse("wei", "hours", billing),
                Err(format!("maxPrice.unit must be {unit} for payment type {name}"))
            );
        }
    }
}
