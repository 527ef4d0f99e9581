//! H.264 written bit by bit: thirteen bytes that decode to a picture of 67 megapixels, and so on for each frame.

use super::film::make;
use std::path::Path;

/// Bits of a unit, in the order of the standard (ITU-T H.264 section 7.3).
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn u(mut self, width: u32, value: u32) -> Self {
        self.0.extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    /// Unsigned Exp-Golomb.
    fn ue(self, value: u32) -> Self {
        let value = value + 1;
        let width = 32 - value.leading_zeros();
        self.u(width - 1, 0).u(width, value)
    }

    /// The unit with its start code, emulation prevented.
    fn unit(mut self, header: u8) -> Vec<u8> {
        self.0.push(true);
        self.0.resize(self.0.len().next_multiple_of(8), false);
        let bytes =
            self.0.chunks(8).map(|bits| bits.iter().fold(0, |b, bit| b << 1 | u8::from(*bit)));
        let (mut unit, mut zeros) = (vec![0, 0, 0, 1, header], 0);
        for byte in bytes {
            if zeros >= 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            unit.push(byte);
            zeros = if byte == 0 { zeros + 1 } else { 0 };
        }
        unit
    }
}

/// A stream of `frames` pictures, sides in whole macroblocks of 16: a first one that breaks off behind its
/// first macroblock, then pictures that say in one number that nothing has changed.
pub fn bomb(width: u32, height: u32, frames: u32) -> Vec<u8> {
    let (across, down) = (width / 16, height / 16);
    // Baseline, level 6.2, order of output by decoding, no cropping.
    let sequence = Bits::default().u(8, 66).u(8, 0xc0).u(8, 62).ue(0).ue(0).ue(2).ue(1).u(1, 0);
    let sequence = sequence.ue(across - 1).ue(down - 1).u(4, 0b1100).unit(0x67);
    let picture = Bits::default().ue(0).ue(0).u(2, 0).ue(0).ue(0).ue(0).u(3, 0);
    let picture = picture.ue(0).ue(0).ue(0).u(3, 0).unit(0x68);
    let first = Bits::default().ue(0).ue(7).ue(0).u(4, 0).ue(0).u(2, 0).ue(0);
    let first = first.ue(3).ue(0).ue(0).u(1, 1).unit(0x65);
    let mut stream = [sequence, picture, first].concat();
    for number in 1..frames {
        let next = Bits::default().ue(0).ue(5).ue(0).u(4, number % 16).u(3, 0).ue(0);
        stream.extend(next.ue(across * down).unit(0x41));
    }
    stream
}

/// The same in MPEG-TS.
pub fn bomb_ts(folder: &Path, width: u32, height: u32, frames: u32) -> Vec<u8> {
    std::fs::write(folder.join("bomb.h264"), bomb(width, height, frames)).expect("a folder");
    make(folder, "-framerate 30 -f h264 -i bomb.h264 -c copy -f mpegts", "bomb.ts")
}
