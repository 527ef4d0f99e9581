//! How numbers, addresses and bytes are spelled in JSON: one small module for serde's `with` each.

use penstock_domain::{U256, Wei};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use std::borrow::Cow;

fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Cow<'de, str>, D::Error> {
    <Cow<'de, str>>::deserialize(d)
}

/// `0x` and 40 hex digits.
pub mod address {
    use super::*;
    use penstock_domain::{Address, address_lower, parse_address};

    /// Lower case.
    pub fn serialize<S: Serializer>(value: &Address, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&address_lower(value))
    }

    /// Any case, `0x` optional.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Address, D::Error> {
        parse_address(&read(d)?)
            .ok_or_else(|| D::Error::custom("expected an address: 0x and 40 hex digits"))
    }
}

/// `0x` and 64 hex digits.
pub mod hash {
    use super::*;
    use penstock_domain::{B256, parse_b256};

    /// Lower case.
    pub fn serialize<S: Serializer>(value: &B256, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    /// Any case, `0x` optional.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<B256, D::Error> {
        parse_b256(&read(d)?)
            .ok_or_else(|| D::Error::custom("expected a hash: 0x and 64 hex digits"))
    }
}

/// Decimal digits of a 256-bit number.
pub mod number {
    use super::*;

    /// Decimal.
    pub fn serialize<S: Serializer>(value: &U256, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    /// Decimal digits only.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<U256, D::Error> {
        read(d)?
            .parse::<Wei>()
            .map(|wei| wei.0)
            .map_err(|_| D::Error::custom("expected a decimal number below 2^256, as text"))
    }
}

/// `0x` and an even number of hex digits, any length the body limit lets through.
pub mod bytes {
    use super::*;

    /// Lower case.
    pub fn serialize<S: Serializer>(value: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("0x{}", hex::encode(value)))
    }

    /// Any case, `0x` optional.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = read(d)?;
        hex::decode(text.strip_prefix("0x").unwrap_or(&text))
            .map_err(|_| D::Error::custom("expected bytes: 0x and hex digits in pairs"))
    }
}
