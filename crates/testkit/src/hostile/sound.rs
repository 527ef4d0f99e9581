//! Sound files whose headers claim what no sound has.

use super::Hostile;

fn wav(channels: u16, rate: u32, bytes_per_second: u32, bits: u16, said: u32) -> Vec<u8> {
    let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0".to_vec();
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend(bytes_per_second.to_le_bytes());
    file.extend((channels.wrapping_mul(bits / 8)).to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend(said.to_le_bytes());
    file.resize(file.len() + 4_000, 0);
    file
}

/// A FLAC file of as many samples as its header can say, at one a second.
fn flac() -> Vec<u8> {
    let mut file = b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\0\0\0\0".to_vec();
    // 20 bits of rate (1), 3 of channels (8), 5 of width (32), 36 of samples (all).
    let header: u64 = 1 << 44 | 7 << 41 | 31 << 36 | ((1 << 36) - 1);
    file.extend(header.to_be_bytes());
    file.resize(file.len() + 16, 0);
    file
}

/// An Ogg page at the end of time.
fn ogg() -> Vec<u8> {
    let mut file = b"OggS\0\x02".to_vec();
    file.extend(i64::MAX.to_le_bytes());
    file.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 30]);
    file.extend(b"\x01vorbis\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\xb8\x01");
    file
}

/// An AIFF file with a rate of 2^16383.
fn aiff() -> Vec<u8> {
    let mut file =
        b"FORM\x7f\xff\xff\xffAIFFCOMM\0\0\0\x12\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    file.extend([0x7f, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    file.extend(b"SSND\x7f\xff\xff\xff\0\0\0\0\0\0\0\0");
    file
}

/// Rates, channels, widths and lengths beyond measure. None of them is as long as it says.
pub fn sounds() -> Vec<Hostile> {
    vec![
        Hostile::new("no channels", wav(0, 8_000, 16_000, 16, 4_000)),
        Hostile::new("65,535 channels", wav(u16::MAX, 8_000, u32::MAX, 16, 4_000)),
        Hostile::new("no rate", wav(1, 0, 0, 16, 4_000)),
        Hostile::new("the highest rate", wav(1, u32::MAX, u32::MAX, 16, 4_000)),
        Hostile::new("no width", wav(1, 8_000, 0, 0, 4_000)),
        Hostile::new("an odd width", wav(1, 8_000, 24_000, 65_535, 4_000)),
        Hostile::new("a byte a second", wav(1, 8_000, 1, 16, u32::MAX)),
        Hostile::new("flac without end", flac()),
        Hostile::new("ogg at the end of time", ogg()),
        Hostile::new("an endless rate", aiff()),
        Hostile::new(
            "mp3 of one frame",
            [&b"ID3\x04\0\xff\x7f\x7f\x7f\x7f"[..], &[0xff, 0xfb, 0x90, 0]].concat(),
        ),
        Hostile::new("aac of no length", [0xff, 0xf1, 0xff, 0xff, 0xe0, 0x1f, 0xfc].repeat(50)),
    ]
}
