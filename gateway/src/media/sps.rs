//! The H.264 sequence parameter set: picture size, pixel format, profile and level
//! (ITU-T H.264 section 7.3.2.1.1).

use super::{bits::Bits, probe::Probe};
use penstock_domain::PixelFormat;

/// What is read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    profile: u8,
    constraints: u8,
    level: u8,
    chroma: u32,
    bit_depth: u32,
    width: u32,
    height: u32,
}

impl Parameters {
    /// Writes them into a probe.
    pub fn describe(&self, probe: &mut Probe) {
        probe.width = self.width;
        probe.height = self.height;
        let (p, c, l) = (self.profile, self.constraints, self.level);
        probe.codec_text = Some(format!("avc1.{p:02x}{c:02x}{l:02x}"));
        probe.pixel_format = match (self.chroma, self.bit_depth) {
            (1, 8) => Some(PixelFormat::Yuv420_8),
            (2, 8) => Some(PixelFormat::Yuv422_8),
            (3, 8) => Some(PixelFormat::Yuv444_8),
            (1, 10) => Some(PixelFormat::Yuv420_10),
            (2, 10) => Some(PixelFormat::Yuv422_10),
            (3, 10) => Some(PixelFormat::Yuv444_10),
            _ => None,
        };
        probe.odd_pixel_format = probe.pixel_format.is_none();
    }
}

/// Finds the first parameter set in an Annex B stream (start codes `00 00 01`).
pub fn find_in_stream(bytes: &[u8]) -> Option<Parameters> {
    let mut rest = bytes;
    loop {
        let at = rest.windows(3).position(|w| w == [0, 0, 1])?;
        rest = rest.get(at + 3..)?;
        if rest.first()? & 0x1f == 7 {
            return parse(rest.get(1..)?);
        }
    }
}

/// Parses the set, without its NAL header byte. Trailing bytes are ignored.
pub fn parse(nal: &[u8]) -> Option<Parameters> {
    // Far more than any real one; scaling lists make the largest some 200 bytes.
    let raw = unescape(nal.get(..nal.len().min(512))?);
    let mut b = Bits::new(&raw);
    let profile = b.take(8)? as u8;
    let constraints = b.take(8)? as u8;
    let level = b.take(8)? as u8;
    b.ue()?;
    let (mut chroma, mut bit_depth) = (1, 8);
    if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
        chroma = b.ue()?;
        if chroma == 3 {
            b.take(1)?;
        }
        bit_depth = b.ue()?.checked_add(8)?;
        b.ue()?;
        b.take(1)?;
        if b.take(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if b.take(1)? == 1 {
                    scaling_list(&mut b, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    b.ue()?;
    match b.ue()? {
        0 => drop(b.ue()?),
        1 => {
            b.take(1)?;
            b.ue()?;
            b.ue()?;
            for _ in 0..b.ue()?.min(256) {
                b.ue()?;
            }
        }
        _ => {}
    }
    b.ue()?;
    b.take(1)?;
    let width_mbs = b.ue()?.checked_add(1)?;
    let height_units = b.ue()?.checked_add(1)?;
    let frames_only = b.take(1)?;
    if frames_only == 0 {
        b.take(1)?;
    }
    b.take(1)?;
    let field_factor = 2 - frames_only;
    let mut width = width_mbs.checked_mul(16)?;
    let mut height = height_units.checked_mul(16)?.checked_mul(field_factor)?;
    if b.take(1)? == 1 {
        let (left, right, top, bottom) = (b.ue()?, b.ue()?, b.ue()?, b.ue()?);
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = field_factor * if chroma == 1 { 2 } else { 1 };
        width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
        height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
    }
    // Nobody encodes larger pictures; a claim of one is noise.
    let sane = (1..=16_384).contains(&width) && (1..=16_384).contains(&height);
    sane.then_some(Parameters { profile, constraints, level, chroma, bit_depth, width, height })
}

fn scaling_list(b: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            let code = i64::from(b.ue()?);
            let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
            next = (last + delta).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Removes the emulation prevention bytes (`00 00 03` → `00 00`).
fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_set_of_a_stream() {
        let p = find_in_stream(&crate::media::probe::tests::SPS_720P).unwrap();
        assert_eq!((p.width, p.height, p.profile, p.level), (1280, 720, 100, 31));
        assert_eq!(find_in_stream(&[0, 0, 1, 0x65, 1, 2]), None);
        assert_eq!(find_in_stream(&[]), None);
    }
}
