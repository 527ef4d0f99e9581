//! Width and height of PNG, JPEG and GIF files, read from their first bytes: what a picture costs
//! (ai-pipelines.md section 4). Nothing is decoded.

/// Width and height in pixels, both above 0. `None`: none of the three formats, or cut off before
/// the size.
pub fn image_size(file: &[u8]) -> Option<(u32, u32)> {
    let size = png(file).or_else(|| gif(file)).or_else(|| jpeg(file))?;
    (size.0 > 0 && size.1 > 0).then_some(size)
}

fn png(file: &[u8]) -> Option<(u32, u32)> {
    let rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    // The length of the first chunk, then its name.
    let rest = rest.get(4..)?.strip_prefix(b"IHDR")?;
    let number =
        |at: usize| rest.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    Some((number(0)?, number(4)?))
}

fn gif(file: &[u8]) -> Option<(u32, u32)> {
    let rest = file.strip_prefix(b"GIF87a").or_else(|| file.strip_prefix(b"GIF89a"))?;
    let number =
        |at: usize| rest.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
    Some((number(0)?.into(), number(2)?.into()))
}

/// Walks the markers to the frame header; metadata before it may be long.
fn jpeg(file: &[u8]) -> Option<(u32, u32)> {
    let mut rest = file.strip_prefix(b"\xff\xd8")?;
    loop {
        let (&first, tail) = rest.split_first()?;
        if first != 0xff {
            return None;
        }
        let (&marker, tail) = tail.split_first()?;
        rest = match marker {
            // A filling byte before a marker.
            0xff => rest.get(1..)?,
            // Markers without a length.
            0x01 | 0xd0..=0xd7 => tail,
            // The picture begins, or ends, before a frame header.
            0xd8..=0xda => return None,
            _ => {
                let length = u16::from_be_bytes(tail.get(..2)?.try_into().ok()?);
                // C4, C8 and CC are tables and extensions among the frame headers.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                    let number =
                        |at: usize| tail.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
                    return Some((number(5)?.into(), number(3)?.into()));
                }
                tail.get(usize::from(length.max(2))..)?
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::generated::cases;
    use rand::Rng;

    fn png_head(width: u32, height: u32) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.extend(height.to_be_bytes());
        file
    }

    #[test]
    fn sizes() {
        assert_eq!(image_size(&png_head(640, 480)), Some((640, 480)));
        assert_eq!(image_size(&png_head(0, 480)), None);
        assert_eq!(image_size(b"GIF89a\x40\x01\xf0\0rest"), Some((320, 240)));
        // An APP0 segment of 16 bytes, a filling byte, then a progressive frame header.
        let mut jpeg = b"\xff\xd8\xff\xe0\0\x10".to_vec();
        jpeg.extend([0; 14]);
        jpeg.extend(b"\xff\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03");
        assert_eq!(image_size(&jpeg), Some((640, 480)));
        for cut in 0..jpeg.len() - 1 {
            assert_eq!(image_size(&jpeg[..cut]), None, "{cut}");
        }
        for other in [&b"RIFF\0\0\0\0WEBPVP8 "[..], b"", b"\xff\xd8\xff\xd9", b"BM"] {
            assert_eq!(image_size(other), None);
        }
    }

    #[test]
    fn noise_is_harmless() {
        let starts = [&b""[..], b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"\xff\xd8\xff", b"GIF89a"];
        cases(100_000, |rng| {
            let mut file = starts[rng.random_range(0..starts.len())].to_vec();
            let noise: [u8; 40] = rng.random();
            file.extend(&noise[..rng.random_range(0..40)]);
            assert!(image_size(&file).is_none_or(|(width, height)| width > 0 && height > 0));
        });
    }
}
