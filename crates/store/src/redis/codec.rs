//! Stored bytes: a head of fixed width that scripts can read, and a packed record.

use crate::{StoreError, UnixMs, Version, Versioned};

pub(super) use crate::packed::{pack, unpack};

/// Width of version and expiry before a record.
const HEAD: usize = 36;
/// The largest whole number that scripts count exactly; later times mean "never".
const LAST: u64 = (1 << 53) - 1;

/// A time as scripts take it.
pub(super) fn time(at: UnixMs) -> String {
    at.0.min(LAST).to_string()
}

/// A time of 16 digits.
pub(super) fn wide_time(at: UnixMs) -> String {
    format!("{:016}", at.0.min(LAST))
}

/// Versions and fences as scripts take them.
pub(super) fn token(value: u64) -> String {
    format!("{value:020}")
}

/// One that was never given before: the time, and 20 random bits below it. A store that lost its last
/// second gives another than it gave then.
pub(super) fn fresh_token(now: UnixMs) -> String {
    let random = u64::from(rand::random::<u32>() >> 12);
    token((now.0.min(LAST >> 10) << 20) | random)
}

pub(super) fn read_token(text: &[u8]) -> Result<u64, StoreError> {
    let digits = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    digits.ok_or(StoreError::Corrupt("version"))
}

pub(super) fn read_time(text: &[u8]) -> Result<UnixMs, StoreError> {
    read_token(text).map(UnixMs)
}

/// Version and bytes of a record as `cas.lua` stores it, if it is live.
pub(super) fn live<'a>(
    stored: Option<&'a [u8]>,
    now: UnixMs,
    what: &'static str,
) -> Result<Option<Versioned<&'a [u8]>>, StoreError> {
    let Some(stored) = stored.filter(|s| !s.is_empty()) else { return Ok(None) };
    let (head, value) = stored.split_at_checked(HEAD).ok_or(StoreError::Corrupt(what))?;
    let (version, expiry) = head.split_at_checked(20).ok_or(StoreError::Corrupt(what))?;
    if read_time(expiry)? <= now {
        return Ok(None);
    }
    Ok(Some(Versioned { version: Version(read_token(version)?), value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_rise_with_time_and_fit() {
        let at = |ms| read_token(fresh_token(UnixMs(ms)).as_bytes()).unwrap();
        assert!(at(1_700_000_000_001) > at(1_700_000_000_000));
        assert_eq!(fresh_token(UnixMs(u64::MAX)).len(), 20);
        assert_eq!(wide_time(UnixMs(u64::MAX)).len(), 16);
    }

    #[test]
    fn any_bytes_are_refused_without_panic() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.resize(rand::random_range(0..80), 0);
            bytes.fill_with(rand::random);
            if let Some(kind) = bytes.first_mut().filter(|_| rand::random()) {
                *kind = if rand::random() { b'j' } else { b'z' };
            }
            let _ = live(Some(&bytes), UnixMs(1), "x");
            let _ = unpack::<crate::StreamRecord>(&bytes, "x");
        }
    }
}
