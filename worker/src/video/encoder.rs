//! Which encoder of ffmpeg makes a codec on which hardware.

use penstock_domain::VideoCodec;

/// Where a segment is decoded and encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accel {
    /// On the processor.
    Software,
    /// On the NVIDIA card with this index.
    Nvidia(u32),
}

/// ffmpeg's encoder for a codec, if we use one.
pub fn encoder_name(codec: VideoCodec, accel: Accel) -> Option<&'static str> {
    match (codec, accel) {
        (VideoCodec::H264, Accel::Software) => Some("libx264"),
        (VideoCodec::H265, Accel::Software) => Some("libx265"),
        (VideoCodec::H264, Accel::Nvidia(_)) => Some("h264_nvenc"),
        (VideoCodec::H265, Accel::Nvidia(_)) => Some("hevc_nvenc"),
        // Neither fits into an MPEG-TS segment; nothing asks for them.
        (VideoCodec::Vp8 | VideoCodec::Vp9, _) => None,
    }
}
