//! Wei as 256-bit integers, and the minimal big-endian form the wire uses for them.

use crate::U256;
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An amount of wei, 0 ..= 2^256 − 1. Arithmetic is checked: there is no wrapping and no float.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wei(pub U256);

impl Wei {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);

    /// A small amount.
    pub const fn from_u64(wei: u64) -> Self {
        Self(U256::from_limbs([wei, 0, 0, 0]))
    }

    /// `self + other`, or `None` above 2^256 − 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `self − other`, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `self − other`, or zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether this is nothing.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<U256> for Wei {
    fn from(value: U256) -> Self {
        Self(value)
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

impl FromStr for Wei {
    type Err = crate::BadNumber;

    /// Decimal digits only: no sign, no exponent, no separators, at most 78 digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > 78 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(crate::BadNumber);
        }
        U256::from_str_radix(text, 10).map(Self).map_err(|_| crate::BadNumber)
    }
}

/// JSON carries wei as decimal text, since a JSON number loses digits in most readers.
impl Serialize for Wei {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(d)?;
        text.parse().map_err(|_| D::Error::custom("expected wei as decimal text"))
    }
}

/// `be(n)` of payments.md: minimal big-endian bytes, zero is empty.
pub fn be_bytes(n: U256) -> Vec<u8> {
    n.to_be_bytes_trimmed_vec()
}

/// The inverse of [`be_bytes`]; leading zero bytes are allowed, more than 32 bytes are not
/// (payments.md section 2: longer values corrupt the reference's hash buffer).
pub fn u256_from_be(bytes: &[u8]) -> Option<U256> {
    U256::try_from_be_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimal_big_endian_round_trips() {
        for n in [U256::ZERO, U256::from(1), U256::from(256), U256::MAX] {
            assert_eq!(u256_from_be(&be_bytes(n)), Some(n));
        }
        assert!(be_bytes(U256::ZERO).is_empty());
        assert_eq!(be_bytes(U256::from(0x0102)), [1, 2]);
        assert_eq!(u256_from_be(&[1; 33]), None);
    }

    #[test]
    fn wei_text_is_strict() {
        assert_eq!("12".parse::<Wei>().unwrap(), Wei::from_u64(12));
        for bad in ["", "-1", "+1", "1e3", "0x1", "1_0", " 1"] {
            assert!(bad.parse::<Wei>().is_err(), "{bad}");
        }
        let max = Wei(U256::MAX);
        assert_eq!(
            serde_json::from_str::<Wei>(&serde_json::to_string(&max).unwrap()).unwrap(),
            max
        );
        assert_eq!(max.checked_add(Wei::from_u64(1)), None);
        assert_eq!(Wei::ZERO.checked_sub(Wei::from_u64(1)), None);
    }
}
