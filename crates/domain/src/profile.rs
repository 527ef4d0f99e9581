//! A rendition to be made of a segment, and the named presets (video-transcode-worker.md section 6).

use core::fmt;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Container of a rendition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentFormat {
    /// MPEG transport stream, file ending `ts`.
    #[default]
    MpegTs,
    /// MP4, file ending `mp4`.
    Mp4,
}

impl SegmentFormat {
    /// File ending without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::MpegTs => "ts",
            Self::Mp4 => "mp4",
        }
    }

    /// Media type of a rendition.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::MpegTs => "video/mp2t",
            Self::Mp4 => "video/mp4",
        }
    }
}

/// H.264 profile the encoder is told to keep to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderProfile {
    /// The encoder's own choice.
    #[default]
    Default,
    /// Baseline.
    H264Baseline,
    /// Main.
    H264Main,
    /// High.
    H264High,
    /// Constrained (contained) high.
    H264ConstrainedHigh,
}

/// Codec of an input or of a rendition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// H.264.
    #[default]
    H264,
    /// H.265, HEVC.
    H265,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
}

/// Chroma subsampling. Sent, but receivers do not read it back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChromaFormat {
    /// 4:2:0.
    #[default]
    Yuv420,
    /// 4:2:2.
    Yuv422,
    /// 4:4:4.
    Yuv444,
}

/// Distance of keyframes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gop {
    /// The encoder's own choice.
    #[default]
    Default,
    /// Every frame is a keyframe.
    IntraOnly,
    /// So many milliseconds, at least 1.
    Millis(u32),
}

/// Why something is not a rendition that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadProfile {
    /// Not usable as a path element and a label.
    #[error(
        "invalid video profile: name must be 1 to 128 characters without control characters or slashes"
    )]
    Name,
    /// Sizes are 1 to [`VideoProfile::MAX_SIDE`].
    #[error("invalid video profile: width and height must be 1 to 16384")]
    Size,
    /// Bits per second, at least 1 unless a quality is given.
    #[error("invalid video profile: bitrate must be 1 to 2000000000")]
    Bitrate,
    /// More than 1000 frames a second, or numbers beyond reason.
    #[error("invalid video profile: frame rate must be at most 1000")]
    Framerate,
    /// Longer than an hour.
    #[error("invalid video profile: GOP must be at most 3600 seconds")]
    Gop,
    /// Quality is at most 63, colour depth at most 16.
    #[error("invalid video profile: quality must be at most 63 and colour depth at most 16")]
    Quality,
}

/// One rendition. A value that went through [`Self::checked`] has a name that is safe as a path
/// element, a size that exists, and a frame rate that an encoder can take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VideoProfile {
    /// Label; it is part of the signed credential.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Bits per second.
    pub bitrate_bps: u32,
    /// Frame rate numerator; 0 passes the input's through.
    pub fps: u32,
    /// Frame rate denominator; 0 is 1.
    pub fps_den: u32,
    /// Container.
    pub format: SegmentFormat,
    /// H.264 profile.
    pub profile: EncoderProfile,
    /// Keyframe distance.
    pub gop: Gop,
    /// Codec.
    pub encoder: VideoCodec,
    /// Bits per sample; 0 is unsaid.
    pub color_depth: u32,
    /// Chroma subsampling.
    pub chroma: ChromaFormat,
    /// Constant quality; the bitrate is then the maximum. 0 is unset.
    pub quality: u32,
}

impl VideoProfile {
    /// Longest side of a picture.
    pub const MAX_SIDE: u32 = 16_384;

    /// `self` if every number and the name are within bounds.
    pub fn checked(self) -> Result<Self, BadProfile> {
        let name_ok = (1..=128).contains(&self.name.len())
            && !matches!(self.name.as_str(), "." | "..")
            && !self.name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'));
        if !name_ok {
            return Err(BadProfile::Name);
        }
        let side = 1..=Self::MAX_SIDE;
        if !side.contains(&self.width) || !side.contains(&self.height) {
            return Err(BadProfile::Size);
        }
        if self.bitrate_bps > 2_000_000_000 || (self.bitrate_bps == 0 && self.quality == 0) {
            return Err(BadProfile::Bitrate);
        }
        let (fps, den) = (u64::from(self.fps), u64::from(self.fps_den.max(1)));
        if fps > 1000 * den || self.fps > 10_000_000 || self.fps_den > 10_000_000 {
            return Err(BadProfile::Framerate);
        }
        if matches!(self.gop, Gop::Millis(ms) if !(1..=3_600_000).contains(&ms)) {
            return Err(BadProfile::Gop);
        }
        if self.quality > 63 || self.color_depth > 16 {
            return Err(BadProfile::Quality);
        }
        Ok(self)
    }

