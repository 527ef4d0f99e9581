//! AAC's two envelopes: the configuration that FLV and MP4 carry once, and the ADTS header that
//! MPEG-TS repeats before each frame.

use super::bits::Bits;

/// Samples a second, by index.
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// What a decoder has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacConfig {
    /// Audio object type, 1 to 4 (2 is AAC-LC).
    pub object_type: u8,
    /// Into the table of sampling rates.
    pub rate_index: u8,
    /// Channel configuration, 1 to 7.
    pub channels: u8,
}

impl AacConfig {
    /// Reads an AudioSpecificConfig. `None`: not AAC, or a form that ADTS cannot say.
    pub fn of_specific(bytes: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(bytes);
        let mut object_type = read_type(&mut bits)?;
        let rate_index = bits.take(4)?;
        if rate_index == 15 {
            return None;
        }
        let channels = bits.take(4)?;
        if matches!(object_type, 5 | 29) {
            // High efficiency: the frames are of the type beneath, which players detect.
            if bits.take(4)? == 15 {
                bits.take(24)?;
            }
            object_type = read_type(&mut bits)?;
        }
        Self::new(object_type, rate_index, channels)
    }

    fn new(object_type: u32, rate_index: u32, channels: u32) -> Option<Self> {
        let known = (1..=4).contains(&object_type)
            && RATES.get(rate_index as usize).is_some()
            && (1..=7).contains(&channels);
        let byte = |v: u32| u8::try_from(v).unwrap_or(0);
        known.then(|| Self {
            object_type: byte(object_type),
            rate_index: byte(rate_index),
            channels: byte(channels),
        })
    }

    /// As MP4 carries it.
    pub fn specific(self) -> [u8; 2] {
        let bits = u16::from(self.object_type) << 11
            | u16::from(self.rate_index) << 7
            | u16::from(self.channels) << 3;
        bits.to_be_bytes()
    }

    /// Samples a second.
    pub fn rate(self) -> u32 {
        RATES.get(usize::from(self.rate_index)).copied().unwrap_or(48_000)
    }

    /// RFC 6381.
    pub fn codec(self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    /// The header of a frame of so many bytes; `None` if it is longer than ADTS can say.
    pub fn adts(self, frame: usize) -> Option<[u8; 7]> {
        let length = u32::try_from(frame.checked_add(7)?).ok().filter(|n| *n < 1 << 13)?;
        let [_, _, high, low] = length.to_be_bytes();
        Some([
            0xff,
            0xf1,
            (self.object_type - 1) << 6 | self.rate_index << 2 | self.channels >> 2,
            self.channels << 6 | (high >> 3),
            high << 5 | low >> 3,
            low << 5 | 0x1f,
            0xfc,
        ])
    }
}

/// Takes ADTS frames apart; ends at the first thing that is none.
pub fn adts_frames(mut bytes: &[u8]) -> Vec<(AacConfig, &[u8])> {
    let mut frames = Vec::new();
    while let [0xff, b1, b2, b3, b4, b5, _, ..] = *bytes {
        if b1 & 0xf6 != 0xf0 {
            break;
        }
        let header = if b1 & 1 == 0 { 9 } else { 7 };
        let length = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
        let config = AacConfig::new(
            u32::from(b2 >> 6) + 1,
            u32::from(b2 >> 2 & 15),
            u32::from(b2 & 1) << 2 | u32::from(b3 >> 6),
        );
        let (Some(config), Some(frame)) = (config, bytes.get(header..length)) else { break };
        frames.push((config, frame));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    frames
}

fn read_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(5)? {
        31 => Some(32 + bits.take(6)?),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    #[test]
    fn configurations() {
        let lc = AacConfig::of_specific(&[0x12, 0x10]).unwrap();
        assert_eq!((lc.object_type, lc.rate(), lc.channels), (2, 44_100, 2));
        assert_eq!(lc.specific(), [0x12, 0x10]);
        // SBR over LC.
        let he = AacConfig::of_specific(&[0x2b, 0x92, 0x08, 0x00]).unwrap();
        assert_eq!((he.object_type, he.rate()), (2, 22_050));
        assert_eq!(AacConfig::of_specific(&[0x17, 0x80]), None, "a rate in full");
        assert_eq!(AacConfig::of_specific(&[]), None);
    }

    #[test]
    fn frames_come_back() {
        let config = AacConfig::of_specific(&[0x11, 0x90]).unwrap();
        let frames = [vec![1; 1], vec![2; 300], vec![3; 8_000]];
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend(config.adts(frame.len()).unwrap());
            stream.extend(frame);
        }
        let found = adts_frames(&stream);
        assert!(found.iter().all(|(c, _)| *c == config));
        assert_eq!(found.iter().map(|(_, f)| f.to_vec()).collect::<Vec<_>>(), frames);
        assert_eq!(config.adts(9_000), None);
    }

    #[test]
    fn whatever_the_bytes_are() {
        let valid = [0xff, 0xf1, 0x4c, 0x80, 0x01, 0x40, 0xfc, 1, 2, 3];
        cases(100_000, |rng| {
            let bytes = damaged(rng, &valid, 4);
            AacConfig::of_specific(&bytes);
            assert!(adts_frames(&bytes).len() <= 2);
        });
    }
}
