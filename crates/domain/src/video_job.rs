//! Which capabilities a video job asks for (orchestrator-wire.md section 5).

use crate::{
    Capability, CapabilitySet, EncoderProfile, Gop, SegmentFormat, VideoCodec, VideoProfile,
};

/// Pixel format of an H.264 input, as far as decoders differ in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PixelFormat {
    /// 4:2:0 with 8 bits: every decoder.
    #[default]
    Yuv420_8,
    /// 4:4:4 with 8 bits.
    Yuv444_8,
    /// 4:2:2 with 8 bits.
    Yuv422_8,
    /// 4:4:4 with 10 bits.
    Yuv444_10,
    /// 4:2:2 with 10 bits.
    Yuv422_10,
    /// 4:2:0 with 10 bits.
    Yuv420_10,
}

impl PixelFormat {
    /// By ffmpeg's name (`pix_fmt`); `None` is a format that no capability stands for.
    pub fn from_ffmpeg(name: &str) -> Option<Self> {
        Some(match name {
            "yuv420p" | "yuvj420p" | "nv12" | "nv21" => Self::Yuv420_8,
            "yuv444p" | "yuvj444p" => Self::Yuv444_8,
            "yuv422p" | "yuvj422p" => Self::Yuv422_8,
            "yuv444p10le" | "yuv444p10be" => Self::Yuv444_10,
            "yuv422p10le" | "yuv422p10be" => Self::Yuv422_10,
            "yuv420p10le" | "yuv420p10be" => Self::Yuv420_10,
            _ => return None,
        })
    }

    fn decode_capability(self) -> Option<Capability> {
        Some(match self {
            Self::Yuv420_8 => return None,
            Self::Yuv444_8 => Capability::H264Decode444_8,
            Self::Yuv422_8 => Capability::H264Decode422_8,
            Self::Yuv444_10 => Capability::H264Decode444_10,
            Self::Yuv422_10 => Capability::H264Decode422_10,
            Self::Yuv420_10 => Capability::H264Decode420_10,
        })
    }
}

/// Where the gateway wants results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StorageKind {
    /// In the orchestrator's memory, to be fetched.
    #[default]
    Local,
    /// A direct store.
    Direct,
    /// An S3 bucket.
    S3,
    /// A Google bucket.
    Gcs,
}

/// A video job, as far as capabilities go.
#[derive(Debug, Clone, Copy, Default)]
pub struct VideoJob<'a> {
    /// The input's codec.
    pub input_codec: VideoCodec,
    /// The input's pixel format; it matters for H.264 only.
    pub pixel_format: PixelFormat,
    /// The renditions.
    pub profiles: &'a [VideoProfile],
    /// Where results go.
    pub storage: StorageKind,
    /// Whether perceptual hashes are compared.
    pub fast_verification: bool,
    /// Whether only a part of the segment is encoded.
    pub sliced: bool,
}

impl VideoJob<'_> {
    /// The set it asks for.
    pub fn capabilities(&self) -> CapabilitySet {
        let mut set = CapabilitySet::of([Capability::AuthToken]);
        if self.fast_verification {
            set.insert(Capability::Mpeg7Signature);
        }
        if self.sliced {
            set.insert(Capability::SegmentSlicing);
        }
        set.insert(match self.input_codec {
            VideoCodec::H264 => Capability::H264,
            VideoCodec::H265 => Capability::HevcDecode,
            VideoCodec::Vp8 => Capability::Vp8Decode,
            VideoCodec::Vp9 => Capability::Vp9Decode,
        });
        if self.input_codec == VideoCodec::H264 {
            self.pixel_format.decode_capability().into_iter().for_each(|c| set.insert(c));
        }
        for profile in self.profiles {
            rendition(profile).into_iter().flatten().for_each(|c| set.insert(c));
        }
        match self.storage {
            StorageKind::Local => {}
            StorageKind::Direct => set.insert(Capability::StorageDirect),
            StorageKind::S3 => set.insert(Capability::StorageS3),
            StorageKind::Gcs => set.insert(Capability::StorageGcs),
        }
        set
    }
}

fn rendition(profile: &VideoProfile) -> [Option<Capability>; 5] {
    [
        Some(match profile.format {
            SegmentFormat::MpegTs => Capability::MpegTs,
            SegmentFormat::Mp4 => Capability::Mp4,
        }),
        Some(match profile.encoder {
            VideoCodec::H264 => Capability::H264,
            VideoCodec::H265 => Capability::HevcEncode,
            VideoCodec::Vp8 => Capability::Vp8Encode,
            VideoCodec::Vp9 => Capability::Vp9Encode,
        }),
        (profile.fps_den > 0).then_some(Capability::FractionalFramerates),
        match profile.profile {
            EncoderProfile::Default => None,
            EncoderProfile::H264Baseline => Some(Capability::H264Baseline),
            EncoderProfile::H264Main => Some(Capability::H264Main),
            EncoderProfile::H264High => Some(Capability::H264High),
            EncoderProfile::H264ConstrainedHigh => Some(Capability::H264ConstrainedHigh),
        },
        (profile.gop != Gop::Default).then_some(Capability::Gop),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(job: VideoJob<'_>) -> Vec<u32> {
        job.capabilities().numbers().collect()
    }

    #[test]
    fn plain_and_rich_jobs() {
        let plain = VideoProfile::defaults();
        assert_eq!(numbers(VideoJob { profiles: &plain, ..VideoJob::default() }), [0, 1, 12]);
        let rich = [VideoProfile {
            fps_den: 1001,
            gop: Gop::IntraOnly,
            profile: EncoderProfile::H264High,
            format: SegmentFormat::Mp4,
            encoder: VideoCodec::H265,
            ..VideoProfile::default()
        }];
        let job = VideoJob {
            input_codec: VideoCodec::H264,
            pixel_format: PixelFormat::from_ffmpeg("yuv420p10le").unwrap(),
            profiles: &rich,
            storage: StorageKind::S3,
            fast_verification: true,
            sliced: true,
        };
        assert_eq!(numbers(job), [0, 2, 3, 5, 9, 11, 12, 14, 16, 25, 26]);
        let vp9 =
            VideoJob { input_codec: VideoCodec::Vp9, pixel_format: PixelFormat::Yuv444_8, ..job };
        assert!(!numbers(vp9).contains(&21));
        assert_eq!(PixelFormat::from_ffmpeg("gray"), None);
    }
}