    /// `{width}x{height}_{bitrate}`: what default names are made of.
    pub fn default_name(
        width: impl fmt::Display,
        height: impl fmt::Display,
        bitrate: impl fmt::Display,
    ) -> String {
        format!("{width}x{height}_{bitrate}")
    }

    /// Frames per second as `(numerator, denominator)`; `None` passes the input's through.
    pub fn framerate(&self) -> Option<(u32, u32)> {
        (self.fps > 0).then(|| (self.fps, self.fps_den.max(1)))
    }

    /// A preset by name; unknown names are `None` (the reference skips them silently).
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.iter().find(|p| p.0 == name).map(|&(name, width, height, fps, kbps)| Self {
            name: name.to_owned(),
            width,
            height,
            fps,
            bitrate_bps: kbps * 1000,
            ..Self::default()
        })
    }

    /// The renditions made when nothing else is asked for.
    pub fn defaults() -> Vec<Self> {
        ["P240p30fps4x3", "P360p30fps16x9"].into_iter().filter_map(Self::preset).collect()
    }

    /// Names of all presets.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|p| p.0)
    }
}

/// Name, width, height, frames per second, kbit per second.
const PRESETS: [(&str, u32, u32, u32, u32); 13] = [
    ("P720p60fps16x9", 1280, 720, 60, 6000),
    ("P720p30fps16x9", 1280, 720, 30, 4000),
    ("P720p25fps16x9", 1280, 720, 25, 3500),
    ("P720p30fps4x3", 960, 720, 30, 3500),
    ("P576p30fps16x9", 1024, 576, 30, 1500),
    ("P576p25fps16x9", 1024, 576, 25, 1500),
    ("P360p30fps16x9", 640, 360, 30, 1200),
    ("P360p25fps16x9", 640, 360, 25, 1000),
    ("P360p30fps4x3", 480, 360, 30, 1000),
    ("P240p30fps16x9", 426, 240, 30, 600),
    ("P240p25fps16x9", 426, 240, 25, 600),
    ("P240p30fps4x3", 320, 240, 30, 600),
    ("P144p30fps16x9", 256, 144, 30, 400),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        for name in VideoProfile::preset_names() {
            let p = VideoProfile::preset(name).unwrap();
            assert_eq!(p.clone().checked(), Ok(p));
        }
        assert_eq!(VideoProfile::preset("P144p25fps16x9"), None);
        let d = VideoProfile::defaults();
        assert_eq!((d[0].width, d[1].bitrate_bps), (320, 1_200_000));
    }

    #[test]
    fn bounds() {
        let good = VideoProfile::defaults().remove(0);
        let bad = |change: fn(&mut VideoProfile)| {
            let mut p = good.clone();
            change(&mut p);
            p.checked().unwrap_err()
        };
        for change in [
            |p: &mut VideoProfile| p.name = "../x".into(),
            |p: &mut VideoProfile| p.name = "..".into(),
            |p: &mut VideoProfile| p.name = String::new(),
            |p: &mut VideoProfile| p.name = "a\nb".into(),
        ] {
            assert_eq!(bad(change), BadProfile::Name);
        }
        assert_eq!(bad(|p| p.width = 0), BadProfile::Size);
        assert_eq!(bad(|p| p.height = 16_385), BadProfile::Size);
        assert_eq!(bad(|p| p.bitrate_bps = 0), BadProfile::Bitrate);
        assert_eq!(bad(|p| p.fps = 1001), BadProfile::Framerate);
        assert_eq!(bad(|p| p.gop = Gop::Millis(0)), BadProfile::Gop);
        assert_eq!(bad(|p| p.quality = 64), BadProfile::Quality);
        let ntsc = VideoProfile { fps: 30_000, fps_den: 1001, ..good.clone() }.checked().unwrap();
        assert_eq!(ntsc.framerate(), Some((30_000, 1001)));
        assert_eq!(VideoProfile { fps: 0, ..good }.framerate(), None);
    }
}
