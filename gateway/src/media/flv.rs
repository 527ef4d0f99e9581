//! The audio and video messages of an RTMP publisher: FLV tags with H.264 and AAC.

use super::{aac::AacConfig, avc::AvcConfig};
use thiserror::Error;

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag<'a> {
    /// Parameter sets for the pictures that follow.
    VideoConfig(AvcConfig),
    /// A picture.
    Video {
        /// Shown so much later than decoded, in milliseconds.
        offset_ms: i32,
        /// Whether a decoder can begin here.
        key: bool,
        /// Length-prefixed NAL units.
        unit: &'a [u8],
    },
    /// How the sound that follows is coded.
    AudioConfig(AacConfig),
    /// A frame of sound.
    Audio(&'a [u8]),
    /// Nothing that matters here.
    Nothing,
}

/// A message that ends the publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadTag {
    /// Only H.264 is carried on.
    #[error("the video is not H.264: set the encoder to H.264 (AVC)")]
    VideoCodec,
    /// Only AAC is carried on.
    #[error("the sound is not AAC: set the encoder to AAC")]
    AudioCodec,
    /// A decoder configuration that cannot be read.
    #[error("a decoder configuration cannot be read")]
    Config,
}

/// Reads a video message's body.
pub fn video(body: &[u8]) -> Result<Tag<'_>, BadTag> {
    let [first, rest @ ..] = body else { return Ok(Tag::Nothing) };
    // The high bit says that a four-letter code follows, as newer encoders do for other codecs.
    if first & 0x80 != 0 || first & 0x0f != 7 {
        // 5: an empty frame that carries a command.
        return if first >> 4 == 5 { Ok(Tag::Nothing) } else { Err(BadTag::VideoCodec) };
    }
    let [kind, a, b, c, data @ ..] = rest else { return Ok(Tag::Nothing) };
    match kind {
        0 => AvcConfig::of_record(data).map(Tag::VideoConfig).ok_or(BadTag::Config),
        1 if !data.is_empty() => {
            let offset_ms = i32::from_be_bytes([*a, *b, *c, 0]) >> 8;
            Ok(Tag::Video { offset_ms, key: first >> 4 == 1, unit: data })
        }
        _ => Ok(Tag::Nothing),
    }
}

/// Reads an audio message's body.
pub fn audio(body: &[u8]) -> Result<Tag<'_>, BadTag> {
    match body {
        [] => Ok(Tag::Nothing),
        [first, ..] if first >> 4 != 10 => Err(BadTag::AudioCodec),
        [_, 0, data @ ..] if !data.is_empty() => {
            AacConfig::of_specific(data).map(Tag::AudioConfig).ok_or(BadTag::Config)
        }
        [_, 1, data @ ..] if !data.is_empty() => Ok(Tag::Audio(data)),
        _ => Ok(Tag::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::generated::*;

    #[test]
    fn tags() {
        assert_eq!(
            video(&[0x17, 1, 0xff, 0xff, 0xfe, 9]).unwrap(),
            Tag::Video { offset_ms: -2, key: true, unit: &[9] }
        );
        assert_eq!(video(&[0x27, 2, 0, 0, 0]), Ok(Tag::Nothing));
        assert_eq!(video(&[0x57, 0]), Ok(Tag::Nothing));
        assert_eq!(video(&[0x12, 0]), Err(BadTag::VideoCodec));
        assert_eq!(video(b"\x91hvc1"), Err(BadTag::VideoCodec));
        assert_eq!(video(&[0x17, 0, 0, 0, 0, 1]), Err(BadTag::Config));
        assert_eq!(audio(&[0xaf, 1, 7]), Ok(Tag::Audio(&[7])));
        assert_eq!(audio(&[0x2f, 1, 7]), Err(BadTag::AudioCodec));
        assert!(matches!(audio(&[0xaf, 0, 0x12, 0x10]), Ok(Tag::AudioConfig(_))));
    }

    #[test]
    fn whatever_the_message_is() {
        let valid = [
            0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 6, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9,
            1, 0, 4, 0x68, 0xeb, 0xe3, 0xcb,
        ];
        cases(100_000, |rng| {
            let body = damaged(rng, &valid, 3);
            let _ = video(&body);
            let _ = audio(&body);
        });
    }
}
