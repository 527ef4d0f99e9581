//! Exact rationals for prices, expected values and balances. Always reduced; never a float.

use crate::{U256, Wei};
use core::{
    cmp::Ordering,
    fmt,
    ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign},
    str::FromStr,
};
use dashu_int::{IBig, Sign, UBig, ops::DivRem as _};
use dashu_ratio::RBig;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// The text is not a number of the expected form, or is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a number of the expected form")]
pub struct BadNumber;

/// An exact, always reduced fraction of big integers; may be negative.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Rational(RBig);

/// Longest text accepted for a number: two 256-bit integers, a sign and a bar fit several times.
const MAX_TEXT: usize = 1024;
/// Largest decimal exponent accepted. 10^±400 is far outside every price, and bounds the memory.
const MAX_EXPONENT: i64 = 400;

impl Rational {
    /// 0
    pub const ZERO: Self = Self(RBig::ZERO);
    /// 1
    pub const ONE: Self = Self(RBig::ONE);

    /// `numerator / denominator`, or `None` for a zero denominator.
    pub fn new(numerator: i128, denominator: u128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        Some(Self(RBig::from_parts(IBig::from(numerator), UBig::from(denominator))))
    }

    /// `numerator / denominator` of 256-bit integers, or `None` for a zero denominator.
    pub fn from_u256(numerator: U256, denominator: U256) -> Option<Self> {
        if denominator.is_zero() {
            return None;
        }
        Some(Self(RBig::from_parts(ubig(numerator).into(), ubig(denominator))))
    }

    /// A whole number.
    pub fn from_int(n: i128) -> Self {
        Self(RBig::from(IBig::from(n)))
    }

    /// Reduced numerator's absolute value as minimal big-endian bytes (zero is empty).
    pub fn numerator_be(&self) -> Vec<u8> {
        trimmed_be(self.0.numerator().unsigned_abs_ref())
    }

    /// Reduced denominator as minimal big-endian bytes (never empty).
    pub fn denominator_be(&self) -> Vec<u8> {
        trimmed_be(self.0.denominator().clone())
    }

    /// `self / other`, or `None` when `other` is zero.
    pub fn checked_div(&self, other: &Self) -> Option<Self> {
        if other.is_zero() { None } else { Some(Self(&self.0 / &other.0)) }
    }

    /// `self × n`. Cheaper than the product of two fractions.
    pub fn times(&self, n: u64) -> Self {
        if n == 1 { self.clone() } else { Self(&self.0 * UBig::from(n)) }
    }

    /// `self × n`, if that is a whole number. Cheaper than to multiply and look.
    pub fn whole_multiple(&self, n: U256) -> Option<Self> {
        let (factor, rest) = ubig(n).div_rem(self.0.denominator());
        rest.is_zero().then(|| Self(RBig::from(self.0.numerator() * factor)))
    }

    /// Whether this is 0.
    pub fn is_zero(&self) -> bool {
        self.0.is_zero()
    }

    /// Whether this is > 0.
    pub fn is_positive(&self) -> bool {
        !self.is_zero() && self.0.sign() == Sign::Positive
    }

    /// Whether this is < 0.
    pub fn is_negative(&self) -> bool {
        self.0.sign() == Sign::Negative && !self.is_zero()
    }

    /// Smallest integer ≥ self, when it fits 0 ..= 2^256 − 1.
    pub fn ceil_u256(&self) -> Option<U256> {
        to_u256(&self.0.ceil())
    }

    /// Largest integer ≤ self, when it fits 0 ..= 2^256 − 1.
    pub fn floor_u256(&self) -> Option<U256> {
        to_u256(&self.0.floor())
    }

    /// Largest integer ≤ self, when it fits i64.
    pub fn floor_i64(&self) -> Option<i64> {
        i64::try_from(self.0.floor()).ok()
    }

    /// Smallest integer ≥ self, when it fits u64.
    pub fn ceil_u64(&self) -> Option<u64> {
        u64::try_from(self.0.ceil()).ok()
    }

    /// Reduced `(numerator, denominator)` when both fit i64: the form of the wire's `PriceInfo`.
    pub fn to_i64_parts(&self) -> Option<(i64, i64)> {
        let n = i64::try_from(self.0.numerator().clone()).ok()?;
        let d = i64::try_from(self.0.denominator().clone()).ok()?;
        Some((n, d))
    }

    /// Largest whole number ≤ self.
    pub fn floor(&self) -> Self {
        Self(RBig::from(self.0.floor()))
    }

    /// Smallest whole number ≥ self.
    pub fn ceil(&self) -> Self {
        Self(RBig::from(self.0.ceil()))
    }

