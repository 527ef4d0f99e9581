//! Stored bytes: a head of fixed width that scripts can read, and JSON, deflated when that is
//! shorter. JSON, so that replicas of two versions can read each other's records.

use crate::{StoreError, UnixMs, Version, Versioned};
use flate2::{Compression, write::DeflateDecoder, write::DeflateEncoder};
use serde::{Serialize, de::DeserializeOwned};
use std::io::Write as _;

/// Shorter texts are not worth the trouble.
const DEFLATE_FROM: usize = 96;
/// Most bytes that a stored text may unfold to: far above any record.
const UNFOLDED_BYTES: usize = 64 << 20;
/// Width of version and expiry before a record.
const HEAD: usize = 36;
/// The largest whole number that scripts count exactly; later times mean "never".
const LAST: u64 = (1 << 53) - 1;

const PLAIN: u8 = b'j';
const DEFLATED: u8 = b'z';

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

/// Bytes of a record.
pub(super) fn pack(record: &impl Serialize, what: &'static str) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(record).map_err(|_| StoreError::Corrupt(what))?;
    if json.len() >= DEFLATE_FROM {
        let mut out = DeflateEncoder::new(vec![DEFLATED], Compression::default());
        if out.write_all(&json).is_ok()
            && let Ok(out) = out.finish()
            && out.len() <= json.len()
        {
            return Ok(out);
        }
    }
    let mut plain = vec![PLAIN];
    plain.extend_from_slice(&json);
    Ok(plain)
}

/// A record of its bytes.
pub(super) fn unpack<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, StoreError> {
    let corrupt = || StoreError::Corrupt(what);
    match bytes.split_first() {
        Some((&PLAIN, json)) => serde_json::from_slice(json).map_err(|_| corrupt()),
        Some((&DEFLATED, deflated)) => {
            let mut out = DeflateDecoder::new(Bounded(Vec::new()));
            out.write_all(deflated).map_err(|_| corrupt())?;
            let json = out.finish().map_err(|_| corrupt())?.0;
            serde_json::from_slice(&json).map_err(|_| corrupt())
        }
        _ => Err(corrupt()),
    }
}

/// A buffer with an end, whatever the stored bytes unfold to.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > UNFOLDED_BYTES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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
    fn long_texts_are_deflated_and_bounded() {
        let text = "segment ".repeat(1_000);
        let packed = pack(&text, "x").unwrap();
        assert!(packed.len() < 200);
        assert_eq!(unpack::<String>(&packed, "x").unwrap(), text);
        let mut bomb = DeflateEncoder::new(vec![DEFLATED], Compression::fast());
        for _ in 0..65 {
            bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert_eq!(unpack::<String>(&bomb, "x"), Err(StoreError::Corrupt("x")));
    }

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
                *kind = if rand::random() { PLAIN } else { DEFLATED };
            }
            let _ = live(Some(&bytes), UnixMs(1), "x");
            let _ = unpack::<crate::StreamRecord>(&bytes, "x");
        }
    }
}
