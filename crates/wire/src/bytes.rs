//! Fixed-width values inside protobuf `bytes`. Other lengths are refused, where the reference
//! would cut or pad them (payments.md section 2 allows a strict reader).

use crate::error::WireError;
use penstock_domain::{Address, B256, U256, u256_from_be};

/// 20 bytes; empty is `None`.
pub(crate) fn address(what: &'static str, bytes: &[u8]) -> Result<Option<Address>, WireError> {
    match bytes.len() {
        0 => Ok(None),
        20 => Ok(Some(Address::from_slice(bytes))),
        _ => Err(WireError::invalid(what, "must be 20 bytes")),
    }
}

/// 32 bytes; empty is zero, since a hash of zeros is what "unset" means everywhere.
pub(crate) fn hash(what: &'static str, bytes: &[u8]) -> Result<B256, WireError> {
    match bytes.len() {
        0 => Ok(B256::ZERO),
        32 => Ok(B256::from_slice(bytes)),
        _ => Err(WireError::invalid(what, "must be 32 bytes")),
    }
}

/// Big-endian, at most 32 bytes; empty is 0.
pub(crate) fn integer(what: &'static str, bytes: &[u8]) -> Result<U256, WireError> {
    u256_from_be(bytes).ok_or(WireError::invalid(what, "must be at most 32 bytes"))
}

/// The zero hash is left out, as an absent field.
pub(crate) fn hash_field(hash: B256) -> Vec<u8> {
    if hash.is_zero() { Vec::new() } else { hash.to_vec() }
}
