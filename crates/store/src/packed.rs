//! Small records as bytes: JSON, deflated when that is shorter. JSON, so that replicas of two versions can
//! read each other's records.

use crate::StoreError;
use flate2::{Compression, write::DeflateDecoder, write::DeflateEncoder};
use serde::{Serialize, de::DeserializeOwned};
use std::io::Write as _;

/// Shorter texts are not worth the trouble.
const DEFLATE_FROM: usize = 96;
/// Most bytes that a stored text may unfold to: far above any record.
const UNFOLDED_BYTES: usize = 64 << 20;
const PLAIN: u8 = b'j';
const DEFLATED: u8 = b'z';

/// A record as bytes.
///
/// # Errors
/// It cannot be written as JSON; `what` names it.
pub fn pack(record: &impl Serialize, what: &'static str) -> Result<Vec<u8>, StoreError> {
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

/// The record again.
///
/// # Errors
/// These bytes are none, or unfold to more than 64 MiB.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, StoreError> {
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
}