    /// Cut to `places` decimals toward zero.
    pub fn truncate(&self, places: usize) -> Self {
        let scale = UBig::from(10u8).pow(places);
        let scaled = (&self.0 * RBig::from(scale.clone())).trunc();
        Self(RBig::from_parts(scaled, scale))
    }

    /// `places` decimals, rounded half away from zero: `big.Rat.FloatString` of the reference.
    pub fn to_fixed(&self, places: usize) -> String {
        let scale = UBig::from(10u8).pow(places);
        let scaled = &self.0 * RBig::from(scale);
        let magnitude = if scaled.sign() == Sign::Negative { -scaled.clone() } else { scaled };
        let half = RBig::from_parts(IBig::ONE, UBig::from(2u8));
        let rounded = (magnitude + half).floor().unsigned_abs_ref();
        let digits = rounded.to_string();
        let sign = if self.is_negative() && !rounded.is_zero() { "-" } else { "" };
        if places == 0 {
            return format!("{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, part) = padded.split_at(padded.len() - places);
        format!("{sign}{whole}.{part}")
    }

    /// An exact decimal with optional sign, fraction and exponent (`9`, `0.5`, `1.012e+16`):
    /// remote-signer.md section 3. Bounded in length and exponent.
    pub fn from_decimal(text: &str) -> Result<Self, BadNumber> {
        if text.len() > 128 {
            return Err(BadNumber);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((m, e)) => {
                let digits = e.strip_prefix('+').unwrap_or(e);
                if digits.starts_with('+') {
                    return Err(BadNumber);
                }
                (m, digits.parse::<i64>().map_err(|_| BadNumber)?)
            }
            None => (text, 0),
        };
        let (negative, unsigned) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let digits = format!("{whole}{part}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadNumber);
        }
        let shift = exponent
            .checked_sub(i64::try_from(part.len()).map_err(|_| BadNumber)?)
            .filter(|s| s.abs() <= MAX_EXPONENT)
            .ok_or(BadNumber)?;
        let magnitude = UBig::from_str_radix(&digits, 10).map_err(|_| BadNumber)?;
        let power =
            UBig::from(10u8).pow(usize::try_from(shift.unsigned_abs()).map_err(|_| BadNumber)?);
        let value = if shift >= 0 {
            RBig::from(magnitude * power)
        } else {
            RBig::from_parts(magnitude.into(), power)
        };
        Ok(Self(if negative { -value } else { value }))
    }
}

impl FromStr for Rational {
    type Err = BadNumber;

    /// `n` or `n/d` in decimal digits, optional leading `-`: the spelling of stored balances.
    fn from_str(text: &str) -> Result<Self, BadNumber> {
        if text.len() > MAX_TEXT {
            return Err(BadNumber);
        }
        let (n, d) = text.split_once('/').unwrap_or((text, "1"));
        let (negative, digits) = match n.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, n),
        };
        let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(digits) || !all_digits(d) {
            return Err(BadNumber);
        }
        let n = UBig::from_str_radix(digits, 10).map_err(|_| BadNumber)?;
        let d = UBig::from_str_radix(d, 10).map_err(|_| BadNumber)?;
        if d.is_zero() {
            return Err(BadNumber);
        }
        let value = RBig::from_parts(n.into(), d);
        Ok(Self(if negative { -value } else { value }))
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.denominator().is_one() {
            write!(f, "{}", self.0.numerator())
        } else {
            write!(f, "{}/{}", self.0.numerator(), self.0.denominator())
        }
    }
}

impl fmt::Debug for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl From<Wei> for Rational {
    fn from(wei: Wei) -> Self {
        Self(RBig::from(ubig(wei.0)))
    }
}

impl From<U256> for Rational {
    fn from(n: U256) -> Self {
        Self(RBig::from(ubig(n)))
    }
}

impl From<u64> for Rational {
    fn from(n: u64) -> Self {
        Self(RBig::from(UBig::from(n)))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:tt),*) => {$(
        impl $trait for Rational {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                Self(self.0 $op other.0)
            }
        }
        impl $trait<&Rational> for &Rational {
            type Output = Rational;
            fn $method(self, other: &Rational) -> Rational {
                Rational(&self.0 $op &other.0)
            }
        }
    )*};
}
operators!(Add add +, Sub sub -, Mul mul *);

