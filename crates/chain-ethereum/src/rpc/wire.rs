//! The JSON of Ethereum's RPC: quantities and bytes are hexadecimal text, and so is nothing else.

use core::fmt;
use penstock_domain::{Address, B256, U256, parse_address, parse_b256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A number, `0x0` to 2^256 − 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub U256);

/// Bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Data(pub Vec<u8>);

/// A hash, or an indexed value of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(pub B256);

/// An account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Account(pub Address);

impl Quantity {
    /// As 64 bits, which heights, nonces and gas fit in.
    pub fn to_u64(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }

    /// As 128 bits, which fees fit in.
    pub fn to_u128(self) -> Option<u128> {
        u128::try_from(self.0).ok()
    }
}

impl From<u64> for Quantity {
    fn from(number: u64) -> Self {
        Self(U256::from(number))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("no quantity"))?;
        U256::from_str_radix(digits, 16).map(Self).map_err(|_| D::Error::custom("no quantity"))
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("0x{}", hex::encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("no bytes"))?;
        hex::decode(digits).map(Self).map_err(|_| D::Error::custom("no bytes"))
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse_b256(&text).map(Self).ok_or_else(|| D::Error::custom("no hash"))
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&penstock_domain::address_lower(&self.0))
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse_address(&text).map(Self).ok_or_else(|| D::Error::custom("no address"))
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A block's head, as far as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Height of this chain.
    pub number: Quantity,
    /// Its hash.
    pub hash: Word,
    /// When it was made, in seconds since 1970.
    pub timestamp: Quantity,
    /// Wei for a unit of gas that is burnt (EIP-1559).
    pub base_fee_per_gas: Option<Quantity>,
    /// Height of L1, where this chain is Arbitrum.
    pub l1_block_number: Option<Quantity>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The contract.
    pub address: Account,
    /// What kind it is, and what is indexed of it.
    pub topics: Vec<Word>,
    /// The rest.
    pub data: Data,
    /// The transaction that it is of.
    pub transaction_hash: Word,
    /// The block that it is in.
    #[serde(default)]
    pub block_number: Option<Quantity>,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mined {
    /// Its hash.
    pub transaction_hash: Word,
    /// 1 = it did what it was to do, 0 = it was reverted and its gas is gone.
    pub status: Quantity,
    /// The block that it is in.
    pub block_number: Quantity,
    /// That block's hash.
    pub block_hash: Word,
    /// Its events.
    pub logs: Vec<Event>,
}

impl Mined {
    /// Whether it did what it was to do.
    pub fn succeeded(&self) -> bool {
        self.status.0 == U256::from(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_are_hexadecimal_text() {
        let number: Quantity = serde_json::from_str("\"0x1c9c380\"").unwrap();
        assert_eq!((number.to_u64(), number.to_u128()), (Some(30_000_000), Some(30_000_000)));
        assert_eq!(serde_json::to_string(&number).unwrap(), "\"0x1c9c380\"");
        assert_eq!(serde_json::to_string(&Quantity::from(0)).unwrap(), "\"0x0\"");
        let most: Quantity = serde_json::from_str(&format!("\"{:#x}\"", U256::MAX)).unwrap();
        assert_eq!((most.0, most.to_u64()), (U256::MAX, None));
        let data: Data = serde_json::from_str("\"0x00ff\"").unwrap();
        assert_eq!(
            (data.0.as_slice(), serde_json::to_string(&data).unwrap()),
            (&[0, 255][..], "\"0x00ff\"".into())
        );
        for bad in ["\"12\"", "\"0xg\"", "12", "null", "\"0x-1\"", "\"\""] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<Data>(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<Word>(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<Account>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Quantity>(&format!("\"0x1{:064x}\"", 0)).is_err());
    }
}
