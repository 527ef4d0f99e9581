//! Reading loosely typed JSON strictly: sizes first, then key by key with the key in the error.

use crate::{
    error::{WireError, bounded},
    header,
};
use penstock_domain::Rational;
use serde_json::{Map, Value};

pub(super) type Object = Map<String, Value>;

/// Parses any JSON of at most `max` bytes. (The parser's own nesting limit is 128.)
pub(super) fn value(what: &'static str, body: &[u8], max: usize) -> Result<Value, WireError> {
    bounded(what, body.len(), max)?;
    serde_json::from_slice(body).map_err(|e| WireError::Json { what, reason: e.to_string() })
}

/// Parses a JSON object of at most `max` bytes.
pub(super) fn object(what: &'static str, body: &[u8], max: usize) -> Result<Object, WireError> {
    as_object(what, value(what, body, max)?)
}

pub(super) fn as_object(what: &'static str, value: Value) -> Result<Object, WireError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(wrong(what, "expected an object")),
    }
}

pub(super) fn wrong(what: &'static str, reason: impl Into<String>) -> WireError {
    WireError::Json { what, reason: reason.into() }
}

/// The value of a key: the exact spelling, else any other case; null is absent.
pub(super) fn get<'a>(map: &'a Object, key: &str) -> Option<&'a Value> {
    map.get(key)
        .or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v))
        .filter(|v| !v.is_null())
}

/// A text; absent is empty.
pub(super) fn text(map: &Object, key: &'static str, max: usize) -> Result<String, WireError> {
    match get(map, key) {
        None => Ok(String::new()),
        Some(Value::String(s)) => {
            bounded(key, s.len(), max)?;
            Ok(s.clone())
        }
        Some(_) => Err(wrong(key, "expected a string")),
    }
}

/// Standard base64 with padding; absent is empty. `max` counts decoded bytes.
pub(super) fn base64(map: &Object, key: &'static str, max: usize) -> Result<Vec<u8>, WireError> {
    match get(map, key) {
        None => Ok(Vec::new()),
        Some(Value::String(s)) => {
            let bytes = header::from_base64(key, s, max.div_ceil(3).saturating_mul(4))?;
            bounded(key, bytes.len(), max)?;
            Ok(bytes)
        }
        Some(_) => Err(wrong(key, "expected base64 text")),
    }
}

/// A whole number; absent is 0. Fractions and exponents are refused, as Go does for int64.
pub(super) fn int64(map: &Object, key: &'static str) -> Result<i64, WireError> {
    match get(map, key) {
        None => Ok(0),
        Some(Value::Number(n)) => {
            n.as_i64().ok_or_else(|| wrong(key, "expected a 64-bit whole number"))
        }
        Some(_) => Err(wrong(key, "expected a number")),
    }
}

/// A number within `0 ..= u32::MAX`; absent is 0.
pub(super) fn uint32(map: &Object, key: &'static str) -> Result<u32, WireError> {
    u32::try_from(int64(map, key)?).map_err(|_| wrong(key, "out of range"))
}

/// A JSON number, or a string holding one, exactly. A string that holds something else and a
/// number too large to be exact are `None`, which is for the caller's own rule to refuse.
pub(super) fn decimal(map: &Object, key: &'static str) -> Result<Option<Rational>, WireError> {
    match get(map, key) {
        None => Ok(None),
        Some(Value::Number(n)) => Ok(Rational::from_decimal(&n.to_string()).ok()),
        Some(Value::String(s)) => Ok(Rational::from_decimal(s).ok()),
        Some(_) => Err(wrong(key, "expected a number")),
    }
}

/// A JSON number cut to 18 decimals, without trailing zeros.
pub(super) fn decimal_number(value: &Rational) -> Value {
    let fixed = value.truncate(18).to_fixed(18);
    let short = fixed.trim_end_matches('0').trim_end_matches('.');
    serde_json::from_str(short).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_exactly() {
        for text in ["0.5", "1500", "0", "10", "0.000000000000000001", "10120000000000000"] {
            let value = decimal_number(&Rational::from_decimal(text).unwrap());
            assert_eq!(value.to_string(), text);
        }
        let third = decimal_number(&Rational::new(1, 3).unwrap());
        assert_eq!(third.to_string(), "0.333333333333333333");
    }
}
