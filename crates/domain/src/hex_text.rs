//! Hex text for addresses and hashes, in the spellings peers really send.

use crate::{Address, B256};

/// `0x` and 40 lowercase digits: the storage and state spelling. (`Display` of [`Address`] is
/// the EIP-55 checksummed spelling that signatures and the remote signer's answers use.)
pub fn address_lower(address: &Address) -> String {
    format!("{address:#x}")
}

/// 40 hex digits in any case, `0x` optional; a wrong checksum is accepted, as peers do.
pub fn parse_address(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if digits.len() != 40 {
        return None;
    }
    digits.parse().ok()
}

/// 64 hex digits in any case, `0x` optional.
pub fn parse_b256(text: &str) -> Option<B256> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if digits.len() != 64 {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let a = parse_address("0xd4146f1a8a9e6cb2a4a3ac22d9f48b6d2f3fbb65").unwrap();
        assert_eq!(parse_address(&a.to_string()), Some(a));
        assert_eq!(parse_address(&address_lower(&a)), Some(a));
        assert_eq!(parse_address("0x12"), None);
        assert_eq!(parse_address(&"é".repeat(20)), None);
        assert_eq!(parse_b256(&"zz".repeat(32)), None);
    }
}
