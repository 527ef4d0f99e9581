//! How long a WAV file is, from its header alone: the one container read in this process.
//! Everything else goes through [`super::ffprobe`].

/// Length in milliseconds, or `None` if this is not a WAV file with a usable header.
///
/// Streaming writers leave 0 or 2^32−1 as the data size; then, as for a file that was cut short,
/// what is really there counts.
pub fn duration_ms(file: &[u8]) -> Option<u64> {
    if file.get(..4)? != b"RIFF" || file.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut at: usize = 12;
    let mut bytes_per_second = None;
    loop {
        let kind = file.get(at..at.checked_add(4)?)?;
        let size = u32_at(file, at.checked_add(4)?)?;
        let body = at.checked_add(8)?;
        match kind {
            b"fmt " => bytes_per_second = Some(byte_rate(file.get(body..)?, size)?),
            b"data" => {
                let there = u64::try_from(file.len().checked_sub(body)?).ok()?;
                let said = u64::from(size);
                let bytes = if said == 0 || said > there { there } else { said };
                return bytes.checked_mul(1000)?.checked_div(u64::from(bytes_per_second?));
            }
            _ => {}
        }
        // Chunks are padded to an even length.
        at = body
            .checked_add(usize::try_from(size).ok()?)?
            .checked_add(usize::from(size % 2 == 1))?;
    }
}

fn u32_at(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u16_at(file: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Bytes a second. For PCM it must agree with rate, channels and width: a header that lies about
/// it would buy a long job at the price of a short one.
fn byte_rate(fmt: &[u8], size: u32) -> Option<u32> {
    if size < 16 {
        return None;
    }
    let (format, channels, rate) = (u16_at(fmt, 0)?, u16_at(fmt, 2)?, u32_at(fmt, 4)?);
    let (said, bits) = (u32_at(fmt, 8)?, u16_at(fmt, 14)?);
    // 1 PCM, 3 float; A-law, µ-law and the extensible form are left to ffprobe.
    if !matches!(format, 1 | 3) {
        return None;
    }
    let computed = u64::from(rate) * u64::from(channels) * u64::from(bits / 8);
    (computed > 0 && computed == u64::from(said)).then_some(said)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::media::generated::*;

    /// A mono 16-bit file of so many samples.
    pub(crate) fn wav(rate: u32, samples: usize, data_size: u32) -> Vec<u8> {
        let mut f = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        f.extend(rate.to_le_bytes());
        f.extend((rate * 2).to_le_bytes());
        f.extend([2, 0, 16, 0]);
        f.extend(b"LIST\x03\0\0\0abc\0data");
        f.extend(data_size.to_le_bytes());
        f.extend(vec![0; samples * 2]);
        f
    }

    #[test]
    fn lengths() {
        assert_eq!(duration_ms(&wav(8_000, 8_000, 16_000)), Some(1_000));
        assert_eq!(duration_ms(&wav(8_000, 12_000, u32::MAX)), Some(1_500));
        assert_eq!(duration_ms(&wav(8_000, 12_000, 0)), Some(1_500));
        assert_eq!(duration_ms(&wav(8_000, 4_000, 16_000)), Some(500), "cut short");
        assert_eq!(duration_ms(b"RIFF"), None);
        assert_eq!(duration_ms(b""), None);
        let mut liar = wav(8_000, 8_000, 16_000);
        liar[28] = 0xff;
        assert_eq!(duration_ms(&liar), None, "byte rate disagrees");
    }

    #[test]
    fn whatever_the_file_is() {
        let valid = wav(8_000, 4, 8);
        cases(100_000, |rng| {
            let _ = duration_ms(&damaged(rng, &valid, 3));
        });
    }
}