impl Neg for Rational {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl AddAssign<&Rational> for Rational {
    fn add_assign(&mut self, other: &Rational) {
        self.0 += &other.0;
    }
}

impl SubAssign<&Rational> for Rational {
    fn sub_assign(&mut self, other: &Rational) {
        self.0 -= &other.0;
    }
}

/// Text on the wire and in stores, `n` or `n/d`.
impl Serialize for Rational {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rational {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(d)?;
        text.parse().map_err(|_| D::Error::custom("expected an exact number, n or n/d"))
    }
}

fn ubig(n: U256) -> UBig {
    UBig::from_le_bytes(n.as_le_slice())
}

fn to_u256(n: &IBig) -> Option<U256> {
    let n = UBig::try_from(n.clone()).ok()?;
    U256::try_from_le_slice(&n.to_le_bytes())
}

fn trimmed_be(n: UBig) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    bytes.get(zeros..).unwrap_or_default().to_vec()
}

/// `|n|` by value; a helper because dashu's own takes the integer by value.
trait UnsignedAbsRef {
    fn unsigned_abs_ref(&self) -> UBig;
}

impl UnsignedAbsRef for IBig {
    fn unsigned_abs_ref(&self) -> UBig {
        self.clone().into_parts().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(text: &str) -> Rational {
        text.parse().unwrap()
    }

    #[test]
    fn reduces_and_prints() {
        assert_eq!(r("4/6").to_string(), "2/3");
        assert_eq!(r("-4/2").to_string(), "-2");
        assert_eq!(r("4/6").numerator_be(), [2]);
        assert_eq!(Rational::ZERO.numerator_be(), Vec::<u8>::new());
        assert_eq!(Rational::ZERO.denominator_be(), [1]);
        assert_eq!(Rational::new(1, 0), None);
    }

    #[test]
    fn fixed_rounds_half_away_from_zero() {
        assert_eq!(r("1/2").to_fixed(0), "1");
        assert_eq!(r("-1/2").to_fixed(0), "-1");
        assert_eq!(r("-1/3").to_fixed(0), "0");
        assert_eq!(r("2/3").to_fixed(3), "0.667");
        assert_eq!(r("-5/1000").to_fixed(2), "-0.01");
        assert_eq!(r("7").to_fixed(2), "7.00");
    }

    #[test]
    fn decimals() {
        assert_eq!(Rational::from_decimal("1.012e+16").unwrap(), r("10120000000000000"));
        assert_eq!(Rational::from_decimal("0.5").unwrap(), r("1/2"));
        assert_eq!(Rational::from_decimal(".5").unwrap(), r("1/2"));
        assert_eq!(Rational::from_decimal("-2e-1").unwrap(), r("-1/5"));
        for bad in ["", ".", "e5", "1e", "1e++5", "NaN", "inf", "1e999999999", "0x10", "1 "] {
            assert!(Rational::from_decimal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cuts_toward_zero() {
        assert_eq!(r("20009/10000").truncate(3), r("2"));
        assert_eq!(r("-19999/10000").truncate(3), r("-1999/1000"));
    }

    #[test]
    fn bounds() {
        assert_eq!(r("-1").ceil_u256(), None);
        assert_eq!(r("-1/2").ceil_u256(), Some(U256::ZERO));
        assert_eq!(r("7/2").ceil_u64(), Some(4));
        assert_eq!((r("-7/2").floor(), r("-7/2").ceil()), (r("-4"), r("-3")));
        assert_eq!((Rational::from(7_u64), Rational::from(U256::from(7))), (r("7"), r("7")));
        assert_eq!((Rational::from(Wei(U256::MAX)) + Rational::ONE).floor_u256(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn text_round_trips(n in any::<i128>(), d in 1u128..) {
            let x = Rational::new(n, d).unwrap();
            prop_assert_eq!(x.to_string().parse::<Rational>().unwrap(), x);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Rational>();
            let _ = Rational::from_decimal(&text);
        }

        #[test]
        fn shortcuts_are_products(n in any::<i128>(), d in 1u64.., by in any::<u64>(), whole in any::<bool>()) {
            let x = Rational::new(n, d.into()).unwrap();
            prop_assert_eq!(x.times(by), x.clone() * Rational::from(by));
            prop_assert_eq!(x.times(1), x.clone());
            let by = if whole { U256::from(by) * U256::from(d) } else { U256::from(by) };
            let product = x.clone() * Rational::from(by);
            let expected = (product.floor() == product).then_some(product);
            prop_assert_eq!(x.whole_multiple(by), expected);
        }

        #[test]
        fn addition_undoes(a in any::<i64>(), b in 1u64.., c in any::<i64>(), d in 1u64..) {
            let x = Rational::new(a.into(), b.into()).unwrap();
            let y = Rational::new(c.into(), d.into()).unwrap();
            prop_assert_eq!(&(&x + &y) - &y, x);
        }
    }
}
